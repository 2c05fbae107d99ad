/* test_firewall_connections.c: connections of running workers: cut by changes, saved and restored, and what the feed
 * tells of them. */
#include "live_net.h"

static void test_a_change_cuts_what_is_inbound(void)
{
    static const uint32_t zone[1] = {0};
    struct dp_connection_filter all = {.zone = -1, .origin = -1, .protocol = -1, .disconnected = -1};
    struct net n;
    uint64_t cut[1] = {0};

    make(&n, 1);
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

    make(&n, 1);
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
    uint64_t cursor = 0, outcomes[DP_RESTORED_OUTCOMES] = {0};

    make(&before, 1);
    struct bytes in = udp(macs[A], UPLINK, 9, 1, 53, 0), reply = udp(everybody, A, 1, 9, 99, 0);
    put(&before, UPLINK, 0, &in);
    COMES(&before, A, &in);
    int n = dp_plane_save(dp_firewall_plane(before.firewall), NULL, &cursor, saved, 8);
    CHECK_EQUAL(n, 2); /* in A's zone and, as the frame was for everybody, in B's */
    CHECK_EQUAL(dp_plane_save(dp_firewall_plane(before.firewall), NULL, &cursor, saved + n, 1), 0);
    unmake(&before);
    make(&after, 2);
    CHECK_EQUAL(dp_plane_restore(dp_firewall_plane(after.firewall), saved, (uint32_t)n, UINT64_C(3601000000000),
                                 DP_RESTORE_MISSING, NULL),
                0);
    CHECK_EQUAL(dp_plane_restore(dp_firewall_plane(after.firewall), saved, (uint32_t)n, UINT64_C(1000000000),
                                 DP_RESTORE_MISSING, NULL),
                2);
    CHECK_EQUAL(dp_plane_restore(dp_firewall_plane(after.firewall), saved, (uint32_t)n, 0, DP_RESTORE_MISSING, NULL),
                0); /* in already */
    saved[0].zone = 5;
    saved[1].state = DP_CONN_TCP_ESTABLISHED;
    saved[1].remote_port = 1234;
    CHECK_EQUAL(
        dp_plane_restore(dp_firewall_plane(after.firewall), saved, (uint32_t)n, 0, DP_RESTORE_MISSING, outcomes), 0);
    CHECK_EQUAL(outcomes[DP_RESTORED_NO_INSTANCE], 1);
    CHECK_EQUAL(outcomes[DP_RESTORED_NOT_VALID], 1);
    CHECK_EQUAL(dp_plane_count(dp_firewall_plane(after.firewall), &all, NULL), 1);
    put(&after, A, 0, &reply);
    COMES(&after, UPLINK, &reply);
    all.origin = DP_INBOUND;
    CHECK_EQUAL(dp_plane_count(dp_firewall_plane(after.firewall), &all, NULL),
                1); /* the reply opened none of its own */
    unmake(&after);
}

