/* test_firewall_fragments.c: fragments through running workers that wait for the first of their datagram (SPEC 4.6). */
#include "live_net.h"

static void test_a_fragment_waits_for_its_first(void)
{
    struct net n;
    struct bytes first, later;

    make(&n, 1);
    first = udp(macs[A], UPLINK, 9, 1, 53, 0x2000);
    first.byte[DP_VNET_HEADER + 14 + 20 + 5] = 80; /* the datagram's length */
    later = udp(macs[A], UPLINK, 9, 1, 53, 5);
    put(&n, UPLINK, 0, &first); /* makes A's place known, below */
    COMES(&n, A, &first);
    COMES(&n, B, &first);
    first.byte[DP_VNET_HEADER + 14 + 5] = later.byte[DP_VNET_HEADER + 14 + 5] = 78;
    struct bytes reply = udp(macs[UPLINK], A, 1, 9, 99, 0);
    put(&n, A, 0, &reply);
    COMES(&n, UPLINK, &reply);
    put(&n, UPLINK, 0, &later);
    NOTHING(&n, A);
    put(&n, UPLINK, 0, &first);
    COMES(&n, A, &first);
    COMES(&n, A, &later);
    unmake(&n);
}

/* One of the two fragments of a datagram with this identifier, which comes before the first or is it. */
static struct bytes piece(const uint8_t *to, int from, int source, int destination, uint16_t id, bool first)
{
    struct bytes f = udp(to, from, source, destination, 53, first ? 0x2000 : 5);

    f.byte[DP_VNET_HEADER + 14 + 4] = (uint8_t)(id >> 8);
    f.byte[DP_VNET_HEADER + 14 + 5] = (uint8_t)id;
    if (first)
        f.byte[DP_VNET_HEADER + 14 + 20 + 5] = 80; /* the datagram's length */
    return f;
}

/* A piece of another network: of one that the source is made to say. */
static struct bytes forged(const uint8_t *to, int destination, uint16_t id)
{
    struct bytes f = piece(to, UPLINK, 9, destination, id, false);

    f.byte[DP_VNET_HEADER + 14 + 12 + 1] = (uint8_t)(id >> 8);
    f.byte[DP_VNET_HEADER + 14 + 12 + 2] = (uint8_t)id;
    return f;
}

/* Waits until the firewall has taken so many frames from a port. */
static void taken(const struct net *n, int port, uint64_t frames)
{
    struct dp_port_counters c = {.received.packets = 0};

    for (int i = 0; i < WAIT_MS && c.received.packets < frames; i++) {
        dp_firewall_port_counters(n->firewall, (uint32_t)port, 1, &c);
        if (c.received.packets < frames)
            poll(NULL, 0, 1);
    }
    CHECK_EQUAL(c.received.packets, frames);
}

/* Each port has its say, so that the switch knows where its station is. */
static void make_known(struct net *n, uint32_t workers)
{
    make(n, workers);
    for (int port = 0; port < PORTS; port++) {
        struct bytes f = udp(macs[port], port, port == UPLINK ? 9 : port + 1, 8, 54, 0);

        put(n, port, 0, &f);
        taken(n, port, 1);
        if (port != UPLINK)
            COMES(n, UPLINK, &f);
    }
}

/* SPEC 4.6: later fragments that come first wait for it, whoever else takes places. */
static void test_places_to_wait_are_shared_by_port(void)
{
    struct dp_port_counters c;
    struct dp_counters counters;
    struct bytes f, later, first;
    struct net n;

    make_known(&n, 1);
    /* All of one sender's datagrams, and of one destination's, but for the port. */
    later = piece(macs[B], UPLINK, 9, 2, 7, false);
    first = piece(macs[B], UPLINK, 9, 2, 7, true);
    put(&n, UPLINK, 0, &later);
    taken(&n, UPLINK, 2);
    for (uint16_t i = 0; i < 2 * DP_WAITING_FRAMES_MAX; i++) {
        f = piece(macs[B], A, 1, 2, (uint16_t)(1000 + i), false);
        put(&n, A, 0, &f);
        if (i % 64 == 63)
            taken(&n, A, 2u + i);
    }
    put(&n, UPLINK, 0, &first);
    COMES(&n, B, &first);
    COMES(&n, B, &later);
    /* Those that gave way are known as such. */
    dp_plane_counters(dp_firewall_plane(n.firewall), &counters);
    CHECK_EQUAL(counters.fragments_waiting, DP_WAITING_FRAMES_MAX - 1);
    CHECK_EQUAL(counters.cause[DP_CAUSE_FRAGMENT_LIMIT].packets, DP_WAITING_FRAMES_MAX + 1);
    CHECK_EQUAL(counters.fragments_evicted, DP_WAITING_FRAMES_MAX + 1);
    dp_firewall_port_counters(n.firewall, A, 1, &c);
    CHECK_EQUAL(c.check[DP_EGRESS][DP_DENY][DP_REASON_INVALID].packets, DP_WAITING_FRAMES_MAX + 1);
    CHECK_EQUAL(dropped(&n, A, DP_DROP_FRAGMENT), 0);
    /* The oldest: the others still get their first. */
    for (uint16_t id = 1000 + DP_WAITING_FRAMES_MAX; id < 1000 + DP_WAITING_FRAMES_MAX + 2; id++) {
        first = piece(macs[B], A, 1, 2, id, true);
        later = piece(macs[B], A, 1, 2, id, false);
        put(&n, A, 0, &first);
        COMES(&n, B, &first);
        if (id > 1000 + DP_WAITING_FRAMES_MAX)
            COMES(&n, B, &later);
    }
    NOTHING(&n, B);
    unmake(&n);
}

