/*
 * test_whole_change.c: a policy and what stands behind its ports are in force as one (SPEC 5.1): two policies are put
 * in force in turn while frames come that one of them, but never both or neither, would answer otherwise than expected.
 *
 *            ingress of A, B    egress of A   MACs of A, B   port U              backends of balancer 1
 *   policy 0 A: udp/53, B: -    udp/61        one, two       balancer 1          D, which has no port
 *   policy 1 A: -, B: udp/53    udp/60        two, one       the world outside   C, which no rule lets in
 *
 * By both, frames from U to C are denied, those from U to the MAC `one` for port 53 pass, and none from A with the MAC
 * `one` for port 60 leaves it. Each of the three has another answer where the rules are those of one policy and the
 * balancers, the switch's way or the guards of ports those of the other.
 */
#include "check.h"
#include "io/firewall.h"

#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

enum { A, B, C, U, PORTS, D = 3, ZONES, WORKERS = 2, CHANGES = 1000, FRAME = DP_VNET_HEADER + 14 + 20 + 8 + 32 };

static const uint8_t one[6] = {2, 0, 0, 0, 0, 1}, two[6] = {2, 0, 0, 0, 0, 2}, three[6] = {2, 0, 0, 0, 0, 3},
                     outside[6] = {2, 0, 0, 0, 0, 9};

struct net {
    struct dp_firewall *firewall;
    struct dp_conntrack_config config;
    struct dp_endpoints *endpoints[2];
    struct dp_rule_table *only53;
    struct dp_rule_table *egress[2];
    int ours[PORTS][WORKERS];
    int theirs[PORTS][WORKERS];
    atomic_bool ended;
};

static struct dp_rule_table *only(uint32_t number, uint32_t port)
{
    struct dp_selector selector = {17 << 16 | port, 17 << 16 | port};
    struct dp_rule rule = {number, DP_REMOTE_ANY, 0, 1, DP_ALLOW};
    struct dp_rule_table *table = NULL;

    CHECK_EQUAL(dp_rule_table_new(4, &rule, 1, NULL, 0, NULL, 0, &selector, 1, &table), 0);
    return table;
}

static void describe(struct dp_port_update ports[PORTS], int policy)
{
    const uint8_t *mac[PORTS] = {policy ? two : one, policy ? one : two, three, NULL};

    for (uint32_t p = 0; p < PORTS; p++) {
        ports[p] = (struct dp_port_update){.number = p, .port = {.zone = p == U ? DP_ZONE_NONE : (int32_t)p}};
        ports[p].port.guarded = ports[p].port.has_mac = p != U;
        ports[p].port.balancer = p == U && policy == 0;
        if (mac[p])
            memcpy(ports[p].port.mac, mac[p], 6);
    }
}

static int put_in_force(struct net *n, int policy, uint32_t n_ports)
{
    struct dp_port_update ports[PORTS];
    struct dp_zone_tables zones[ZONES] = {{.zone = A}, {.zone = B}, {.zone = C}, {.zone = D}};
    struct dp_policy_update update = {.zones = zones,
                                      .n_zones = ZONES,
                                      .endpoints = n->endpoints[policy],
                                      .config = &n->config,
                                      .ports = ports,
                                      .n_ports = n_ports};

    zones[policy ? B : A].table[DP_INGRESS][0] = n->only53;
    zones[A].table[DP_EGRESS][0] = n->egress[policy];
    describe(ports, policy);
    return dp_firewall_update(n->firewall, &update);
}