/* What another firewall tells of a connection is put in its place, unless this one has met something later. */
static void test_connections_are_updated_and_forgotten(void)
{
    struct dp_connection_filter some = {.zone = -1, .origin = -1, .protocol = -1, .disconnected = -1};
    struct dp_saved_connection s = {.local = {10, 0, 0, 1},
                                    .remote = {10, 0, 0, 9},
                                    .age_ns = UINT64_C(9000000000),
                                    .rule = 1,
                                    .local_port = 53,
                                    .remote_port = 99,
                                    .family = 4,
                                    .protocol = 6,
                                    .origin = DP_INBOUND,
                                    .state = DP_CONN_TCP_ESTABLISHED};
    uint64_t outcomes[DP_RESTORED_OUTCOMES] = {0}, cursor = 0;
    struct dp_saved_connection found;
    struct dp_plane *plane;
    struct net n;

    make(&n, 2);
    plane = dp_firewall_plane(n.firewall);
    CHECK_EQUAL(dp_plane_restore(plane, &s, 1, 0, DP_RESTORE_NEWER, outcomes), 1);
    s.age_ns -= UINT64_C(1000000000);
    s.state = DP_CONN_TCP_FIN_WAIT_INITIATOR;
    s.tcp_end[0] = 77;
    s.disconnected = 1;
    CHECK_EQUAL(dp_plane_restore(plane, &s, 1, 0, DP_RESTORE_MISSING, outcomes), 0);
    CHECK_EQUAL(dp_plane_restore(plane, &s, 1, 0, DP_RESTORE_NEWER, outcomes), 1);
    CHECK_EQUAL(dp_plane_save(plane, &some, &cursor, &found, 1), 1);
    CHECK_EQUAL(found.state, DP_CONN_TCP_FIN_WAIT_INITIATOR);
    CHECK_EQUAL(found.tcp_end[0], 77);
    CHECK_EQUAL(found.disconnected, 1);
    CHECK(found.age_ns >= s.age_ns && found.age_ns < s.age_ns + UINT64_C(500000000));
    s.disconnected = 0;
    CHECK_EQUAL(dp_plane_restore(plane, &s, 1, 0, DP_RESTORE_NEWER, outcomes), 1);
    some.disconnected = 0;
    CHECK_EQUAL(dp_plane_count(plane, &some, NULL), 1);
    s.age_ns += UINT64_C(1000000000);
    s.state = DP_CONN_TCP_ESTABLISHED;
    CHECK_EQUAL(dp_plane_restore(plane, &s, 1, 0, DP_RESTORE_NEWER, outcomes), 0);
    /* Another connection with the same key, which came from the other side. */
    s.age_ns = 0;
    s.origin = DP_OUTBOUND;
    CHECK_EQUAL(dp_plane_restore(plane, &s, 1, 0, DP_RESTORE_NEWER, outcomes), 1);
    some.origin = DP_OUTBOUND;
    CHECK_EQUAL(dp_plane_count(plane, &some, NULL), 1);
    CHECK_EQUAL(outcomes[DP_RESTORED_TAKEN], 2);
    CHECK_EQUAL(outcomes[DP_RESTORED_UPDATED], 2);
    CHECK_EQUAL(outcomes[DP_RESTORED_THERE], 2);

    some.since_ns = dp_firewall_now() - UINT64_C(60000000000);
    CHECK_EQUAL(dp_plane_count(plane, &some, NULL), 1);
    some.since_ns = dp_firewall_now() + UINT64_C(60000000000);
    CHECK_EQUAL(dp_plane_count(plane, &some, NULL), 0);

    s.family = 5;
    CHECK_EQUAL(dp_plane_forget(plane, &s, 1), 0);
    s.family = 4;
    s.zone = 1;
    CHECK_EQUAL(dp_plane_forget(plane, &s, 1), 0);
    s.zone = 0;
    CHECK_EQUAL(dp_plane_forget(plane, &s, 1), 1);
    CHECK_EQUAL(dp_plane_forget(plane, &s, 1), 0);
    unmake(&n);
}

/* SPEC 5.3: one that is cut as it comes is held from now on, whatever its age; what the instance opened goes on. */
static void test_connections_are_cut_as_they_come(void)
{
    struct dp_saved_connection saved[2];
    uint64_t outcomes[DP_RESTORED_OUTCOMES] = {0};
    struct net n;

    make(&n, 2);
    for (int i = 0; i < 2; i++)
        saved[i] = (struct dp_saved_connection){.local = {10, 0, 0, 1},
                                                .remote = {10, 0, 0, 9},
                                                .age_ns = UINT64_C(1800000000000), /* half its time */
                                                .rule = 1,
                                                .local_port = (uint16_t)(53 + i),
                                                .remote_port = 99,
                                                .family = 4,
                                                .protocol = 17,
                                                .origin = i ? DP_OUTBOUND : DP_INBOUND,
                                                .state = DP_CONN_OTHER_ONE_WAY,
                                                .disconnected = DP_CUT_NOW};
    CHECK_EQUAL(dp_plane_restore(dp_firewall_plane(n.firewall), saved, 2, 0, DP_RESTORE_MISSING, outcomes), 2);
    CHECK_EQUAL(outcomes[DP_RESTORED_CUT], 1);
    CHECK_EQUAL(outcomes[DP_RESTORED_TAKEN], 1);
    for (int cut = 0; cut < 2; cut++) {
        struct dp_connection_filter which = {.zone = -1, .origin = -1, .protocol = -1, .disconnected = cut};
        struct dp_connection c;
        uint64_t cursor = 0;

        CHECK_EQUAL(dp_plane_connections(dp_firewall_plane(n.firewall), &which, &cursor, &c, 1), 1);
        CHECK_EQUAL(c.origin, cut ? DP_INBOUND : DP_OUTBOUND);
        CHECK_EQUAL(c.expires_ns - dp_firewall_now() > UINT64_C(2700000000000), cut);
    }
    unmake(&n);
}

static void test_the_feed_tells_what_is_asked(void)
{
    static uint8_t items[65536];
    struct dp_feed_item item;
    struct net n;

    make(&n, 1);
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

    make(&n, 1);
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

static void test_all(void)
{
    RUN(test_a_change_cuts_what_is_inbound);
    RUN(test_a_connection_that_is_kept_after_all_is_told);
    RUN(test_saved_connections_come_back);
    RUN(test_connections_are_cut_as_they_come);
    RUN(test_connections_are_updated_and_forgotten);
    RUN(test_the_feed_tells_what_is_asked);
    RUN(test_a_full_feed_counts_what_it_lost_by_kind);
}

int main(void)
{
    return run_both_ways(test_all, "test_firewall_connections");
}
