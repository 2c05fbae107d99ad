/* test_firewall_senders.c: who may send as whom through running workers (SPEC 4.8), and balancers behind ports
 * (SPEC 3.5). */
#include "io/firewall.h"
#include "live_net.h"

static void test_other_senders_are_refused(void)
{
    struct net n;
    struct bytes f;
    struct dp_port_counters c;

    make(&n, 1);
    f = udp(macs[UPLINK], A, 2, 9, 53, 0);
    put(&n, A, 0, &f);
    NOTHING(&n, UPLINK);
    dp_firewall_port_counters(n.firewall, A, 1, &c);
    CHECK_EQUAL(c.check[DP_EGRESS][DP_DENY][DP_REASON_INVALID].packets, 1);
    /* No IP at all. */
    f = udp(macs[UPLINK], A, 1, 9, 53, 0);
    f.byte[DP_VNET_HEADER + 12] = 0x88;
    f.byte[DP_VNET_HEADER + 13] = 0xcc;
    put(&n, A, 0, &f);
    NOTHING(&n, UPLINK);
    dp_firewall_port_counters(n.firewall, A, 1, &c);
    CHECK_EQUAL(c.check[DP_EGRESS][DP_DENY][DP_REASON_NO_RULE_MATCHED].packets, 1);
    unmake(&n);
}

static uint64_t invalid(const struct net *n, uint32_t port, enum dp_direction direction)
{
    struct dp_port_counters c;

    dp_firewall_port_counters(n->firewall, port, 1, &c);
    return c.check[direction][DP_DENY][DP_REASON_INVALID].packets;
}

/* SPEC 4.8, anti-spoofing: of frames that end before any rule too, only who may send teaches the switch. */
static void test_no_frame_steals_a_mac(void)
{
    enum { VERSION = DP_VNET_HEADER + 14 };
    struct net n;
    struct bytes f, malformed, later, first;

    make(&n, 1);
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

    make(&n, 1);
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

    dp_firewall_port_counters(n->firewall, port, 1, &c);
    return c.check[direction][verdict][reason].packets;
}

/* A, whose balancer (10.0.0.77, with the uplink's MAC) is behind the third port; B's port is an uplink. */
static void make_balanced(struct net *n)
{
    struct dp_port balancer = {.zone = DP_ZONE_NONE, .balancer = 1, .has_mac = 1}, outside = {.zone = DP_ZONE_NONE};
    struct dp_holding holdings[2] = {{{{10, 0, 0, 1}, 32}, 4, A, 0}, {{{10, 0, 0, 2}, 32}, 4, B, 0}};
    struct dp_balancer_address address = {{10, 0, 0, 77}, 4, 1, 1};
    struct dp_mac mac = {.balancer = 1, .has_port = 1};
    struct dp_backend backend = {1, A};

    make(n, 1);
    memcpy(mac.mac, macs[UPLINK], 6);
    memcpy(balancer.mac, macs[UPLINK], 6);
    dp_endpoints_free(n->endpoints);
    REQUIRE(dp_endpoints_new(holdings, 2, &mac, 1, &address, 1, &backend, 1, &n->endpoints) == 0);
    REQUIRE(put_in_force(n, NULL, 0, NULL) == 0);
    REQUIRE(stands_behind(n, UPLINK, &balancer) == 0);
    REQUIRE(stands_behind(n, B, &outside) == 0);
}