static bool make(struct net *n)
{
    static const uint64_t seed[2] = {1, 2};
    struct dp_holding holdings[] = {{{{10, 0, 0, 1}, 32}, 4, A, 0},
                                    {{{10, 0, 0, 2}, 32}, 4, B, 0},
                                    {{{10, 0, 0, 3}, 32}, 4, C, 0},
                                    {{{10, 0, 0, 4}, 32}, 4, D, 0}};
    struct dp_port_update ports[PORTS];

    memset(n, 0, sizeof *n);
    n->config.max_entries = 1000;
    for (int s = 0; s < DP_CONN_STATES; s++)
        n->config.timeout_ns[s] = 3600000000000u; /* an hour: time is the machine's */
    n->config.tentative[DP_CONN_OTHER_ONE_WAY] = 1;
    for (int policy = 0; policy < 2; policy++) {
        struct dp_backend backend = {1, policy ? C : D};

        CHECK_EQUAL(dp_endpoints_new(holdings, 4, NULL, 0, NULL, 0, &backend, 1, &n->endpoints[policy]), 0);
        n->egress[policy] = only(2, policy ? 60 : 61);
    }
    n->only53 = only(1, 53);
    if (!CHECK_EQUAL(dp_firewall_new(&n->config, seed, WORKERS, &n->firewall), 0) ||
        !CHECK_EQUAL(put_in_force(n, 0, 1), DP_E_ARGUMENT) || /* there is no port yet */
        !CHECK_EQUAL(put_in_force(n, 0, 0), 0))
        return false;
    describe(ports, 0);
    for (int p = 0; p < PORTS; p++) {
        for (int w = 0; w < WORKERS; w++) {
            int pair[2];

            if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair) < 0)
                return false;
            n->ours[p][w] = pair[0];
            n->theirs[p][w] = pair[1];
        }
        if (!CHECK_EQUAL(dp_firewall_add_port(n->firewall, &ports[p].port, n->theirs[p]), p))
            return false;
    }
    return CHECK_EQUAL(dp_firewall_start(n->firewall), 0);
}

static void unmake(struct net *n)
{
    dp_firewall_free(n->firewall);
    dp_rule_table_free(n->only53);
    for (int policy = 0; policy < 2; policy++) {
        dp_endpoints_free(n->endpoints[policy]);
        dp_rule_table_free(n->egress[policy]);
    }
    for (int p = 0; p < PORTS; p++)
        for (int w = 0; w < WORKERS; w++) {
            close(n->ours[p][w]);
            close(n->theirs[p][w]);
        }
}

/* A UDP packet; `source` is the end of the sender's address, of 10.1.0.0/16 unless it is an instance's. */
static void send_udp(const struct net *n, int from, const uint8_t *from_mac, const uint8_t *to_mac, uint16_t source,
                     uint8_t destination, uint8_t port)
{
    uint8_t frame[FRAME] = {0}, *p = frame + DP_VNET_HEADER;

    memcpy(p, to_mac, 6);
    memcpy(p + 6, from_mac, 6);
    p[12] = 8;
    p += 14;
    p[0] = 0x45;
    p[3] = 20 + 8 + 32;
    p[8] = 64;
    p[9] = 17;
    memcpy(p + 12, (uint8_t[]){10, from == U, (uint8_t)(source >> 8), (uint8_t)source, 10, 0, 0, destination}, 8);
    p += 20;
    p[1] = 99;
    p[3] = port;
    p[5] = 8 + 32;
    while (write(n->ours[from][source % WORKERS], frame, sizeof frame) < 0 && !n->ended)
        sched_yield();
}

static void *sender(void *argument)
{
    struct net *n = argument;

    for (uint16_t i = 0; !n->ended; i++) {
        send_udp(n, U, outside, three, i, 3, 54);
        send_udp(n, U, outside, one, i, 1, 53);
        send_udp(n, A, one, outside, 1, 9, 60);
    }
    return NULL;
}

static uint64_t checks(const struct net *n, uint32_t port, enum dp_direction direction, enum dp_verdict verdict)
{
    struct dp_port_counters c;
    uint64_t sum = 0;

    CHECK_EQUAL(dp_firewall_port_counters(n->firewall, port, 1, &c), 0);
    for (int r = 0; r < DP_REASONS; r++)
        sum += c.check[direction][verdict][r].packets;
    return sum;
}

