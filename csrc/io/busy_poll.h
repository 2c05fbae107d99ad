/*
 * busy_poll.h: how a worker waits for its descriptors: awake for a moment (BUSY POLLING), then asleep.
 *
 * To wake a thread takes longer than to judge a frame, and in a conversation of two programs every frame finds the
 * worker asleep. Looking for a while before it sleeps spares that; what it costs others is bounded:
 *
 * - Only while there is little to do. Who moves much finds frames anyway, and needs the processor's time elsewhere.
 * - Looking in vain makes it rarer: after n times in a row it is left out until 2^n waits have brought something.
 */
#ifndef DP_IO_BUSY_POLL_H
#define DP_IO_BUSY_POLL_H

#include "../dp_live.h"

struct epoll_event;

/* Waits that bring no more bytes than that are quiet; after so many of them in a row there is little to do. */
enum { DP_WAIT_QUIET_BYTES = 16 * 1024, DP_WAIT_QUIET = 16 };
/* Times in vain that still make it rarer. */
enum { DP_WAIT_IN_VAIN_MAX = 10 };

/* All zero: never awake. */
struct dp_wait {
    uint32_t busy_poll_ns; /* how long to look before sleeping; 0: not at all */
    uint32_t quiet;        /* quiet waits in a row, DP_WAIT_QUIET at most */
    uint32_t in_vain;      /* times in a row that looking found nothing */
    uint32_t left_out;     /* waits that have to bring something before it looks again */
};

/*
 * Waits for at most n events of an epoll descriptor, `milliseconds` at most when asleep. `bytes` is what the events of
 * the last wait brought. Counts busy polls. Returns what epoll_wait returns.
 */
int dp_wait(struct dp_wait *wait, int epoll, struct epoll_event *event, int n, int milliseconds, uint64_t bytes,
            struct dp_worker_counters *counters);

#endif
