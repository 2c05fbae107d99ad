/*
 * made_loop.c: the loop around the engine that bench/scale.py times: UDP packets of any number of connections, made a
 * batch at a time beside the clock, so that no capture has to hold them.
 *
 * A connection is a number. Its client is one of 2^`client_bits` addresses from `clients` on, in an order without
 * neighbours, its server one of the 4,096 of policy.py, its port at the server 443. Frames are in the nearest cache
 * when they are judged, as those of a burst are that was just received.
 */
#include "dp_api.h"

#include <string.h>
#include <time.h>

typedef int process(struct dp_engine *, const struct dp_frame *, uint32_t, struct dp_record *, struct dp_flow *);

enum { BATCH = 64, FRAME_MAX = 1536, ETHERNET = 14, SERVERS = 0xac100000, SERVER_PORT = 443, FIRST_PORT = 1024 };

struct made {
    process *judge;
    struct dp_engine *engine;
    uint32_t clients;
    uint32_t client_bits;
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

static void put16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v)
{
    put16(p, v >> 16);
    put16(p + 2, v);
}

static uint32_t sum16(const uint8_t *p, uint32_t n, uint32_t sum)
{
    for (; n > 1; n -= 2, p += 2)
        sum += (uint32_t)p[0] << 8 | p[1];
    return n ? sum + ((uint32_t)p[0] << 8) : sum;
}

static uint32_t checksum(uint32_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return ~sum & 0xffff;
}

/* xorshift64 (Marsaglia 2003). */
static uint64_t chance(struct made *made)
{
    made->random ^= made->random << 13;
    made->random ^= made->random >> 7;
    return made->random ^= made->random << 17;
}

/* A frame of a connection, from its client or back; what it carries is zeros. */
static void make(const struct made *made, uint8_t *frame, uint64_t connection, int back)
{
    uint64_t mask = (1ull << made->client_bits) - 1;
    uint32_t client = made->clients + (uint32_t)(connection * 2654435761u & mask);
    uint32_t port = FIRST_PORT + (uint32_t)((connection >> made->client_bits) % 60000);
    uint32_t server = SERVERS | (uint32_t)(connection * 0x9e3779b97f4a7c15ull >> 52), carried = made->size - ETHERNET;
    uint8_t *ip = frame + ETHERNET, *udp = ip + 20;

    memset(ip, 0, 28);
    put16(frame + 12, 0x0800);
    ip[0] = 0x45;
    put16(ip + 2, carried);
    ip[8] = 64;
    ip[9] = 17;
    put32(ip + 12, back ? server : client);
    put32(ip + 16, back ? client : server);
    put16(ip + 10, checksum(sum16(ip, 20, 0)));
    put16(udp, back ? SERVER_PORT : port);
    put16(udp + 2, back ? port : SERVER_PORT);
    put16(udp + 4, carried - 20);
    put16(udp + 6, checksum(sum16(udp, 6, sum16(ip + 12, 8, 17 + carried - 20))));
}

struct batch {
    uint8_t bytes[BATCH][FRAME_MAX];
    struct dp_frame frames[BATCH];
    struct dp_record records[BATCH];
    uint32_t n;
};

static void add(struct made *made, struct batch *b, uint64_t connection, int back)
{
    make(made, b->bytes[b->n], connection, back);
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
