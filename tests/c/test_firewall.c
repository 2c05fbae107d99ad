/* test_firewall.c: frames through running workers: where they go, and ports that come, go and fail. */
#include "live_net.h"

#include "io/busy_poll.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/inotify.h>

static void test_forwarding(void)
{
    struct net n;
    struct bytes f;

    make(&n, 1);
    /* Unknown: to every other port, where the rules of each instance decide. */
    f = udp(macs[A], UPLINK, 9, 1, 53, 0);
    put(&n, UPLINK, 0, &f);
    COMES(&n, A, &f);
    COMES(&n, B, &f);
    /* The reply goes where its station was learned, and only there. */
    f = udp(macs[UPLINK], A, 1, 9, 99, 0);
    put(&n, A, 0, &f);
    COMES(&n, UPLINK, &f);
    NOTHING(&n, B);
    /* Now A is known; port 54 is not allowed. */
    f = udp(macs[A], UPLINK, 9, 1, 54, 0);
    put(&n, UPLINK, 0, &f);
    NOTHING(&n, A);
    /* From instance to instance both checks are made. */
    f = udp(macs[A], B, 2, 1, 53, 0);
    put(&n, B, 0, &f);
    COMES(&n, A, &f);
    f = udp(macs[B], A, 1, 2, 54, 0);
    put(&n, A, 0, &f);
    NOTHING(&n, B);
    /* Never back through its own port. */
    f = udp(macs[UPLINK], UPLINK, 9, 8, 53, 0);
    put(&n, UPLINK, 0, &f);
    NOTHING(&n, UPLINK);
    CHECK_EQUAL(dropped(&n, UPLINK, DP_DROP_NO_DESTINATION), 1);
    /* Everybody: each instance by its own rules. */
    f = udp(everybody, A, 1, 255, 53, 0);
    put(&n, A, 0, &f);
    COMES(&n, UPLINK, &f);
    COMES(&n, B, &f);
    NOTHING(&n, A);
    /* No frame. */
    CHECK_EQUAL(write(n.ours[A][0], "too short", 9), 9);
    NOTHING(&n, UPLINK);
    CHECK_EQUAL(dropped(&n, A, DP_DROP_DAMAGED), 1);
    unmake(&n);
}

static void count_served(struct dp_worker *w, void *served)
{
    for (uint32_t port = 0; port < PORTS; port++)
        *(uint32_t *)served += w->port_counters[port].received.packets != 0;
}

/* Where many ports have much for everybody, a round of all of them would be too long for a change to wait. */
static void test_a_command_waits_for_one_port_at_most(void)
{
    struct epoll_event event;
    uint32_t served = 0;
    struct dp_worker *w;
    struct net n;

    make(&n, 1);
    w = &n.firewall->worker[0];
    dp_firewall_stop(n.firewall);
    /* The kernel forgets that it was woken up before, so that its ports are what is told first. */
    CHECK_EQUAL(epoll_wait(w->epoll, &event, 1, 0), 0);
    for (int port = 0; port < PORTS; port++) {
        struct bytes f = udp(everybody, port, port + 1, 255, 53, 0);

        put(&n, port, 0, &f);
    }
    w->argument = &served;
    atomic_store(&w->command, count_served);
    dp_worker_wake(w);
    CHECK_EQUAL(dp_firewall_start(n.firewall), 0);
    while (sem_wait(&w->done) < 0 && errno == EINTR)
        ;
    CHECK(served <= 1);
    unmake(&n);
}

/* How many frames of the second port come by the uplink between the first port's frame number `nth` and the next one.
 */
static uint32_t between(const struct net *n, uint32_t nth)
{
    struct pollfd readable = {.fd = n->ours[UPLINK][0], .events = POLLIN};
    uint32_t firsts = 0, seconds = 0;
    struct bytes f;

    while (firsts <= nth && poll(&readable, 1, WAIT_MS) == 1 && read(readable.fd, f.byte, sizeof f.byte) > 0) {
        bool first = f.byte[DP_VNET_HEADER + 11] == macs[A][5];

        firsts += first;
        seconds += !first && firsts == nth;
    }
    return seconds;
}

