/* ring.c: ring.h in code. */
#include "ring.h"

#include "../dp_live.h"
#include "../memory.h"

#include <string.h>

int dp_ring_init(struct dp_ring *ring, uint64_t size)
{
    ring->bytes = dp_reserve(size);
    ring->size = size;
    atomic_init(&ring->put, 0);
    atomic_init(&ring->taken, 0);
    return ring->bytes ? 0 : DP_E_MEMORY;
}

void dp_ring_release(struct dp_ring *ring)
{
    dp_unreserve(ring->bytes, ring->size);
    ring->bytes = NULL;
}

static void copy_in(struct dp_ring *ring, uint64_t at, const void *from, uint64_t n)
{
    uint64_t offset = at & (ring->size - 1), first = ring->size - offset;

    if (first > n)
        first = n;
    memcpy(ring->bytes + offset, from, first);
    memcpy(ring->bytes, (const uint8_t *)from + first, n - first);
}

static void copy_out(const struct dp_ring *ring, uint64_t at, void *to, uint64_t n)
{
    uint64_t offset = at & (ring->size - 1), first = ring->size - offset;

    if (first > n)
        first = n;
    memcpy(to, ring->bytes + offset, first);
    memcpy((uint8_t *)to + first, ring->bytes, n - first);
}

bool dp_ring_put(struct dp_ring *ring, void *head, uint32_t head_size, const void *tail, uint32_t tail_size)
{
    uint64_t put = atomic_load_explicit(&ring->put, memory_order_relaxed);
    uint64_t used = put - atomic_load_explicit(&ring->taken, memory_order_acquire);
    uint32_t size = dp_ring_item_size(head_size, tail_size);

    if (size > ring->size - used)
        return false;
    memcpy(head, &size, sizeof size);
    copy_in(ring, put, head, head_size);
    if (tail_size)
        copy_in(ring, put + head_size, tail, tail_size);
    atomic_store_explicit(&ring->put, put + size, memory_order_release);
    return true;
}

uint32_t dp_ring_next(const struct dp_ring *ring)
{
    uint64_t taken = atomic_load_explicit(&ring->taken, memory_order_relaxed);
    uint32_t size;

    if (atomic_load_explicit(&ring->put, memory_order_acquire) == taken)
        return 0;
    copy_out(ring, taken, &size, sizeof size);
    return size;
}

void dp_ring_take(struct dp_ring *ring, void *out, uint32_t size)
{
    uint64_t taken = atomic_load_explicit(&ring->taken, memory_order_relaxed);

    copy_out(ring, taken, out, size);
    atomic_store_explicit(&ring->taken, taken + size, memory_order_release);
}
