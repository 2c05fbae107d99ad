/*
 * inbox.h: the frames that one worker has received and another one judges, in a ring that ports share.
 *
 * FAIRNESS. A port may have as much here as is free: alone it takes half of the ring, and of several that want more
 * than there is room for each gets as much as the others. So a port that has little is never refused because another
 * one floods: there is always room for as much as the largest has.
 *
 * DELAY. A frame counts as 2 KB at least. So a flood of small ones has no more than a thousand here, as in the queue
 * of a TAP: what others send waits behind a thousand and not behind ten thousands. One that takes longer to judge than
 * others counts as several: what is for everybody, where that are many.
 *
 * WHO MAY DO WHAT. One thread puts, and what it has put is its own; one takes, and what it has taken is written by it
 * alone. Between a take and its count there is less room than there should be, never more.
 */
#ifndef DP_IO_INBOX_H
#define DP_IO_INBOX_H

#include "../dp_live.h"
#include "ring.h"

enum { DP_INBOX_LEAST = 2048 };

struct dp_inbox {
    struct dp_ring ring;
    uint64_t all_put; /* ever put, each frame with what it counts; then by port */
    uint64_t *put;
    _Alignas(64) _Atomic uint64_t all_taken;
    _Atomic uint64_t *taken;
};

/* `size` is a power of two. 0, or DP_E_MEMORY: release it then, too. */
int dp_inbox_init(struct dp_inbox *inbox, uint64_t size);
void dp_inbox_release(struct dp_inbox *inbox);

/* As dp_ring_put, of a port, and counted as `times` frames. False when it is full, or this port has its share. */
bool dp_inbox_put(struct dp_inbox *inbox, uint32_t port, uint32_t times, void *head, uint32_t head_size,
                  const void *tail, uint32_t tail_size);
/* Behind dp_ring_take: what was taken, which is so long, had come by this port, and was counted so many times. */
void dp_inbox_count(struct dp_inbox *inbox, uint32_t port, uint32_t times, uint32_t size);

#endif