/* What a port sends to everybody takes as many turns from it as it has receivers, while another port waits for its. */
static void test_who_sends_to_everybody_pays_with_turns(void)
{
    struct epoll_event event;
    struct dp_worker *w;
    struct bytes f;
    struct net n;

    make(&n, 1);
    w = &n.firewall->worker[0];
    f = udp(everybody, UPLINK, 9, 255, 53, 0);
    put(&n, UPLINK, 0, &f);
    COMES(&n, A, &f);
    COMES(&n, B, &f);
    dp_firewall_stop(n.firewall);
    CHECK_EQUAL(epoll_wait(w->epoll, &event, 1, 0), 0);
    for (int i = 0; i < DP_BURST + 1; i++) {
        f = udp(everybody, A, 1, 255, 53, 0);
        put(&n, A, 0, &f);
    }
    for (int i = 0; i < 2 * DP_BURST; i++) {
        f = udp(macs[UPLINK], B, 2, 9, 53, 0);
        put(&n, B, 0, &f);
    }
    CHECK_EQUAL(dp_firewall_start(n.firewall), 0);
    /* B and the uplink: as if it had sent twice as many. */
    CHECK_EQUAL(between(&n, DP_BURST), 2 * DP_BURST);
    unmake(&n);
}

/* A command waits for a port's turn: that is as short as one frame where a frame goes to a thousand ports. */
static void test_a_turn_is_short_where_many_are_reached(void)
{
    struct epoll_event event;
    struct dp_worker *w;
    struct bytes f;
    struct net n;

    make(&n, 1);
    w = &n.firewall->worker[0];
    dp_firewall_stop(n.firewall);
    CHECK_EQUAL(epoll_wait(w->epoll, &event, 1, 0), 0);
    w->port[A].reach = DP_REACH;
    for (int i = 0; i < 2; i++) {
        f = udp(everybody, A, 1, 255, 53, 0);
        put(&n, A, 0, &f);
    }
    CHECK_EQUAL(dp_firewall_start(n.firewall), 0);
    for (int i = 0; i < 2; i++)
        COMES(&n, B, &f);
    dp_firewall_stop(n.firewall);
    CHECK_EQUAL(w->counters.bursts[0], 2);
    unmake(&n);
}

/* Whatever comes finds its memory there: none is touched or allocated for a packet. */
static void test_the_table_is_there_from_the_start(void)
{
    struct dp_counters counters;
    struct net n;

    make(&n, 2);
    dp_plane_counters(dp_firewall_plane(n.firewall), &counters);
    CHECK_EQUAL(counters.entries, 0);
    /* An entry, its hash, its two links, its slot of the index. */
    CHECK(counters.table_bytes >= counters.max_entries * (64 + 4 + 8 + 8 + 4));
    unmake(&n);
}

/* Frames come to memory that the ring knows, where it may be locked. */
static void test_rings_know_the_arena(void)
{
    struct dp_counters counters;
    struct net n;

    make(&n, 2);
    dp_plane_counters(dp_firewall_plane(n.firewall), &counters); /* both have opened theirs by now */
    for (uint32_t i = 0; i < 2; i++) {
        const struct dp_worker *w = &n.firewall->worker[i];

        CHECK_EQUAL(dp_uring_is_open(&w->uring), with_uring);
        CHECK_EQUAL(w->uring.buffer_bytes, with_buffer ? DP_ARENA_BYTES : 0);
        CHECK(!with_buffer || w->uring.buffer == (uintptr_t)w->arena);
    }
    unmake(&n);
}

static void test_bursts_are_counted_by_size(void)
{
    struct dp_worker_counters counters;
    struct net n;
    struct bytes f = udp(macs[A], UPLINK, 9, 1, 53, 0);
    uint64_t bursts = 0, least = 0;

    make(&n, 1);
    for (int i = 0; i < 10; i++)
        put(&n, UPLINK, 0, &f);
    for (int i = 0; i < 10; i++)
        COMES(&n, A, &f);
    CHECK_EQUAL(dp_firewall_worker_counters(n.firewall, 0, &counters), 0);
    for (int k = 0; k < DP_BURST_SIZES; k++) {
        bursts += counters.bursts[k];
        least += counters.bursts[k] << k;
    }
    CHECK_EQUAL(counters.burst_frames, 10);
    CHECK(bursts >= 1 && bursts <= 10 && least <= 10);
    unmake(&n);
}

/* One frame at a time, the next when the last has come. */
static void converse(const struct net *n, int frames)
{
    struct bytes f = udp(macs[A], UPLINK, 9, 1, 53, 0);

    for (int i = 0; i < frames; i++) {
        put(n, UPLINK, 0, &f);
        COMES(n, A, &f);
    }
}

