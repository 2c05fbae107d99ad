/*
 * test_firewall.c: frames through running workers, whose ports are socket pairs: they keep frames apart as a TAP does.
 *
 * Two instances (zones 0 and 1, 10.0.0.1 and 10.0.0.2) and an uplink. UDP to port 53 may enter instances, everything
 * may leave them. The test's end of each pair is what the instance, or the world, would hold. All is tested twice: with
 * one system call a frame, and through io_uring where the kernel gives it.
 */
#include "check.h"
#include "io/busy_poll.h"
#include "io/firewall.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <unistd.h>

enum { A, B, UPLINK, PORTS, QUIET_MS = 150, WAIT_MS = 5000 };

struct net {
    struct dp_firewall *firewall;
    struct dp_endpoints *endpoints;
    struct dp_rule_table *table[2]; /* ingress, egress */
    struct dp_conntrack_config config;
    uint32_t workers;
    int ours[PORTS][2];
    int theirs[PORTS][2];
};

static const uint8_t macs[PORTS][6] = {{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}, {2, 0, 0, 0, 0, 9}};
static bool with_uring, with_buffer;
static const uint8_t everybody[6] = {255, 255, 255, 255, 255, 255};

static struct dp_conntrack_config settings(void)
{
    struct dp_conntrack_config config = {.max_entries = 1000};

    for (int s = 0; s < DP_CONN_STATES; s++)
        config.timeout_ns[s] = 30000000000u;
    config.tentative[DP_CONN_OTHER_ONE_WAY] = 1;
    return config;
}

static int put_in_force_with(struct net *n, const struct dp_port_update *ports, uint32_t n_ports, const uint32_t *cut,
                             uint32_t n_cut, uint64_t *disconnected)
{
    struct dp_zone_tables zones[2];

    for (uint32_t z = 0; z < 2; z++)
        zones[z] = (struct dp_zone_tables){.zone = z, .table = {{n->table[0], NULL}, {n->table[1], NULL}}};
    struct dp_policy_update update = {.zones = zones,
                                      .n_zones = 2,
                                      .endpoints = n->endpoints,
                                      .config = &n->config,
                                      .ports = ports,
                                      .n_ports = n_ports,
                                      .cut = cut,
                                      .n_cut = n_cut,
                                      .disconnected = disconnected};
    return dp_firewall_update(n->firewall, &update);
}

static int put_in_force(struct net *n, const uint32_t *cut, uint32_t n_cut, uint64_t *disconnected)
{
    return put_in_force_with(n, NULL, 0, cut, n_cut, disconnected);
}

/* Something else stands behind a port from now on. */
static int stands_behind(struct net *n, uint32_t number, const struct dp_port *port)
{
    struct dp_port_update update = {number, *port};

    return put_in_force_with(n, &update, 1, NULL, 0, NULL);
}

static bool make(struct net *n, uint32_t workers)
{
    static const uint64_t seed[2] = {1, 2};
    struct dp_selector selectors[2] = {{17 << 16 | 53, 17 << 16 | 53}, {0, 0xffffff}};
    struct dp_rule rules[2] = {{1, DP_REMOTE_ANY, 0, 1, DP_ALLOW}, {2, DP_REMOTE_ANY, 1, 1, DP_ALLOW}};
    struct dp_holding holdings[2] = {{{{10, 0, 0, 1}, 32}, 4, 0, 0}, {{{10, 0, 0, 2}, 32}, 4, 1, 0}};

    memset(n, 0, sizeof *n);
    n->workers = workers;
    n->config = settings();
    if (!CHECK_EQUAL(dp_firewall_new(&n->config, seed, workers, &n->firewall), 0) ||
        !CHECK_EQUAL(dp_endpoints_new(holdings, 2, NULL, 0, NULL, 0, NULL, 0, &n->endpoints), 0))
        return false;
    for (int d = 0; d < 2; d++)
        if (!CHECK_EQUAL(dp_rule_table_new(4, &rules[d], 1, NULL, 0, NULL, 0, selectors, 2, &n->table[d]), 0))
            return false;
    dp_firewall_want_uring(n->firewall, with_uring);
    CHECK_EQUAL(dp_firewall_start(n->firewall), DP_E_ARGUMENT); /* no policy yet */
    if (!CHECK_EQUAL(put_in_force(n, NULL, 0, NULL), 0))
        return false;
    for (int p = 0; p < PORTS; p++) {
        struct dp_port port = {.zone = p == UPLINK ? DP_ZONE_NONE : p, .guarded = p != UPLINK};
        int fd[2] = {-1, -1};

        for (uint32_t w = 0; w < workers; w++) {
            int pair[2];

            if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair) < 0)
                return false;
            n->ours[p][w] = pair[0];
            n->theirs[p][w] = fd[w] = pair[1];
        }
        if (!CHECK_EQUAL(dp_firewall_add_port(n->firewall, &port, fd), p))
            return false;
    }
    CHECK_EQUAL(dp_firewall_uring(n->firewall), 0); /* nothing runs */
    return CHECK_EQUAL(dp_firewall_start(n->firewall), 0) && CHECK_EQUAL(dp_firewall_uring(n->firewall), with_uring);
}

