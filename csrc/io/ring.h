/*
 * ring.h: a queue of items between two threads, one that puts and one that takes.
 *
 * Items are runs of bytes that begin with their own size (uint32_t, a multiple of 8, the whole item). They lie in one
 * block of memory that is used round and round; a full ring takes no more, and whoever puts counts what it lost.
 *
 * GUARANTEES. 1. An item is seen whole or not at all. 2. Neither side ever waits. 3. Nothing is allocated after
 * dp_ring_init.
 */
#ifndef DP_IO_RING_H
#define DP_IO_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dp_ring {
    uint8_t *bytes;
    uint64_t size;                       /* a power of two */
    _Alignas(64) _Atomic uint64_t put;   /* bytes ever put */
    _Alignas(64) _Atomic uint64_t taken; /* bytes ever taken */
};

/* `size` is a power of two. 0, or DP_E_MEMORY. */
int dp_ring_init(struct dp_ring *ring, uint64_t size);
void dp_ring_release(struct dp_ring *ring);

/* How long an item is that has so much in it. */
static inline uint32_t dp_ring_item_size(uint32_t head_size, uint32_t tail_size)
{
    return (head_size + tail_size + 7) & ~7u;
}

/* Puts head and tail as one item, filled up to a multiple of 8; head's first word is set. False when it is full. */
bool dp_ring_put(struct dp_ring *ring, void *head, uint32_t head_size, const void *tail, uint32_t tail_size);
/* The size of the next item, 0 when there is none. */
uint32_t dp_ring_next(const struct dp_ring *ring);
/* Takes the next item, which must be there, into `out`. */
void dp_ring_take(struct dp_ring *ring, void *out, uint32_t size);

#endif