static void test_a_conversation_finds_the_worker_awake(void)
{
    struct dp_worker_counters counters;
    struct net n;

    make(&n, 1);
    converse(&n, DP_WAIT_QUIET + 10);
    dp_firewall_worker_counters(n.firewall, 0, &counters);
    CHECK_EQUAL(counters.busy_polls[DP_BUSY_POLL_FOUND], 0); /* not unless it is wanted */
    CHECK_EQUAL(counters.busy_polls[DP_BUSY_POLL_IN_VAIN], 0);
    dp_firewall_stop(n.firewall);
    dp_firewall_busy_poll(n.firewall, 1000000000);
    CHECK_EQUAL(dp_firewall_start(n.firewall), 0);
    converse(&n, DP_WAIT_QUIET + 10);
    dp_firewall_worker_counters(n.firewall, 0, &counters);
    CHECK(counters.busy_polls[DP_BUSY_POLL_FOUND] >= 10);
    unmake(&n);
}

static void test_two_workers_share_connections(void)
{
    struct net n;

    make(&n, 2);
    /* Whatever queue the kernel chooses: each connection is known to the worker that judges it. */
    for (int host = 10; host < 30; host++) {
        struct bytes f = udp(everybody, UPLINK, host, 1, 53, 0), reply = udp(everybody, A, 1, host, 99, 0);

        put(&n, UPLINK, (uint32_t)host % 2, &f);
        COMES(&n, A, &f);
        COMES(&n, B, &f);
        put(&n, A, (uint32_t)host / 2 % 2, &reply);
        COMES(&n, UPLINK, &reply);
    }
    struct dp_connection_filter all = {.zone = 0, .origin = -1, .protocol = -1, .disconnected = -1};
    CHECK_EQUAL(dp_plane_count(dp_firewall_plane(n.firewall), &all, NULL), 20);
    unmake(&n);
}

/* A policy that denies all judges beside the one in force: what passes passes on, and is told. */
static void test_a_shadow_enforces_nothing(void)
{
    static const uint64_t seed[2] = {1, 2};
    struct dp_zone_tables zones[2] = {{.zone = 0}, {.zone = 1}};
    struct dp_difference_count count;
    struct dp_counters counters;
    struct dp_flow_difference flows[4];
    struct dp_plane *plane;
    uint64_t taken;
    struct net n;

    make(&n, 2);
    if (!CHECK_EQUAL(dp_plane_new(&n.config, seed, 2, &plane), 0))
        return;
    struct dp_policy_update update = {.zones = zones, .n_zones = 2, .endpoints = n.endpoints, .config = &n.config};
    struct bytes f = udp(macs[A], UPLINK, 9, 1, 53, 0);
    CHECK_EQUAL(dp_firewall_begin_shadow(n.firewall, plane, &taken), DP_E_ARGUMENT); /* no policy yet */
    CHECK_EQUAL(dp_plane_update(plane, &update), 0);
    CHECK_EQUAL(dp_firewall_begin_shadow(n.firewall, plane, &taken), 0);
    for (int i = 0; i < 3; i++) {
        put(&n, UPLINK, 0, &f);
        CHECK(comes(&n, A, &f, WAIT_MS));
    }
    CHECK_EQUAL(dp_firewall_shadow(n.firewall, &count, &counters), 0);
    /* Nobody has learned where that MAC is: each goes to both instances. */
    CHECK_EQUAL(count.packets_changed, 6);
    CHECK_EQUAL(counters.entries, 0);
    CHECK_EQUAL(dp_firewall_shadow_flows(n.firewall, flows, 4), 1);
    CHECK_EQUAL(flows[0].packets, 6);
    dp_firewall_end_shadow(n.firewall);
    CHECK_EQUAL(dp_firewall_shadow(n.firewall, &count, &counters), DP_E_ARGUMENT);
    put(&n, UPLINK, 0, &f);
    CHECK(comes(&n, A, &f, WAIT_MS));
    dp_plane_counters(dp_firewall_plane(n.firewall), &counters);
    CHECK_EQUAL(counters.shadow[DP_SHADOW_WOULD_DENY], 6);
    unmake(&n);
}