static void unmake(struct net *n)
{
    dp_firewall_free(n->firewall);
    dp_endpoints_free(n->endpoints);
    for (int d = 0; d < 2; d++)
        dp_rule_table_free(n->table[d]);
    for (int p = 0; p < PORTS; p++)
        for (uint32_t w = 0; w < n->workers; w++) {
            close(n->ours[p][w]);
            close(n->theirs[p][w]);
        }
}

/* ---- frames: a virtio-net header, Ethernet, IPv4, UDP ---- */

struct bytes {
    uint8_t byte[DP_VNET_HEADER + 14 + 20 + 8 + 32];
    uint32_t size;
};

static struct bytes udp(const uint8_t *to, int from, int source, int destination, uint16_t port, uint16_t fragment)
{
    struct bytes f = {.size = DP_VNET_HEADER + 14 + 20 + 8 + 32};
    uint8_t *p = f.byte + DP_VNET_HEADER;

    memcpy(p, to, 6);
    memcpy(p + 6, macs[from], 6);
    p[12] = 8;
    p += 14;
    p[0] = 0x45;
    p[3] = 20 + 8 + 32;
    p[5] = 77;
    p[6] = (uint8_t)(fragment >> 8);
    p[7] = (uint8_t)fragment;
    p[8] = 64;
    p[9] = 17;
    memcpy(p + 12, (uint8_t[]){10, 0, 0, (uint8_t)source, 10, 0, 0, (uint8_t)destination}, 8);
    p += 20;
    p[1] = port == 99 ? 53 : 99; /* an answer goes back to where the question came from */
    p[2] = (uint8_t)(port >> 8);
    p[3] = (uint8_t)port;
    p[5] = 8 + 32;
    return f;
}

static void put(const struct net *n, int port, uint32_t queue, const struct bytes *f)
{
    CHECK_EQUAL(write(n->ours[port][queue], f->byte, f->size), f->size);
}

/* Whether this frame comes out of a port, from any queue; and nothing when none should. */
static bool comes(const struct net *n, int port, const struct bytes *f, int wait_ms)
{
    struct pollfd ready[2];
    uint8_t got[256];

    for (uint32_t w = 0; w < n->workers; w++)
        ready[w] = (struct pollfd){n->ours[port][w], POLLIN, 0};
    if (poll(ready, n->workers, wait_ms) <= 0)
        return false;
    for (uint32_t w = 0; w < n->workers; w++)
        if (ready[w].revents & POLLIN) {
            ssize_t size = read(ready[w].fd, got, sizeof got);

            return size == f->size && memcmp(got, f->byte, f->size) == 0;
        }
    return false;
}

#define COMES(n, port, frame) CHECK(comes(n, port, frame, WAIT_MS))
#define NOTHING(n, port) CHECK(!comes(n, port, &(struct bytes){.size = 0}, QUIET_MS))

static uint64_t dropped(const struct net *n, uint32_t port, enum dp_port_drop why)
{
    struct dp_port_counters c;

    dp_firewall_port_counters(n->firewall, port, &c);
    return c.drop[why];
}

/* ---- tests ---- */

