/*
 * made_loop.c: the loop around the engine that bench/scale.py times: UDP packets of any number of connections, made a
 * batch at a time beside the clock, so that no capture has to hold them.
 *
 * Frames are in the nearest cache when they are judged, as those of a burst are that was just received.
 */
#include "dp_plane.h"
#include "made_frame.h"

#include <time.h>

typedef int process(struct dp_engine *, const struct dp_frame *, uint32_t, struct dp_record *, struct dp_flow *);

enum { BATCH = 64 };

struct made {
    process *judge;
    struct dp_engine *engine;
    struct made_clients clients;
    uint32_t size; /* of a frame, in bytes; 60 at least */
    uint32_t unused;
    uint64_t time_ns; /* of the next packet; one follows another after 100 ns */
    uint64_t random;
    uint64_t allowed; /* packets so far */
};

double made_open(struct made *made, uint64_t first, uint64_t n);
double made_known(struct made *made, uint64_t connections, uint64_t packets);

/* Processor time: what another program takes meanwhile is not counted. */
static uint64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* xorshift64 (Marsaglia 2003). */
static uint64_t chance(struct made *made)
{
    made->random ^= made->random << 13;
    made->random ^= made->random >> 7;
    return made->random ^= made->random << 17;
}

struct batch {
    uint8_t bytes[BATCH][MADE_FRAME_MAX];
    struct dp_frame frames[BATCH];
    struct dp_record records[BATCH];
    uint32_t n;
};

static void add(struct made *made, struct batch *b, uint64_t connection, int back)
{
    dp_made_frame(&made->clients, b->bytes[b->n], made->size, connection, back);
    b->frames[b->n] = (struct dp_frame){.time_ns = made->time_ns,
                                        .data = b->bytes[b->n],
                                        .captured = made->size,
                                        .length = made->size,
                                        .link = DP_LINK_ETHERNET};
    made->time_ns += 100;
    b->n++;
}

/* Nanoseconds that the batch takes, which is empty afterwards. */
static uint64_t judged(struct made *made, struct batch *b)
{
    uint64_t began = now();
    int error = made->judge(made->engine, b->frames, b->n, b->records, NULL);
    uint64_t took = now() - began;

    for (uint32_t i = 0; i < b->n && error >= 0; i++)
        made->allowed += b->records[i].verdict == DP_ALLOW;
    b->n = 0;
    return took;
}

/* Nanoseconds a packet for the first packets of connections `first` .. `first` + n - 1. */
double made_open(struct made *made, uint64_t first, uint64_t n)
{
    static struct batch b;
    uint64_t took = 0;

    for (uint64_t i = 0; i < n; i++) {
        add(made, &b, first + i, 0);
        if (b.n == BATCH || i + 1 == n)
            took += judged(made, &b);
    }
    return (double)took / (double)n;
}

/* The same for packets of any of the connections below `connections`, each as likely as the next, both ways. */
double made_known(struct made *made, uint64_t connections, uint64_t packets)
{
    static struct batch b;
    uint64_t took = 0;

    for (uint64_t i = 0; i < packets; i++) {
        uint64_t picked = chance(made);

        add(made, &b, (picked >> 1) % connections, picked & 1);
        if (b.n == BATCH || i + 1 == packets)
            took += judged(made, &b);
    }
    return (double)took / (double)packets;
}
