/*
 * live_net.h: a firewall whose ports are socket pairs: they keep frames apart as a TAP does.
 *
 * Two instances (zones 0 and 1, 10.0.0.1 and 10.0.0.2) and an uplink. UDP to port 53 may enter instances, everything
 * may leave them. The test's end of each pair is what the instance, or the world, would hold. A program's tests are run
 * twice: with one system call a frame, and through io_uring where the kernel gives it.
 */
#ifndef DP_TEST_LIVE_NET_H
#define DP_TEST_LIVE_NET_H

#include "check.h"
#include "io/firewall.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { A, B, UPLINK, PORTS, QUIET_MS = 150, WAIT_MS = 60000 };

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

static inline struct dp_conntrack_config settings(void)
{
    struct dp_conntrack_config config = {.max_entries = 1000};

    for (int s = 0; s < DP_CONN_STATES; s++)
        config.timeout_ns[s] = 3600000000000u; /* an hour: time is the machine's */
    config.tentative[DP_CONN_OTHER_ONE_WAY] = 1;
    return config;
}

static inline int put_in_force_with(struct net *n, const struct dp_port_update *ports, uint32_t n_ports,
                                    const uint32_t *cut, uint32_t n_cut, uint64_t *disconnected)
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

static inline int put_in_force(struct net *n, const uint32_t *cut, uint32_t n_cut, uint64_t *disconnected)
{
    return put_in_force_with(n, NULL, 0, cut, n_cut, disconnected);
}

/* Something else stands behind a port from now on. */
static inline int stands_behind(struct net *n, uint32_t number, const struct dp_port *port)
{
    struct dp_port_update update = {number, *port};

    return put_in_force_with(n, &update, 1, NULL, 0, NULL);
}

/* With `workers` running; what cannot be made ends the program, red. */
static inline void make(struct net *n, uint32_t workers)
{
    static const uint64_t seed[2] = {1, 2};
    struct dp_selector selectors[2] = {{17 << 16 | 53, 17 << 16 | 53}, {0, 0xffffff}};
    struct dp_rule rules[2] = {{1, DP_REMOTE_ANY, 0, 1, DP_ALLOW}, {2, DP_REMOTE_ANY, 1, 1, DP_ALLOW}};
    struct dp_holding holdings[2] = {{{{10, 0, 0, 1}, 32}, 4, 0, 0}, {{{10, 0, 0, 2}, 32}, 4, 1, 0}};

    memset(n, 0, sizeof *n);
    n->workers = workers;
    n->config = settings();
    REQUIRE(dp_firewall_new(&n->config, seed, workers, &n->firewall) == 0);
    REQUIRE(dp_endpoints_new(holdings, 2, NULL, 0, NULL, 0, NULL, 0, &n->endpoints) == 0);
    for (int d = 0; d < 2; d++)
        REQUIRE(dp_rule_table_new(4, &rules[d], 1, NULL, 0, NULL, 0, selectors, 2, &n->table[d]) == 0);
    dp_firewall_want_uring(n->firewall, with_uring);
    CHECK_EQUAL(dp_firewall_start(n->firewall), DP_E_ARGUMENT); /* no policy yet */
    REQUIRE(put_in_force(n, NULL, 0, NULL) == 0);
    for (int p = 0; p < PORTS; p++) {
        struct dp_port port = {.zone = p == UPLINK ? DP_ZONE_NONE : p, .guarded = p != UPLINK};
        int fd[2] = {-1, -1};

        for (uint32_t w = 0; w < workers; w++) {
            int pair[2];

            REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair) == 0);
            n->ours[p][w] = pair[0];
            n->theirs[p][w] = fd[w] = pair[1];
        }
        REQUIRE(dp_firewall_add_port(n->firewall, &port, fd) == p);
    }
    CHECK_EQUAL(dp_firewall_uring(n->firewall), 0); /* nothing runs */
    REQUIRE(dp_firewall_start(n->firewall) == 0);
    CHECK_EQUAL(dp_firewall_uring(n->firewall), with_uring);
}

static inline void unmake(struct net *n)
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

static inline struct bytes udp(const uint8_t *to, int from, int source, int destination, uint16_t port,
                               uint16_t fragment)
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

static inline void put(const struct net *n, int port, uint32_t queue, const struct bytes *f)
{
    CHECK_EQUAL(write(n->ours[port][queue], f->byte, f->size), f->size);
}

/* Whether this frame comes out of a port, from any queue; and nothing when none should. */
static inline bool comes(const struct net *n, int port, const struct bytes *f, int wait_ms)
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

static inline uint64_t dropped(const struct net *n, uint32_t port, enum dp_port_drop why)
{
    struct dp_port_counters c;

    dp_firewall_port_counters(n->firewall, port, 1, &c);
    return c.drop[why];
}

/* Runs the tests both ways; returns the program's exit status. */
static inline int run_both_ways(void (*tests)(void), const char *name)
{
    static uint8_t memory[DP_ARENA_BYTES];
    struct dp_uring ring;

    tests();
    with_uring = dp_uring_open(&ring, memory, sizeof memory) == 0;
    if (with_uring) {
        with_buffer = ring.buffer_bytes != 0;
        dp_uring_close(&ring);
        tests();
    } else {
        fprintf(stderr, "%s: no io_uring here (%s), tested without\n", name, strerror(ring.error));
    }
    return check_result(name);
}

#endif