static void test_forwarding(void)
{
    struct net n;
    struct bytes f;

    if (!make(&n, 1))
        return;
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

/* Whatever comes finds its memory there: none is touched or allocated for a packet. */
static void test_the_table_is_there_from_the_start(void)
{
    struct dp_counters counters;
    struct net n;

    if (!make(&n, 2))
        return;
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

    if (!make(&n, 2))
        return;
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

    if (!make(&n, 1))
        return;
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

    if (!make(&n, 1))
        return;
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

static void test_other_senders_are_refused(void)
{
    struct net n;
    struct bytes f;
    struct dp_port_counters c;

    if (!make(&n, 1))
        return;
    f = udp(macs[UPLINK], A, 2, 9, 53, 0);
    put(&n, A, 0, &f);
    NOTHING(&n, UPLINK);
    dp_firewall_port_counters(n.firewall, A, &c);
    CHECK_EQUAL(c.check[DP_EGRESS][DP_DENY][DP_REASON_INVALID].packets, 1);
    /* No IP at all. */
    f = udp(macs[UPLINK], A, 1, 9, 53, 0);
    f.byte[DP_VNET_HEADER + 12] = 0x88;
    f.byte[DP_VNET_HEADER + 13] = 0xcc;
    put(&n, A, 0, &f);
    NOTHING(&n, UPLINK);
    dp_firewall_port_counters(n.firewall, A, &c);
    CHECK_EQUAL(c.check[DP_EGRESS][DP_DENY][DP_REASON_NO_RULE_MATCHED].packets, 1);
    unmake(&n);
}

static uint64_t invalid(const struct net *n, uint32_t port, enum dp_direction direction)
{
    struct dp_port_counters c;

    dp_firewall_port_counters(n->firewall, port, &c);
    return c.check[direction][DP_DENY][DP_REASON_INVALID].packets;
}

/* SPEC 4.8, anti-spoofing: of frames that end before any rule too, only who may send teaches the switch. */
static void test_no_frame_steals_a_mac(void)
{
    enum { VERSION = DP_VNET_HEADER + 14 };
    struct net n;
    struct bytes f, malformed, later, first;

    if (!make(&n, 1))
        return;
    f = udp(everybody, UPLINK, 9, 255, 53, 0);
    put(&n, UPLINK, 0, &f);
    COMES(&n, A, &f);
    COMES(&n, B, &f);
    malformed = udp(macs[B], UPLINK, 1, 2, 53, 0);
    malformed.byte[VERSION] = 0x65;
    put(&n, A, 0, &malformed);
    later = udp(macs[B], UPLINK, 1, 2, 53, 3); /* a fragment that would wait */
    put(&n, A, 0, &later);
    f = udp(macs[B], UPLINK, 1, 2, 53, 0); /* with an address of its own */
    put(&n, A, 0, &f);
    NOTHING(&n, B);
    CHECK_EQUAL(invalid(&n, A, DP_EGRESS), 3); /* all for their sender */
    f = udp(macs[UPLINK], B, 2, 9, 53, 0);
    put(&n, B, 0, &f);
    COMES(&n, UPLINK, &f);
    NOTHING(&n, A);
    /* Each fragment by its own sender, though its datagram was allowed. */
    first = udp(macs[UPLINK], A, 1, 9, 53, 0x2000);
    put(&n, A, 0, &first);
    COMES(&n, UPLINK, &first);
    later = udp(macs[UPLINK], B, 1, 9, 53, 5);
    put(&n, A, 0, &later);
    NOTHING(&n, UPLINK);
    memcpy(later.byte + DP_VNET_HEADER + 6, macs[A], 6);
    put(&n, A, 0, &later);
    COMES(&n, UPLINK, &later);
    CHECK_EQUAL(invalid(&n, A, DP_EGRESS), 4);
    unmake(&n);
}

/* Nobody comes in by an uplink with the address, or a MAC that is known, of an instance here; nor does it teach. */
static void test_nobody_outside_is_an_instance_here(void)
{
    struct dp_port told = {.zone = A, .guarded = 1, .has_mac = 1};
    struct net n;
    struct bytes f;

    if (!make(&n, 1))
        return;
    memcpy(told.mac, macs[A], 6);
    CHECK_EQUAL(stands_behind(&n, A, &told), 0);
    f = udp(everybody, B, 2, 255, 53, 0);
    put(&n, B, 0, &f);
    COMES(&n, UPLINK, &f);
    COMES(&n, A, &f);
    f = udp(macs[B], UPLINK, 1, 2, 53, 0); /* A's address */
    put(&n, UPLINK, 0, &f);
    NOTHING(&n, B);
    CHECK_EQUAL(invalid(&n, B, DP_INGRESS), 1);
    f = udp(everybody, UPLINK, 1, 255, 53, 0); /* to all: told of A */
    put(&n, UPLINK, 0, &f);
    NOTHING(&n, B);
    CHECK_EQUAL(invalid(&n, UPLINK, DP_EGRESS), 1);
    f = udp(macs[B], A, 9, 2, 53, 0); /* A's MAC */
    put(&n, UPLINK, 0, &f);
    f = udp(macs[A], B, 9, 1, 53, 0); /* B's */
    put(&n, UPLINK, 0, &f);
    NOTHING(&n, B);
    NOTHING(&n, A);
    CHECK_EQUAL(invalid(&n, B, DP_INGRESS), 2);
    CHECK_EQUAL(invalid(&n, A, DP_INGRESS), 1);
    f = udp(macs[B], UPLINK, 9, 2, 53, 0);
    put(&n, UPLINK, 0, &f);
    COMES(&n, B, &f);
    /* Who has no port here any more may be anywhere. */
    CHECK_EQUAL(dp_firewall_remove_port(n.firewall, A), 0);
    f = udp(macs[B], A, 1, 2, 53, 0);
    put(&n, UPLINK, 0, &f);
    COMES(&n, B, &f);
    unmake(&n);
}

/* The answers of one port's checks, by verdict and reason. */
static uint64_t answered(const struct net *n, uint32_t port, enum dp_direction direction, enum dp_verdict verdict,
                         enum dp_reason reason)
{
    struct dp_port_counters c;

    dp_firewall_port_counters(n->firewall, port, &c);
    return c.check[direction][verdict][reason].packets;
}

/* A, whose balancer (10.0.0.77, with the uplink's MAC) is behind the third port; B's port is an uplink. */
static bool make_balanced(struct net *n)
{
    struct dp_port balancer = {.zone = DP_ZONE_NONE, .balancer = 1, .has_mac = 1}, outside = {.zone = DP_ZONE_NONE};
    struct dp_holding holdings[2] = {{{{10, 0, 0, 1}, 32}, 4, A, 0}, {{{10, 0, 0, 2}, 32}, 4, B, 0}};
    struct dp_balancer_address address = {{10, 0, 0, 77}, 4, 1, 1};
    struct dp_mac mac = {.balancer = 1, .has_port = 1};
    struct dp_backend backend = {1, A};

    if (!make(n, 1))
        return false;
    memcpy(mac.mac, macs[UPLINK], 6);
    memcpy(balancer.mac, macs[UPLINK], 6);
    dp_endpoints_free(n->endpoints);
    return CHECK_EQUAL(dp_endpoints_new(holdings, 2, &mac, 1, &address, 1, &backend, 1, &n->endpoints), 0) &&
           CHECK_EQUAL(put_in_force(n, NULL, 0, NULL), 0) && CHECK_EQUAL(stands_behind(n, UPLINK, &balancer), 0) &&
           CHECK_EQUAL(stands_behind(n, B, &outside), 0);
}

/* SPEC 3.5: a balancer that has a port counts only there, and its MAC leads there before it has said anything. */
static void test_a_balancer_counts_only_at_its_port(void)
{
    struct net n;
    struct bytes f;

    if (!make_balanced(&n))
        return;
    f = udp(macs[UPLINK], A, 1, 77, 54, 0);
    put(&n, A, 0, &f);
    COMES(&n, UPLINK, &f);
    NOTHING(&n, B);
    CHECK_EQUAL(answered(&n, A, DP_EGRESS, DP_ALLOW, DP_REASON_LOAD_BALANCER), 1);
    /* With a client's address, to a port that no rule opens. */
    f = udp(macs[A], UPLINK, 200, 1, 54, 0);
    put(&n, UPLINK, 0, &f);
    COMES(&n, A, &f);
    CHECK_EQUAL(answered(&n, A, DP_INGRESS, DP_ALLOW, DP_REASON_LOAD_BALANCER), 1);
    /* To its address by another port: the rules decide. */
    f = udp(macs[B], B, 9, 99, 53, 0);
    put(&n, B, 0, &f);
    COMES(&n, UPLINK, &f);
    COMES(&n, A, &f);
    f = udp(macs[B], A, 1, 77, 54, 0);
    put(&n, A, 0, &f);
    COMES(&n, B, &f);
    CHECK_EQUAL(answered(&n, A, DP_EGRESS, DP_ALLOW, DP_REASON_LOAD_BALANCER), 1);
    CHECK_EQUAL(answered(&n, A, DP_EGRESS, DP_ALLOW, DP_REASON_RULE), 1);
    unmake(&n);
}

/* Nobody else is it, whatever the rules: by its address or its MAC, from outside or from an instance's port. */
static void test_nobody_else_is_a_balancer_that_has_a_port(void)
{
    static const struct dp_port others[] = {
        {.zone = DP_ZONE_NONE}, {.zone = B, .guarded = 0}, {.zone = B, .guarded = 1}};
    struct net n;
    struct bytes f;

    if (!make_balanced(&n))
        return;
    f = udp(macs[UPLINK], A, 1, 200, 54, 0);
    put(&n, A, 0, &f);
    COMES(&n, UPLINK, &f);
    for (uint32_t i = 0; i < sizeof others / sizeof *others; i++) {
        int own = others[i].zone == B ? 2 : 9;

        CHECK_EQUAL(stands_behind(&n, B, &others[i]), 0);
        f = udp(macs[A], B, 77, 1, 53, 0); /* its address */
        put(&n, B, 0, &f);
        f = udp(macs[A], UPLINK, own, 1, 53, 0); /* its MAC */
        put(&n, B, 0, &f);
        NOTHING(&n, A);
        f = udp(macs[UPLINK], A, 1, 200, 54, 0); /* which leads where it did */
        put(&n, A, 0, &f);
        COMES(&n, UPLINK, &f);
        NOTHING(&n, B);
    }
    CHECK_EQUAL(invalid(&n, A, DP_INGRESS), 2);
    CHECK_EQUAL(invalid(&n, B, DP_EGRESS), 4);
    /* It is asked of who speaks as it, not of all. */
    f = udp(macs[A], B, 2, 1, 53, 0);
    put(&n, B, 0, &f);
    COMES(&n, A, &f);
    unmake(&n);
}

/* SPEC 2: nobody knows yet where a virtual MAC is: a frame to it reaches who may have it, and no other. */
static void test_a_frame_to_a_virtual_mac_reaches_who_may_have_it(void)
{
    static const uint8_t virtual_mac[6] = {0, 0, 0x5e, 0, 1, 7};
    struct dp_holding holdings[3] = {
        {{{10, 0, 0, 1}, 32}, 4, A, 0}, {{{10, 0, 0, 2}, 32}, 4, B, 0}, {{{10, 0, 0, 9}, 32}, 4, A, 1}};
    struct dp_mac pair = {.zone = A, .family = 4, .pair = {{10, 0, 0, 9}, 32}};
    struct net n;
    struct bytes f;

    if (!make(&n, 1))
        return;
    memcpy(pair.mac, virtual_mac, 6);
    dp_endpoints_free(n.endpoints);
    CHECK_EQUAL(dp_endpoints_new(holdings, 3, &pair, 1, NULL, 0, NULL, 0, &n.endpoints), 0);
    CHECK_EQUAL(put_in_force(&n, NULL, 0, NULL), 0);
    for (int port = A; port <= B; port++) {
        struct dp_port told = {.zone = port, .guarded = 1, .has_mac = 1};

        memcpy(told.mac, macs[port], 6);
        CHECK_EQUAL(stands_behind(&n, (uint32_t)port, &told), 0);
    }
    f = udp(virtual_mac, UPLINK, 8, 9, 53, 0);
    put(&n, UPLINK, 0, &f);
    COMES(&n, A, &f);
    NOTHING(&n, B);
    f = udp(macs[UPLINK], A, 9, 8, 99, 0); /* its holder speaks by it: known from now on */
    memcpy(f.byte + DP_VNET_HEADER + 6, virtual_mac, 6);
    put(&n, A, 0, &f);
    COMES(&n, UPLINK, &f);
    f = udp(virtual_mac, B, 2, 9, 53, 0);
    put(&n, B, 0, &f);
    COMES(&n, A, &f);
    NOTHING(&n, UPLINK);
    unmake(&n);
}

/* An instance's own request of RARP (SPEC 4.8) leaves it, to nobody but uplinks, and teaches the switch. */
static void test_a_machine_that_has_moved_announces_itself(void)
{
    struct dp_port told = {.zone = A, .guarded = 1, .has_mac = 1};
    struct net n;
    struct bytes f, rarp;

    if (!make(&n, 1))
        return;
    memcpy(told.mac, macs[A], 6);
    CHECK_EQUAL(stands_behind(&n, A, &told), 0);
    rarp = udp(everybody, B, 2, 255, 53, 0);
    memset(rarp.byte + DP_VNET_HEADER + 12, 0, sizeof rarp.byte - DP_VNET_HEADER - 12);
    memcpy(rarp.byte + DP_VNET_HEADER + 12, "\x80\x35\0\1\x08\0\6\4\0\3", 10);
    memcpy(rarp.byte + DP_VNET_HEADER + 22, macs[B], 6);
    memcpy(rarp.byte + DP_VNET_HEADER + 32, macs[B], 6);
    rarp.size = DP_VNET_HEADER + 60;
    put(&n, B, 0, &rarp);
    COMES(&n, UPLINK, &rarp);
    NOTHING(&n, A);
    f = udp(macs[B], UPLINK, 9, 2, 53, 0);
    put(&n, UPLINK, 0, &f);
    COMES(&n, B, &f);
    NOTHING(&n, A);
    /* Another's, a reply, and one with something behind it. */
    memcpy(rarp.byte + DP_VNET_HEADER + 22, macs[UPLINK], 6);
    put(&n, B, 0, &rarp);
    memcpy(rarp.byte + DP_VNET_HEADER + 22, macs[B], 6);
    rarp.byte[DP_VNET_HEADER + 21] = 4;
    put(&n, B, 0, &rarp);
    rarp.byte[DP_VNET_HEADER + 21] = 3;
    rarp.size = DP_VNET_HEADER + 70;
    put(&n, B, 0, &rarp);
    NOTHING(&n, UPLINK);
    CHECK_EQUAL(invalid(&n, B, DP_EGRESS), 1);
    unmake(&n);
}

static void test_a_fragment_waits_for_its_first(void)
{
    struct net n;
    struct bytes first, later;

    if (!make(&n, 1))
        return;
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
        dp_firewall_port_counters(n->firewall, (uint32_t)port, &c);
        if (c.received.packets < frames)
            poll(NULL, 0, 1);
    }
    CHECK_EQUAL(c.received.packets, frames);
}

/* Each port has its say, so that the switch knows where its station is. */
static bool make_known(struct net *n, uint32_t workers)
{
    if (!make(n, workers))
        return false;
    for (int port = 0; port < PORTS; port++) {
        struct bytes f = udp(macs[port], port, port == UPLINK ? 9 : port + 1, 8, 54, 0);

        put(n, port, 0, &f);
        taken(n, port, 1);
        if (port != UPLINK)
            COMES(n, UPLINK, &f);
    }
    return true;
}

/* SPEC 4.6: later fragments that come first wait for it, whoever else takes places. */
static void test_places_to_wait_are_shared_by_port(void)
{
    struct dp_port_counters c;
    struct dp_counters counters;
    struct bytes f, later, first;
    struct net n;

    if (!make_known(&n, 1))
        return;
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
    dp_firewall_port_counters(n.firewall, A, &c);
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

    if (!make_known(&n, 1))
        return;
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

    if (!make_known(&n, 1))
        return;
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

    if (!make_known(&n, 1) || !CHECK_EQUAL(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair), 0))
        return;
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
static void test_what_is_held_goes_with_the_instance_of_its_port(void)
{
    struct dp_port port = {.zone = 1, .guarded = 1};
    struct bytes later, first;
    struct net n;

    if (!make_known(&n, 1))
        return;
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

static void test_two_workers_share_connections(void)
{
    struct net n;

    if (!make(&n, 2))
        return;
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

static void test_a_change_cuts_what_is_inbound(void)
{
    static const uint32_t zone[1] = {0};
    struct dp_connection_filter all = {.zone = -1, .origin = -1, .protocol = -1, .disconnected = -1};
    struct net n;
    uint64_t cut[1] = {0};

    if (!make(&n, 1))
        return;
    struct bytes in = udp(macs[A], UPLINK, 9, 1, 53, 0), out = udp(everybody, A, 1, 7, 99, 0);
    put(&n, UPLINK, 0, &in);
    COMES(&n, A, &in);
    put(&n, A, 0, &out);
    COMES(&n, UPLINK, &out);
    struct dp_policy_update rehearsed = {.cut = zone, .n_cut = 1, .disconnected = cut};
    CHECK_EQUAL(dp_plane_rehearse(dp_firewall_plane(n.firewall), &rehearsed), 0);
    CHECK_EQUAL(cut[0], 1);
    cut[0] = 0;
    CHECK_EQUAL(put_in_force(&n, zone, 1, cut), 0);
    CHECK_EQUAL(cut[0], 1);
    put(&n, UPLINK, 0, &in);
    NOTHING(&n, A);
    put(&n, A, 0, &out);
    COMES(&n, UPLINK, &out);
    all.disconnected = 1;
    CHECK_EQUAL(dp_plane_count(dp_firewall_plane(n.firewall), &all, NULL), 1);
    CHECK_EQUAL(dp_plane_flush(dp_firewall_plane(n.firewall), &all), 1);
    put(&n, UPLINK, 0, &in);
    COMES(&n, A, &in);
    unmake(&n);
}

static void test_a_connection_that_is_kept_after_all_is_told(void)
{
    static const uint32_t zone[1] = {0};
    static uint8_t items[65536];
    struct dp_feed_item item;
    struct net n;
    uint32_t cut = 0, kept = 0;

    if (!make(&n, 1))
        return;
    n.config.reevaluate = 1;
    struct bytes in = udp(macs[A], UPLINK, 9, 1, 53, 0);
    put(&n, UPLINK, 0, &in);
    COMES(&n, A, &in);
    dp_firewall_watch(n.firewall, DP_FEED_CONNECTIONS, -1);
    CHECK_EQUAL(put_in_force(&n, zone, 1, NULL), 0);
    put(&n, UPLINK, 0, &in);
    COMES(&n, A, &in);
    int64_t used = dp_firewall_feed(n.firewall, items, sizeof items);
    for (int64_t at = 0; at < used; at += item.size) {
        memcpy(&item, items + at, sizeof item);
        cut += item.event == DP_EVENT_UPDATE && item.connection.disconnected;
        kept += item.event == DP_EVENT_UPDATE && !item.connection.disconnected;
    }
    CHECK_EQUAL(cut, 1);
    CHECK_EQUAL(kept, 1);
    unmake(&n);
}

static void test_saved_connections_come_back(void)
{
    struct dp_connection_filter all = {.zone = 0, .origin = -1, .protocol = -1, .disconnected = -1};
    struct dp_saved_connection saved[8];
    struct net before, after;
    uint64_t cursor = 0;

    if (!make(&before, 1))
        return;
    struct bytes in = udp(macs[A], UPLINK, 9, 1, 53, 0), reply = udp(everybody, A, 1, 9, 99, 0);
    put(&before, UPLINK, 0, &in);
    COMES(&before, A, &in);
    int n = dp_plane_save(dp_firewall_plane(before.firewall), NULL, &cursor, saved, 8);
    CHECK_EQUAL(n, 2); /* in A's zone and, as the frame was for everybody, in B's */
    CHECK_EQUAL(dp_plane_save(dp_firewall_plane(before.firewall), NULL, &cursor, saved + n, 1), 0);
    unmake(&before);
    if (!make(&after, 2))
        return;
    CHECK_EQUAL(dp_plane_restore(dp_firewall_plane(after.firewall), saved, (uint32_t)n, UINT64_C(31000000000)), 0);
    CHECK_EQUAL(dp_plane_restore(dp_firewall_plane(after.firewall), saved, (uint32_t)n, UINT64_C(1000000000)), 2);
    CHECK_EQUAL(dp_plane_restore(dp_firewall_plane(after.firewall), saved, (uint32_t)n, 0), 0); /* in already */
    saved[0].zone = 5;
    saved[1].state = DP_CONN_TCP_ESTABLISHED;
    saved[1].remote_port = 1234;
    CHECK_EQUAL(dp_plane_restore(dp_firewall_plane(after.firewall), saved, (uint32_t)n, 0), 0);
    CHECK_EQUAL(dp_plane_count(dp_firewall_plane(after.firewall), &all, NULL), 1);
    put(&after, A, 0, &reply);
    COMES(&after, UPLINK, &reply);
    all.origin = DP_INBOUND;
    CHECK_EQUAL(dp_plane_count(dp_firewall_plane(after.firewall), &all, NULL),
                1); /* the reply opened none of its own */
    unmake(&after);
}

static void test_the_feed_tells_what_is_asked(void)
{
    static uint8_t items[65536];
    struct dp_feed_item item;
    struct net n;

    if (!make(&n, 1))
        return;
    struct bytes f = udp(macs[A], UPLINK, 9, 1, 53, 0);
    put(&n, UPLINK, 0, &f);
    COMES(&n, A, &f);
    CHECK_EQUAL(dp_firewall_feed(n.firewall, items, sizeof items), 0);
    dp_firewall_watch(n.firewall, DP_FEED_DENIED | DP_FEED_CONNECTIONS, -1);
    f = udp(macs[B], A, 1, 2, 54, 0);
    put(&n, A, 0, &f);
    struct pollfd ready = {dp_firewall_feed_fd(n.firewall), POLLIN, 0};
    CHECK_EQUAL(poll(&ready, 1, WAIT_MS), 1);
    int64_t used = dp_firewall_feed(n.firewall, items, sizeof items);
    uint32_t denied = 0, connections = 0;
    for (int64_t at = 0; at < used; at += item.size) {
        memcpy(&item, items + at, sizeof item);
        denied += item.kind == DP_FEED_DENIED && item.record.verdict == DP_DENY && item.flow.destination_port == 54;
        connections += item.kind == DP_FEED_CONNECTIONS && item.event == DP_EVENT_NEW;
    }
    CHECK_EQUAL(denied, 1);      /* at B's ingress: it is unknown to the switch, so for everybody */
    CHECK_EQUAL(connections, 1); /* A's egress was allowed */
    dp_firewall_watch(n.firewall, 0, -1);
    unmake(&n);
}

static uint64_t feed_lost(const struct net *n, int kind)
{
    struct dp_worker_counters c;

    dp_firewall_worker_counters(n->firewall, 0, &c);
    return c.feed_lost[kind];
}

/* What is lost is counted by its kind, for those who wanted that. */
static void test_a_full_feed_counts_what_it_lost_by_kind(void)
{
    enum { DENIED, CONNECTIONS, FRAMES, MOST = 200000 };
    struct net n;

    if (!make(&n, 1))
        return;
    struct bytes f = udp(macs[A], UPLINK, 9, 1, 54, 0);
    struct pollfd writable = {n.ours[UPLINK][0], POLLOUT, 0};
    dp_firewall_watch(n.firewall, DP_FEED_FRAMES, -1);
    for (int sent = 0; sent < MOST && (sent % 256 || !feed_lost(&n, FRAMES)); sent++) {
        CHECK_EQUAL(poll(&writable, 1, WAIT_MS), 1);
        put(&n, UPLINK, 0, &f);
    }
    CHECK(feed_lost(&n, FRAMES) > 0);
    CHECK_EQUAL(feed_lost(&n, DENIED), 0);
    dp_firewall_watch(n.firewall, DP_FEED_DENIED, -1);
    for (int waited = 0; waited < WAIT_MS && !feed_lost(&n, DENIED); waited++) {
        put(&n, UPLINK, 0, &f);
        poll(NULL, 0, 1);
    }
    CHECK(feed_lost(&n, DENIED) > 0);
    CHECK_EQUAL(feed_lost(&n, CONNECTIONS), 0);
    unmake(&n);
}

static void test_ports_come_and_go(void)
{
    struct dp_port uplink = {.zone = DP_ZONE_NONE};
    struct net n;
    struct bytes f;

    if (!make(&n, 1))
        return;
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

    if (!make(&n, 1))
        return;
    struct bytes question = udp(macs[A], UPLINK, 9, 1, 53, 0), answer = udp(macs[UPLINK], A, 1, 9, 99, 0);
    put(&n, UPLINK, 0, &question);
    COMES(&n, A, &question);
    put(&n, A, 0, &answer);
    COMES(&n, UPLINK, &answer);
    CHECK_EQUAL(dp_firewall_remove_port(n.firewall, UPLINK), 0);
    close(n.theirs[UPLINK][0]);
    CHECK_EQUAL(recv(n.ours[UPLINK][0], &byte, 1, MSG_DONTWAIT), 0);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, other) < 0 ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair) < 0)
        return;
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

    if (!make(&n, 1))
        return;
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

    if (!make(&n, 1))
        return;
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
    test_forwarding();
    test_the_table_is_there_from_the_start();
    test_rings_know_the_arena();
    test_bursts_are_counted_by_size();
    test_a_conversation_finds_the_worker_awake();
    test_other_senders_are_refused();
    test_no_frame_steals_a_mac();
    test_nobody_outside_is_an_instance_here();
    test_a_balancer_counts_only_at_its_port();
    test_nobody_else_is_a_balancer_that_has_a_port();
    test_a_frame_to_a_virtual_mac_reaches_who_may_have_it();
    test_a_machine_that_has_moved_announces_itself();
    test_a_fragment_waits_for_its_first();
    test_places_to_wait_are_shared_by_port();
    test_places_behind_one_port_are_shared_too();
    test_fragments_for_everybody_wait_at_each_port();
    test_ports_do_not_mix_their_fragments();
    test_what_is_held_goes_with_the_instance_of_its_port();
    test_two_workers_share_connections();
    test_a_change_cuts_what_is_inbound();
    test_a_connection_that_is_kept_after_all_is_told();
    test_saved_connections_come_back();
    test_the_feed_tells_what_is_asked();
    test_a_full_feed_counts_what_it_lost_by_kind();
    test_ports_come_and_go();
    test_a_descriptor_is_used_again();
    test_many_frames();
    test_a_ring_that_fails();
}

int main(void)
{
    static uint8_t memory[DP_ARENA_BYTES];
    struct dp_uring ring;

    test_all();
    with_uring = dp_uring_open(&ring, memory, sizeof memory) == 0;
    if (with_uring) {
        with_buffer = ring.buffer_bytes != 0;
        dp_uring_close(&ring);
        test_all();
    } else
        fprintf(stderr, "test_firewall: no io_uring here (%s), tested without\n", strerror(ring.error));
    return check_result("test_firewall");
}