/* What one of its shards does not use of a shadow's table is another's; and its rules change while it judges. */
static void test_a_shadow_is_balanced_and_changed(void)
{
    static const uint64_t seed[2] = {1, 2};
    struct dp_conntrack_config config = settings();
    struct dp_zone_tables zones[2];
    struct dp_difference_count count;
    struct dp_counters counters;
    struct dp_plane *plane;
    uint64_t taken;
    struct net n;

    make(&n, 2);
    for (uint32_t z = 0; z < 2; z++)
        zones[z] = (struct dp_zone_tables){.zone = z, .table = {{n.table[0], NULL}, {n.table[1], NULL}}};
    config.max_entries = 8;
    struct dp_policy_update update = {.zones = zones, .n_zones = 2, .endpoints = n.endpoints, .config = &config};
    if (!CHECK_EQUAL(dp_plane_new(&config, seed, 2, &plane), 0))
        return;
    CHECK_EQUAL(dp_plane_update(plane, &update), 0);
    CHECK_EQUAL(dp_firewall_begin_shadow(n.firewall, plane, &taken), 0);
    struct bytes f = udp(macs[UPLINK], A, 1, 9, 99, 0);
    put(&n, A, 0, &f);
    CHECK(comes(&n, UPLINK, &f, WAIT_MS) || comes(&n, B, &f, WAIT_MS));
    f = udp(macs[A], UPLINK, 9, 1, 53, 0);
    for (uint8_t port = 0; port < 20; port++) {
        f.byte[DP_VNET_HEADER + 34] = port; /* another flow of the same shard */
        put(&n, UPLINK, 0, &f);
        COMES(&n, A, &f);
        dp_plane_balance(plane);
    }
    CHECK_EQUAL(dp_firewall_shadow(n.firewall, &count, &counters), 0);
    CHECK_EQUAL(count.packets_changed, 0);
    CHECK_EQUAL(counters.max_entries, 8);
    CHECK(counters.entries > 4 && counters.entries <= 8);
    zones[0].table[0][0] = zones[1].table[0][0] = NULL;
    CHECK_EQUAL(dp_plane_update(plane, &update), 0);
    f.byte[DP_VNET_HEADER + 34] = 20;
    put(&n, UPLINK, 0, &f);
    COMES(&n, A, &f);
    CHECK_EQUAL(dp_firewall_shadow(n.firewall, &count, &counters), 0);
    CHECK_EQUAL(count.packets_changed, 1);
    unmake(&n);
}

static void test_ports_come_and_go(void)
{
    struct dp_port uplink = {.zone = DP_ZONE_NONE};
    struct net n;
    struct bytes f;

    make(&n, 1);
    f = udp(macs[A], UPLINK, 9, 1, 53, 0);
    CHECK_EQUAL(dp_firewall_remove_port(n.firewall, UPLINK), 0);
    CHECK_EQUAL(dp_firewall_remove_port(n.firewall, UPLINK), DP_E_ARGUMENT);
    put(&n, UPLINK, 0, &f);
    NOTHING(&n, A);
    CHECK_EQUAL(dp_firewall_add_port(n.firewall, &uplink, n.theirs[UPLINK]), UPLINK);
    COMES(&n, A, &f);
    /* The other end goes away under way. */
    close(n.ours[B][0]);
    n.ours[B][0] = dup(n.ours[A][0]);
    put(&n, UPLINK, 0, &f);
    COMES(&n, A, &f);
    unmake(&n);
}

/* A port that goes is let go of, and whoever has its descriptor's number next gets nothing that was not meant for him.
 */
static void test_a_descriptor_is_used_again(void)
{
    struct dp_port uplink = {.zone = DP_ZONE_NONE};
    struct net n;
    int other[2], pair[2];
    uint8_t byte;

    make(&n, 1);
    struct bytes question = udp(macs[A], UPLINK, 9, 1, 53, 0), answer = udp(macs[UPLINK], A, 1, 9, 99, 0);
    put(&n, UPLINK, 0, &question);
    COMES(&n, A, &question);
    put(&n, A, 0, &answer);
    COMES(&n, UPLINK, &answer);
    CHECK_EQUAL(dp_firewall_remove_port(n.firewall, UPLINK), 0);
    close(n.theirs[UPLINK][0]);
    CHECK_EQUAL(recv(n.ours[UPLINK][0], &byte, 1, MSG_DONTWAIT), 0);
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, other) == 0);
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair) == 0);
    CHECK_EQUAL(other[0], n.theirs[UPLINK][0]);
    put(&n, A, 0, &answer);
    NOTHING(&n, B);
    CHECK_EQUAL(recv(other[1], &byte, 1, MSG_DONTWAIT), -1);
    n.theirs[UPLINK][0] = other[0];
    close(n.ours[UPLINK][0]);
    n.ours[UPLINK][0] = other[1];
    CHECK_EQUAL(dp_firewall_add_port(n.firewall, &uplink, n.theirs[UPLINK]), UPLINK);
    put(&n, UPLINK, 0, &question);
    COMES(&n, A, &question);
    put(&n, A, 0, &answer);
    COMES(&n, UPLINK, &answer);
    CHECK_EQUAL(recv(pair[1], &byte, 1, MSG_DONTWAIT), -1);
    close(pair[0]);
    close(pair[1]);
    unmake(&n);
}

