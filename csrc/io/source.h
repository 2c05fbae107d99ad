/*
 * source.h: the bytes of a capture: of a file, of a memory block, or fed piece by piece.
 *
 *   ownership  A source owns its buffer and its copy of a path; a descriptor and a memory block stay the caller's and
 *              must outlive it. `at` belongs to the reader, who moves it forward up to `end`; everything else is
 *              changed by the functions here alone.
 *   lifetime   Bytes that were at hand stay where they are until the next dp_source_more() or dp_source_feed(); with
 *              `held`, for as long as frames among them are handed out. A memory block never moves.
 *   units      Offsets are bytes from the first byte of the capture.
 *   errors     A negative enum dp_error; errno tells more for DP_E_IO: ESTALE that another file has taken the name.
 */
#ifndef DP_IO_SOURCE_H
#define DP_IO_SOURCE_H

#include "held_buffers.h"

#include <sys/stat.h>

enum dp_source_kind { DP_SOURCE_MEMORY, DP_SOURCE_FILE, DP_SOURCE_FED };

enum {
    /* The most that is read from a file at once, and the least. */
    DP_SOURCE_WINDOW = 256 * 1024,
    DP_SOURCE_WINDOW_MIN = 16 * 1024,
    /* What dp_source_more() says when it wants to be fed. */
    DP_SOURCE_STARVED = 2,
    /* How much of a file's beginning is kept, to see whether it is still the same file at its end. */
    DP_SOURCE_BEGINNING = 1024
};

struct dp_source {
    const uint8_t *at;
    const uint8_t *end;
    const uint8_t *base;
    uint64_t base_offset;
    uint8_t *buffer;
    size_t capacity;
    size_t window;
    /* Whose frames are handed out, NULL where none outlive the next refill; how many were when the buffer was begun. */
    struct dp_held_buffers *held;
    uint64_t begun;
    uint32_t begun_by; /* the thread */
    enum dp_source_kind kind;
    /* A fed one: nothing comes any more; it can be fed from its first byte again. */
    bool ended;
    bool repeatable;
    /* A file: its descriptor, or -1 and its path; what it was when it was opened, and how it began. */
    int fd;
    char *path;
    struct stat about;
    size_t beginning_size;
    uint8_t beginning[DP_SOURCE_BEGINNING];
};

/*
 * A regular file, read from its first byte on. With a path it is opened anew for each reading, and `fd` is looked at
 * only here. 0 or DP_E_MEMORY.
 */
int dp_source_open(struct dp_source *source, int fd, const char *path);
void dp_source_open_memory(struct dp_source *source, const uint8_t *data, size_t size);
/* A source that dp_source_feed() fills. */
void dp_source_open_fed(struct dp_source *source, bool repeatable);
void dp_source_close(struct dp_source *source);

/*
 * Brings at least `need` bytes to hand, counted from `at`; may move those that are there. Returns 1 when they are, 0
 * when the bytes end before that, DP_SOURCE_STARVED when it has to be fed first, DP_E_MEMORY or DP_E_IO.
 */
int dp_source_more(struct dp_source *source, size_t need);

/* Appends bytes to a source that is fed; none say that no more come. 0 or DP_E_MEMORY. */
int dp_source_feed(struct dp_source *source, const uint8_t *data, size_t size);

/* Gives the buffer back; offsets stay. There must be nothing that is still looked at. */
void dp_source_drop(struct dp_source *source);

/* Back to the first byte, whose buffer is given back too; false where that cannot be had again. */
bool dp_source_rewind(struct dp_source *source);

/* What was done to a file since it was opened that makes what was read doubtful, in words; NULL for nothing. */
const char *dp_source_changed(const struct dp_source *source);

/* Size of a file or block; 0 when it is not known. */
uint64_t dp_source_size(const struct dp_source *source);

static inline size_t dp_source_left(const struct dp_source *source)
{
    return source->at ? (size_t)(source->end - source->at) : 0;
}

static inline uint64_t dp_source_offset(const struct dp_source *source, const uint8_t *place)
{
    return source->base_offset + (place ? (uint64_t)(place - source->base) : 0);
}

#endif
