/* inbox.c: inbox.h in code. */
#include "inbox.h"

#include "../memory.h"

int dp_inbox_init(struct dp_inbox *inbox, uint64_t size)
{
    inbox->all_put = 0;
    atomic_init(&inbox->all_taken, 0);
    inbox->put = dp_reserve(DP_PORTS_MAX * sizeof *inbox->put);
    inbox->taken = dp_reserve(DP_PORTS_MAX * sizeof *inbox->taken);
    return inbox->put && inbox->taken ? dp_ring_init(&inbox->ring, size) : DP_E_MEMORY;
}

void dp_inbox_release(struct dp_inbox *inbox)
{
    dp_ring_release(&inbox->ring);
    dp_unreserve(inbox->put, DP_PORTS_MAX * sizeof *inbox->put);
    dp_unreserve((void *)inbox->taken, DP_PORTS_MAX * sizeof *inbox->taken);
    inbox->put = NULL;
    inbox->taken = NULL;
}

static uint64_t counts_as(uint32_t times, uint32_t size)
{
    return (uint64_t)times * (size < DP_INBOX_LEAST ? (uint32_t)DP_INBOX_LEAST : size);
}

bool dp_inbox_put(struct dp_inbox *inbox, uint32_t port, uint32_t times, void *head, uint32_t head_size,
                  const void *tail, uint32_t tail_size)
{
    uint64_t used = inbox->all_put - atomic_load_explicit(&inbox->all_taken, memory_order_relaxed);
    uint64_t has = inbox->put[port] - atomic_load_explicit(&inbox->taken[port], memory_order_relaxed);
    uint64_t more = counts_as(times, dp_ring_item_size(head_size, tail_size));

    if (used + has + more > inbox->ring.size || !dp_ring_put(&inbox->ring, head, head_size, tail, tail_size))
        return false;
    inbox->all_put += more;
    inbox->put[port] += more;
    return true;
}

static void add(_Atomic uint64_t *to, uint64_t n)
{
    atomic_store_explicit(to, atomic_load_explicit(to, memory_order_relaxed) + n, memory_order_relaxed);
}

void dp_inbox_count(struct dp_inbox *inbox, uint32_t port, uint32_t times, uint32_t size)
{
    add(&inbox->all_taken, counts_as(times, size));
    add(&inbox->taken[port], counts_as(times, size));
}
