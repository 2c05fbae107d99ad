/*
 * test_fast_path_connections.c: single connections by the fast path and by the long way, which come to the same
 * (fast_path.h): what the flow cache knows of them, and segments at the edges of their window.
 */
#include "../../bench/frame_bytes.h"
#include "chance.h"
#include "check.h"
#include "tcp_window.h"
#include "two_ways.h"

/* Whose are the first two of the hosts; the third is nobody's. */
static const struct dp_holding holdings[] = {{{{10, 0, 0, 1}, 32}, 4, 0, 0}, {{{10, 0, 0, 2}, 32}, 4, 1, 0}};
static const uint8_t hosts[][4] = {{10, 0, 0, 1}, {10, 0, 0, 2}, {192, 0, 2, 1}};

/* ---- the flow cache ---- */

enum { UDP_FRAME = 14 + 20 + 20 };

/* UDP from one host to another, port 40000 to 53 or back. */
static struct dp_frame udp(uint8_t *bytes, uint8_t from, uint8_t to, uint64_t now)
{
    static const uint8_t headers[] = {[12] = 8, 0, 0x45, [17] = UDP_FRAME - 14, [22] = 64, DP_PROTO_UDP};

    memset(bytes, 0, UDP_FRAME);
    memcpy(bytes, headers, sizeof headers);
    memcpy(bytes + 26, hosts[from], 4);
    memcpy(bytes + 30, hosts[to], 4);
    put16(bytes + 34, from > to ? 40000 : 53);
    put16(bytes + 36, from > to ? 53 : 40000);
    put16(bytes + 38, UDP_FRAME - 34);
    return (struct dp_frame){.time_ns = now, .data = bytes, .captured = UDP_FRAME, .length = UDP_FRAME};
}

/* Host 1 asks host 0 so many times, which answers each time. */
static bool asks(struct two_ways *w, int times)
{
    uint8_t bytes[2][UDP_FRAME];
    bool alike = true;

    for (int i = 0; i < times; i++) {
        const uint64_t now = w->engine[0]->conntrack.now + 1000;
        const struct dp_frame frames[] = {udp(bytes[0], 1, 0, now), udp(bytes[1], 0, 1, now + 1000)};

        alike = two_ways_judge(w, frames, NULL, 2, false) && two_ways_agree(w) && alike;
    }
    return alike;
}

/* What it knew of whose the addresses are, it forgets with the policy. */
static void test_the_other_end_becomes_an_instance(void)
{
    struct two_ways w;
    uint64_t cached;

    two_ways_new(&w, holdings + 1, 1);
    CHECK(asks(&w, 5));
    cached = w.cached;
    CHECK(cached >= 4);
    two_ways_update(&w, holdings, 2);
    CHECK(asks(&w, 5));
    CHECK(w.cached == cached);
    two_ways_update(&w, holdings + 1, 1);
    CHECK(asks(&w, 5));
    CHECK(w.cached >= cached + 4);
    two_ways_free(&w);
}

/* An entry that is not marked is not taken for a packet's own, even if the cache leads to it. */
static void test_a_connection_between_instances_is_not_taken_for_one_alone(void)
{
    uint8_t bytes[UDP_FRAME];
    struct dp_fast_asked asked;
    struct dp_fast fast;
    struct dp_frame frame;
    struct two_ways w;

    two_ways_new(&w, holdings, 2);
    CHECK(asks(&w, 2));
    frame = udp(bytes, 1, 0, w.engine[0]->conntrack.now);
    REQUIRE(dp_fast_read(w.engine[0], &frame, NULL, 1, false, &fast, &asked) == 1 && asked.about == 1);
    for (uint32_t entry = 1; entry <= w.engine[0]->conntrack.table.high; entry++) {
        dp_flow_cache_fill(w.engine[0]->cache, fast.hash, entry);
        CHECK(asks(&w, 1));
    }
    CHECK(w.cached >= 2);
    two_ways_free(&w);
}

/* ---- the edges of windows ---- */

enum { TCP_FRAME = 14 + 20 + 20 + 4, TCP_DATA_MOST = 4 };

struct segment {
    uint32_t seq;
    uint32_t ack;
    uint16_t window;
    uint8_t flags;
    uint8_t data; /* bytes */
};