/* SPEC 3.5: a balancer that has a port counts only there, and its MAC leads there before it has said anything. */
static void test_a_balancer_counts_only_at_its_port(void)
{
    struct net n;
    struct bytes f;

    make_balanced(&n);
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

    make_balanced(&n);
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

/* SPEC 4.8: the MAC that the policy tells of an instance is no other instance's, though it has no port here. */
static void test_the_mac_of_an_instance_without_a_port_is_nobody_elses(void)
{
    struct dp_holding holdings[2] = {{{{10, 0, 0, 1}, 32}, 4, A, 0}, {{{10, 0, 0, 2}, 32}, 4, B, 0}};
    struct dp_port open = {.zone = B};
    struct dp_mac told = {.zone = A};
    struct net n;
    struct bytes f;

    make(&n, 1);
    memcpy(told.mac, macs[A], 6);
    dp_endpoints_free(n.endpoints);
    REQUIRE(dp_endpoints_new(holdings, 2, &told, 1, NULL, 0, NULL, 0, &n.endpoints) == 0);
    REQUIRE(put_in_force(&n, NULL, 0, NULL) == 0);
    CHECK_EQUAL(dp_firewall_remove_port(n.firewall, A), 0);
    f = udp(macs[UPLINK], A, 2, 9, 53, 0);
    put(&n, B, 0, &f);
    NOTHING(&n, UPLINK);
    CHECK_EQUAL(invalid(&n, B, DP_EGRESS), 1);
    /* It has moved: it speaks from outside, and is found there. */
    f = udp(macs[B], A, 1, 2, 53, 0);
    put(&n, UPLINK, 0, &f);
    COMES(&n, B, &f);
    /* Without port security another may send as it, but gets nothing of what is for it. */
    CHECK_EQUAL(stands_behind(&n, B, &open), 0);
    f = udp(macs[UPLINK], A, 2, 9, 53, 0);
    put(&n, B, 0, &f);
    COMES(&n, UPLINK, &f);
    CHECK_EQUAL(dp_mac_table_find(&n.firewall->stations, macs[A], 0, (uint32_t)(dp_firewall_now() / 1000000000u)),
                UPLINK);
    unmake(&n);
}

/* An instance whose MAC the policy does not tell keeps it while its port is made anew (docs/ports.md). */
static void test_an_instance_keeps_its_mac_while_its_port_is_made_anew(void)
{
    struct dp_port again = {.zone = A, .guarded = 1}, other = {.zone = DP_ZONE_NONE};
    struct net n;
    struct bytes f, own;
    int pair[2];

    make(&n, 1);
    own = udp(everybody, A, 1, 255, 53, 0);
    put(&n, A, 0, &own);
    COMES(&n, B, &own);
    COMES(&n, UPLINK, &own);
    CHECK_EQUAL(dp_firewall_remove_port(n.firewall, A), 0);
    f = udp(everybody, A, 2, 255, 53, 0);
    put(&n, B, 0, &f);
    NOTHING(&n, UPLINK);
    CHECK_EQUAL(invalid(&n, B, DP_EGRESS), 1);
    /* It may be outside meanwhile, but nobody there keeps it from being here again. */
    f = udp(everybody, A, 1, 255, 53, 0);
    put(&n, UPLINK, 0, &f);
    COMES(&n, B, &f);
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair) == 0);
    CHECK_EQUAL(dp_firewall_add_port(n.firewall, &other, &pair[1]), PORTS);
    CHECK_EQUAL(dp_firewall_add_port(n.firewall, &again, &n.theirs[A][0]), A);
    put(&n, A, 0, &own);
    COMES(&n, B, &own);
    COMES(&n, UPLINK, &own);
    f = udp(macs[A], B, 2, 1, 53, 0);
    put(&n, B, 0, &f);
    COMES(&n, A, &f);
    NOTHING(&n, UPLINK);
    unmake(&n);
    close(pair[0]);
    close(pair[1]);
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

    make(&n, 1);
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

    make(&n, 1);
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

static void test_all(void)
{
    RUN(test_other_senders_are_refused);
    RUN(test_no_frame_steals_a_mac);
    RUN(test_nobody_outside_is_an_instance_here);
    RUN(test_a_balancer_counts_only_at_its_port);
    RUN(test_nobody_else_is_a_balancer_that_has_a_port);
    RUN(test_the_mac_of_an_instance_without_a_port_is_nobody_elses);
    RUN(test_an_instance_keeps_its_mac_while_its_port_is_made_anew);
    RUN(test_a_frame_to_a_virtual_mac_reaches_who_may_have_it);
    RUN(test_a_machine_that_has_moved_announces_itself);
}

int main(void)
{
    return run_both_ways(test_all, "test_firewall_senders");
}
