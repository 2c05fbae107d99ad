/*
 * made_frame.h: UDP frames of any number of connections, made when they are needed.
 *
 * A connection is a number. Its client is one of 2^`bits` addresses from `first` on, in an order without neighbours,
 * its server one of the 4,096 of policy.py, its port at the server 443.
 */
#ifndef DP_BENCH_MADE_FRAME_H
#define DP_BENCH_MADE_FRAME_H

#include "frame_bytes.h"

#include <string.h>

enum { MADE_FRAME_MAX = 1536, MADE_ETHERNET = 14 };
enum { MADE_SERVERS = 0xac100000, MADE_SERVER_PORT = 443, MADE_FIRST_PORT = 1024 };

struct made_clients {
    uint32_t first;
    uint32_t bits;
};

/* A frame of `size` bytes, of 60 at least, from the client of a connection or back; what it carries is zeros. */
static inline void dp_made_frame(const struct made_clients *clients, uint8_t *frame, uint32_t size, uint64_t connection,
                                 int back)
{
    uint64_t mask = (1ull << clients->bits) - 1;
    uint32_t client = clients->first + (uint32_t)(connection * 2654435761u & mask);
    uint32_t port = MADE_FIRST_PORT + (uint32_t)((connection >> clients->bits) % 60000);
    uint32_t server = MADE_SERVERS | (uint32_t)(connection * 0x9e3779b97f4a7c15ull >> 52),
             carried = size - MADE_ETHERNET;
    uint8_t *ip = frame + MADE_ETHERNET, *udp = ip + 20;

    memset(ip, 0, 28);
    put16(frame + 12, 0x0800);
    ip[0] = 0x45;
    put16(ip + 2, carried);
    ip[8] = 64;
    ip[9] = 17;
    put32(ip + 12, back ? server : client);
    put32(ip + 16, back ? client : server);
    put16(ip + 10, checksum(sum16(ip, 20, 0)));
    put16(udp, back ? MADE_SERVER_PORT : port);
    put16(udp + 2, back ? port : MADE_SERVER_PORT);
    put16(udp + 4, carried - 20);
    put16(udp + 6, checksum(sum16(udp, 6, sum16(ip + 12, 8, 17 + carried - 20))));
}

#endif
