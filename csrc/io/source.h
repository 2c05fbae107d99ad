/*
 * source.h: the bytes of a capture, from a mapped file, a memory block or a stream.
 *
 *   ownership  A source owns its mapping or its buffer; the descriptor and a memory block stay the caller's and must
 *              outlive it. `at` belongs to the reader, who moves it forward up to `end`; everything else is changed
 *              by the functions here alone.
 *   lifetime   Bytes that were at hand stay where they are until the next dp_source_more(). A mapped file or a memory
 *              block never moves.
 *   units      Offsets are bytes from the first byte of the capture.
 *   errors     dp_source_more() returns a negative enum dp_error; errno tells more for DP_E_IO.
 */
#ifndef DP_IO_SOURCE_H
#define DP_IO_SOURCE_H

#include <stddef.h>
#include <stdint.h>

enum dp_source_kind { DP_SOURCE_MEMORY, DP_SOURCE_MAPPED, DP_SOURCE_STREAM };

struct dp_source {
    const uint8_t *at;
    const uint8_t *end;
    const uint8_t *base;
    uint64_t base_offset;
    size_t released;
    uint8_t *buffer;
    size_t capacity;
    enum dp_source_kind kind;
    int fd;
};

/* Maps a regular file from its first byte; anything else becomes a stream, read from where it stands. */
void dp_source_open(struct dp_source *source, int fd);
void dp_source_open_memory(struct dp_source *source, const uint8_t *data, size_t size);
void dp_source_close(struct dp_source *source);

/*
 * Brings at least `need` bytes to hand, counted from `at`; may move those that are there. Blocks on a stream.
 * Returns 1 when they are, 0 when the bytes end before that, DP_E_MEMORY or DP_E_IO.
 */
int dp_source_more(struct dp_source *source, size_t need);

/* Gives memory of a mapped file that lies well behind `at` back to the system. */
void dp_source_release(struct dp_source *source);

/* Size of a file or block; 0 when it is not known. */
uint64_t dp_source_size(const struct dp_source *source);

static inline size_t dp_source_left(const struct dp_source *source)
{
    return (size_t)(source->end - source->at);
}

static inline uint64_t dp_source_offset(const struct dp_source *source, const uint8_t *place)
{
    return source->base_offset + (uint64_t)(place - source->base);
}

#endif
