/*
 * held_buffers.h: buffers of captures whose frames are still being judged while more is read.
 *
 * Whoever hands out frames counts them in `handed`, and in `back` those that nobody looks at any more, in the same
 * order. A source (source.h) that is to be refilled meanwhile puts its buffer aside here and goes on with another one.
 *
 *   ownership  What is put aside is owned here until it is taken; all of it is freed by dp_held_release().
 *   bound      As many as were filled for the frames that are handed out, and FREE besides.
 */
#ifndef DP_IO_HELD_BUFFERS_H
#define DP_IO_HELD_BUFFERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dp_held_buffer {
    uint8_t *bytes;
    size_t capacity;
    uint32_t thread; /* that has filled it */
    uint64_t until;  /* nobody looks at it when so many frames are back */
};

/* All zeros: nothing. */
struct dp_held_buffers {
    uint64_t handed;
    uint64_t back;
    uint32_t thread; /* that reads now: it takes what it has filled before, which its cache has */
    struct dp_held_buffer *buffer;
    uint32_t n;
    uint32_t room;
};

/* Puts a buffer aside that this thread has filled; false, and it stays the caller's, without memory. */
bool dp_held_put(struct dp_held_buffers *held, uint8_t *bytes, size_t capacity, uint32_t thread);
/* One that nobody looks at, of `size` bytes at least, which the caller frees; NULL where there is none. */
uint8_t *dp_held_take(struct dp_held_buffers *held, size_t size, size_t *capacity);
void dp_held_release(struct dp_held_buffers *held);

#endif