static void test_no_frame_sees_half_of_a_change(void)
{
    struct dp_port_counters c;
    pthread_t thread;
    struct net n;

    if (!make(&n) || !CHECK_EQUAL(pthread_create(&thread, NULL, sender, &n), 0))
        return;
    for (int i = 0; i < CHANGES || !checks(&n, C, DP_INGRESS, DP_DENY) || !checks(&n, B, DP_INGRESS, DP_ALLOW); i++)
        if (!CHECK_EQUAL(put_in_force(&n, (i + 1) % 2, PORTS), 0))
            break;
    n.ended = true;
    pthread_join(thread, NULL);
    CHECK_EQUAL(checks(&n, C, DP_INGRESS, DP_ALLOW), 0);
    CHECK_EQUAL(checks(&n, A, DP_INGRESS, DP_DENY), 0);
    CHECK_EQUAL(checks(&n, B, DP_INGRESS, DP_DENY), 0);
    CHECK(checks(&n, A, DP_INGRESS, DP_ALLOW) > 0);
    CHECK_EQUAL(checks(&n, A, DP_EGRESS, DP_ALLOW), 0);
    CHECK_EQUAL(dp_firewall_port_counters(n.firewall, A, 1, &c), 0);
    CHECK(c.check[DP_EGRESS][DP_DENY][DP_REASON_NO_RULE_MATCHED].packets > 0);
    CHECK(c.check[DP_EGRESS][DP_DENY][DP_REASON_INVALID].packets > 0);
    unmake(&n);
}

/* Nobody is behind a closed port: what comes by it is not taken, and what would go there has no way. */
static void test_a_closed_port_is_nobodys(void)
{
    struct dp_port_update ports[PORTS];
    struct dp_zone_tables zones[2] = {{.zone = A}, {.zone = B}};
    struct dp_policy_update update = {.zones = zones, .n_zones = 2, .ports = ports, .n_ports = PORTS};
    struct dp_station stations[8];
    uint64_t before;
    struct net n;

    if (!make(&n))
        return;
    update.endpoints = n.endpoints[0];
    update.config = &n.config;
    zones[A].table[DP_INGRESS][0] = zones[B].table[DP_INGRESS][0] = n.only53;
    describe(ports, 0);
    CHECK_EQUAL(dp_firewall_stations(n.firewall, stations, 8), 3);
    ports[A].port.closed = 1;
    CHECK_EQUAL(dp_firewall_update(n.firewall, &update), 0);
    CHECK_EQUAL(dp_firewall_stations(n.firewall, stations, 8), 2);
    send_udp(&n, U, outside, one, 0, 1, 53);
    send_udp(&n, A, one, outside, 1, 9, 61);
    send_udp(&n, U, outside, two, 0, 2, 53);
    while (!checks(&n, B, DP_INGRESS, DP_ALLOW))
        usleep(1000);
    CHECK_EQUAL(checks(&n, A, DP_INGRESS, DP_ALLOW) + checks(&n, A, DP_EGRESS, DP_DENY), 0);
    /* Who comes to it afterwards has it as it was. */
    ports[A].port.closed = 0;
    CHECK_EQUAL(dp_firewall_update(n.firewall, &update), 0);
    before = checks(&n, A, DP_INGRESS, DP_ALLOW);
    send_udp(&n, U, outside, one, 0, 1, 53);
    while (checks(&n, A, DP_INGRESS, DP_ALLOW) == before || !checks(&n, A, DP_EGRESS, DP_DENY))
        usleep(1000);
    ports[A].port.kind = DP_PORT_PACKET;
    CHECK_EQUAL(dp_firewall_update(n.firewall, &update), DP_E_ARGUMENT);
    ports[A] = (struct dp_port_update){.number = PORTS, .port = {.zone = DP_ZONE_NONE}};
    CHECK_EQUAL(dp_firewall_update(n.firewall, &update), DP_E_ARGUMENT);
    unmake(&n);
}

int main(void)
{
    RUN(test_no_frame_sees_half_of_a_change);
    RUN(test_a_closed_port_is_nobodys);
    return check_result("test_whole_change");
}