/* A segment of port 40000 of host 2 to port 80 of host 1, or back. */
static struct dp_frame tcp(uint8_t *bytes, bool from_client, const struct segment *s, uint64_t now)
{
    static const uint8_t headers[] = {[12] = 8, 0, 0x45, [22] = 64, DP_PROTO_TCP};
    const uint32_t length = TCP_FRAME - TCP_DATA_MOST + s->data;

    memset(bytes, 0, TCP_FRAME);
    memcpy(bytes, headers, sizeof headers);
    put16(bytes + 16, length - 14);
    memcpy(bytes + 26, hosts[from_client ? 2 : 1], 4);
    memcpy(bytes + 30, hosts[from_client ? 1 : 2], 4);
    put16(bytes + 34, from_client ? 40000 : 80);
    put16(bytes + 36, from_client ? 80 : 40000);
    put32(bytes + 38, s->seq);
    put32(bytes + 42, s->ack);
    bytes[46] = 0x50;
    bytes[47] = s->flags;
    put16(bytes + 48, s->window);
    return (struct dp_frame){.time_ns = now, .data = bytes, .captured = length, .length = length};
}

/* A number that is something to the window of `side` by the entry, or one or two beside it. */
static uint32_t near_an_edge(const struct dp_entry *e, enum dp_side side, enum dp_side peer)
{
    const uint32_t edges[] = {e->tcp_end[side],
                              e->tcp_max_end[side],
                              e->tcp_end[side] - e->tcp_max_window[peer],
                              e->tcp_end[side] - e->tcp_max_window[side],
                              e->tcp_end[side] - DP_TCP_ACK_WINDOW_LEAST,
                              e->tcp_max_ack[peer],
                              e->tcp_max_end[side] - 0x40000000u,
                              e->tcp_end[side] + 0x40000000u};

    return edges[chance(chance(4) ? 3 : sizeof edges / sizeof *edges)] + chance(5) - 2;
}

/* SPEC 4.4: segments at all edges of the window of a connection, which they move. */
static void test_segments_at_the_edges_of_their_window(void)
{
    static const struct segment handshake[] = {{0xffff0000u, 0, 300, DP_TCP_FLAG_SYN, 0},
                                               {9000, 0xffff0001u, 400, DP_TCP_FLAG_SYN | DP_TCP_FLAG_ACK, 0},
                                               {0xffff0001u, 9001, 300, DP_TCP_FLAG_ACK, 0}};
    uint8_t bytes[TCP_FRAME];
    uint64_t now = 1700000000000000000u, passed = 0, old = 0;
    struct dp_frame frame;
    bool alike = true;
    struct two_ways w;

    two_ways_new(&w, holdings + 1, 1);
    for (uint32_t i = 0; i < 3; i++) {
        frame = tcp(bytes, i != 1, &handshake[i], now++);
        CHECK(two_ways_judge(&w, &frame, NULL, 1, false) && two_ways_agree(&w));
    }
    for (int i = 0; i < 40000 && alike; i++) {
        const struct dp_entry before = w.engine[0]->conntrack.table.entries[1];
        const enum dp_side side = (enum dp_side)chance(2), peer = (enum dp_side)(side ^ 1);
        struct segment s = {.flags = DP_TCP_FLAG_ACK, .data = (uint8_t)chance(TCP_DATA_MOST + 1)};
        uint64_t allowed = w.engine[0]->counters.verdict[DP_ALLOW].packets;

        s.seq = near_an_edge(&before, side, peer) - (chance(4) ? s.data : 0);
        s.ack = near_an_edge(&before, peer, side);
        s.window = (uint16_t)(before.tcp_max_window[side] + chance(30) / 29 - chance(chance(30) ? 3 : 4000));
        frame = tcp(bytes, side == DP_INITIATOR, &s, now += 1000);
        alike = CHECK(two_ways_judge(&w, &frame, NULL, 1, false)) && CHECK(two_ways_agree(&w));
        if (w.engine[0]->counters.verdict[DP_ALLOW].packets > allowed) {
            passed++;
            old += before.tcp_end[side] == w.engine[0]->conntrack.table.entries[1].tcp_end[side];
        }
    }
    CHECK(passed > 10000 && passed < 30000 && old > 5000);
    two_ways_free(&w);
}

int main(void)
{
    RUN(test_the_other_end_becomes_an_instance);
    RUN(test_a_connection_between_instances_is_not_taken_for_one_alone);
    RUN(test_segments_at_the_edges_of_their_window);
    return check_result("test_fast_path_connections");
}