/* Behind one uplink: other instances keep their places, and so does an honest source, as long as they take. */
static void test_places_behind_one_port_are_shared_too(void)
{
    struct bytes f, later, first;
    struct net n;

    make_known(&n, 1);
    later = piece(macs[B], UPLINK, 9, 2, 7, false);
    first = piece(macs[B], UPLINK, 9, 2, 7, true);
    put(&n, UPLINK, 0, &later);
    for (uint16_t i = 0; i < 4 * DP_WAITING_FRAMES_MAX; i++) {
        f = forged(macs[A], 1, i);
        put(&n, UPLINK, 0, &f);
        if (i % 64 == 63)
            taken(&n, UPLINK, 3u + i);
    }
    put(&n, UPLINK, 0, &first);
    COMES(&n, B, &first);
    COMES(&n, B, &later);
    later = piece(macs[A], UPLINK, 9, 1, 8, false);
    first = piece(macs[A], UPLINK, 9, 1, 8, true);
    put(&n, UPLINK, 0, &later);
    for (uint16_t i = 0; i < DP_WAITING_FRAMES_MAX / 2; i++) {
        f = forged(macs[A], 1, (uint16_t)(5000 + i));
        put(&n, UPLINK, 0, &f);
        if (i % 64 == 63)
            taken(&n, UPLINK, 5u + 4u * DP_WAITING_FRAMES_MAX + i);
    }
    put(&n, UPLINK, 0, &first);
    COMES(&n, A, &first);
    COMES(&n, A, &later);
    unmake(&n);
}

/* SPEC 4.6, any order: also where the frame is for everybody, at each port by itself; and these take no place for good.
 */
static void test_fragments_for_everybody_wait_at_each_port(void)
{
    struct bytes f, later, first;
    struct dp_counters counters;
    struct net n;

    make_known(&n, 1);
    later = piece(everybody, UPLINK, 9, 255, 7, false);
    first = piece(everybody, UPLINK, 9, 255, 7, true);
    put(&n, UPLINK, 0, &later);
    taken(&n, UPLINK, 2);
    NOTHING(&n, A);
    put(&n, UPLINK, 0, &first);
    for (int port = A; port <= B; port++) {
        COMES(&n, port, &first);
        COMES(&n, port, &later);
    }
    for (uint16_t i = 0; i < 2 * DP_RESOLVED_MAX; i++) {
        f = piece(everybody, UPLINK, 9, 255, (uint16_t)(1000 + i), false);
        put(&n, UPLINK, 0, &f);
        if (i % 64 == 63)
            taken(&n, UPLINK, 4u + i);
    }
    later = piece(macs[UPLINK], A, 1, 9, 7, false);
    first = piece(macs[UPLINK], A, 1, 9, 7, true);
    put(&n, A, 0, &later);
    taken(&n, A, 2);
    put(&n, A, 0, &first);
    COMES(&n, UPLINK, &first);
    COMES(&n, UPLINK, &later);
    dp_plane_counters(dp_firewall_plane(n.firewall), &counters);
    CHECK(counters.fragments_waiting <= DP_WAITING_FRAMES_MAX);
    unmake(&n);
}

/* What came by one port is no part of a datagram that came by another, whoever it says it is from. */
static void test_ports_do_not_mix_their_fragments(void)
{
    struct dp_port port = {.zone = DP_ZONE_NONE};
    struct bytes later, first;
    struct net n;
    int pair[2];

    make_known(&n, 1);
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair) == 0);
    CHECK_EQUAL(dp_firewall_add_port(n.firewall, &port, &pair[1]), PORTS);
    later = piece(macs[A], UPLINK, 9, 1, 7, false);
    first = piece(macs[A], UPLINK, 9, 1, 7, true);
    CHECK_EQUAL(write(pair[0], later.byte, later.size), later.size);
    taken(&n, PORTS, 1);
    put(&n, UPLINK, 0, &first);
    COMES(&n, A, &first);
    NOTHING(&n, A);
    put(&n, UPLINK, 0, &later);
    COMES(&n, A, &later);
    CHECK_EQUAL(dp_firewall_remove_port(n.firewall, PORTS), 0);
    close(pair[0]);
    close(pair[1]);
    unmake(&n);
}

/* A fragment that waits for an instance's answer is not for who comes to its port after it. */
static void test_what_waits_goes_with_the_instance_of_its_port(void)
{
    struct dp_port port = {.zone = 1, .guarded = 1};
    struct bytes later, first;
    struct net n;

    make_known(&n, 1);
    later = piece(macs[A], UPLINK, 9, 1, 7, false);
    first = piece(macs[A], UPLINK, 9, 1, 7, true);
    put(&n, UPLINK, 0, &later);
    taken(&n, UPLINK, 2);
    CHECK_EQUAL(stands_behind(&n, A, &port), 0);
    port.zone = 0;
    CHECK_EQUAL(stands_behind(&n, A, &port), 0);
    put(&n, UPLINK, 0, &first);
    COMES(&n, A, &first);
    NOTHING(&n, A);
    unmake(&n);
}

static void test_all(void)
{
    RUN(test_a_fragment_waits_for_its_first);
    RUN(test_places_to_wait_are_shared_by_port);
    RUN(test_places_behind_one_port_are_shared_too);
    RUN(test_fragments_for_everybody_wait_at_each_port);
    RUN(test_ports_do_not_mix_their_fragments);
    RUN(test_what_waits_goes_with_the_instance_of_its_port);
}

int main(void)
{
    return run_both_ways(test_all, "test_firewall_fragments");
}