/* A queue's worth of frames keeps its order, and what finds a full queue is counted and holds nothing up. */
static void test_many_frames(void)
{
    enum { FRAMES = 1000, UNDER_WAY = 150 };
    struct net n;
    uint32_t sent = 0, came = 0;
    bool in_order = true;

    make(&n, 1);
    struct bytes f = udp(macs[A], UPLINK, 9, 1, 53, 0), answer = udp(macs[UPLINK], A, 1, 9, 99, 0), got;
    struct pollfd ready = {n.ours[A][0], POLLIN, 0};

    put(&n, A, 0, &answer); /* whoever is known is sent to alone */
    COMES(&n, UPLINK, &answer);
    while (came < FRAMES) {
        memcpy(f.byte + f.size - sizeof sent, &sent, sizeof sent);
        if (sent < FRAMES && sent - came < UNDER_WAY && write(n.ours[UPLINK][0], f.byte, f.size) == f.size) {
            sent++;
            continue;
        }
        if (!CHECK_EQUAL(poll(&ready, 1, WAIT_MS), 1))
            break;
        while (read(n.ours[A][0], got.byte, sizeof got.byte) == f.size) {
            uint32_t number;

            memcpy(&number, got.byte + f.size - sizeof number, sizeof number);
            in_order &= number == came++;
        }
    }
    CHECK_EQUAL(came, FRAMES);
    CHECK(in_order);
    /* Nobody takes what comes to A. */
    for (int wait = 0; dropped(&n, A, DP_DROP_FULL) == 0 && wait < WAIT_MS; wait++)
        while (write(n.ours[UPLINK][0], f.byte, f.size) == f.size && sent < 100 * FRAMES)
            sent++;
    CHECK(dropped(&n, A, DP_DROP_FULL) > 0);
    CHECK_EQUAL(dropped(&n, A, DP_DROP_ERROR), 0);
    put(&n, A, 0, &answer);
    COMES(&n, UPLINK, &answer);
    unmake(&n);
}

/* What io_uring cannot serve is served without it, from then on, and nothing is lost. */
static void test_a_ring_that_fails(void)
{
    struct dp_port port = {.zone = DP_ZONE_NONE};
    struct net n;
    int watching = inotify_init1(IN_NONBLOCK);

    make(&n, 1);
    CHECK(inotify_add_watch(watching, "/proc/self/fd", IN_OPEN) >= 0);
    close(open("/proc/self/fd", O_RDONLY));
    CHECK_EQUAL(dp_firewall_add_port(n.firewall, &port, &watching), PORTS);
    for (int wait = 0; dropped(&n, PORTS, DP_DROP_DAMAGED) == 0 && wait < WAIT_MS; wait++)
        poll(NULL, 0, 1);
    CHECK_EQUAL(dropped(&n, PORTS, DP_DROP_DAMAGED), 1); /* an event of 16 bytes */
    CHECK_EQUAL(dp_firewall_uring(n.firewall), with_uring ? -EOPNOTSUPP : 0);
    struct bytes f = udp(macs[A], UPLINK, 9, 1, 53, 0);
    put(&n, UPLINK, 0, &f);
    COMES(&n, A, &f);
    CHECK_EQUAL(dp_firewall_remove_port(n.firewall, PORTS), 0);
    /* A fresh start is a fresh try. */
    dp_firewall_stop(n.firewall);
    CHECK_EQUAL(dp_firewall_uring(n.firewall), 0);
    CHECK_EQUAL(dp_firewall_start(n.firewall), 0);
    CHECK_EQUAL(dp_firewall_uring(n.firewall), with_uring);
    put(&n, UPLINK, 0, &f);
    COMES(&n, A, &f);
    close(watching);
    unmake(&n);
}

static void test_all(void)
{
    RUN(test_forwarding);
    RUN(test_a_command_waits_for_one_port_at_most);
    RUN(test_who_sends_to_everybody_pays_with_turns);
    RUN(test_a_turn_is_short_where_many_are_reached);
    RUN(test_the_table_is_there_from_the_start);
    RUN(test_rings_know_the_arena);
    RUN(test_bursts_are_counted_by_size);
    RUN(test_a_conversation_finds_the_worker_awake);
    RUN(test_two_workers_share_connections);
    RUN(test_a_shadow_enforces_nothing);
    RUN(test_a_shadow_is_balanced_and_changed);
    RUN(test_ports_come_and_go);
    RUN(test_a_descriptor_is_used_again);
    RUN(test_many_frames);
    RUN(test_a_ring_that_fails);
}

int main(void)
{
    return run_both_ways(test_all, "test_firewall");
}
