/*
 * test_shadow.c: what another policy says of frames that an engine has judged: counted by what would be other, kept by
 * flow, noted in the flow log; instances that it does not know are nobody's to it, whatever their numbers.
 */
#include "check.h"
#include "engine.h"
#include "flow_log_live.h"
#include "io/shadow.h"
#include "pipeline.h"
#include "table_walk.h"

enum { OLD, NEW, POLICIES, SECOND = 1000000000 };

struct scene {
    struct dp_plane *plane[POLICIES];
    struct dp_engine *engine;
    struct dp_shadow shadow;
    struct dp_endpoints *endpoints;
    struct dp_rule_table *rules[POLICIES];
    uint64_t now;
    uint32_t given;
    struct dp_flow_record record; /* the last that the flow log gave out */
};

static void put(void *owner, const struct dp_flow_record *record)
{
    struct scene *s = owner;

    s->given++;
    s->record = *record;
}

/* Zones 0 and 5, 10.0.0.1 and 10.0.0.2: the old policy allows UDP to port 53 (rule 1), the new one, without zone 5, to
 * port 54 (rule 2). */
static bool make(struct scene *s)
{
    static const uint64_t seed[2] = {1, 2};
    struct dp_flow_sink sink = {.put = put, .owner = s, .interval_ns = SECOND};
    struct dp_holding holdings[2] = {{{{10, 0, 0, 1}, 32}, 4, 0, 0}, {{{10, 0, 0, 2}, 32}, 4, 5, 0}};
    struct dp_conntrack_config config = {.max_entries = 100};

    memset(s, 0, sizeof *s);
    s->now = 1000000000000u;
    for (int state = 0; state < DP_CONN_STATES; state++)
        config.timeout_ns[state] = (uint64_t)30 * SECOND;
    if (!CHECK_EQUAL(dp_endpoints_new(holdings, 2, NULL, 0, NULL, 0, NULL, 0, &s->endpoints), 0))
        return false;
    for (uint32_t p = 0; p < POLICIES; p++) {
        uint32_t port = 17u << 16 | (p == OLD ? 53 : 54);
        struct dp_selector selector = {port, port};
        struct dp_rule rule = {p + 1, DP_REMOTE_ANY, 0, 1, DP_ALLOW};
        struct dp_zone_tables zones[2] = {{.zone = 0}, {.zone = 5}};
        struct dp_policy_update update = {
            .zones = zones, .n_zones = p == OLD ? 2 : 1, .config = &config, .endpoints = s->endpoints};

        if (!CHECK_EQUAL(dp_rule_table_new(4, &rule, 1, NULL, 0, NULL, 0, &selector, 1, &s->rules[p]), 0))
            return false;
        zones[0].table[DP_INGRESS][0] = zones[1].table[DP_INGRESS][0] = s->rules[p];
        if (!CHECK_EQUAL(dp_plane_new(&config, seed, 1, &s->plane[p]), 0) ||
            !CHECK_EQUAL(dp_plane_update(s->plane[p], &update), 0))
            return false;
    }
    s->engine = dp_plane_shard(s->plane[OLD], 0);
    s->shadow.engine = dp_plane_shard(s->plane[NEW], 0);
    s->shadow.comparing = true;
    if (!CHECK_EQUAL(dp_flow_log_begin(s->engine, &sink), 0))
        return false;
    dp_conntrack_observe(&s->engine->conntrack, dp_flow_log_observe, s->engine->flow_log);
    return CHECK_EQUAL(dp_difference_new(&s->shadow.difference), 0);
}

static void unmake(struct scene *s)
{
    dp_flow_log_end(s->engine);
    dp_difference_free(s->shadow.difference);
    for (int p = 0; p < POLICIES; p++) {
        dp_plane_free(s->plane[p]);
        dp_rule_table_free(s->rules[p]);
    }
    dp_endpoints_free(s->endpoints);
}

/* A datagram from a host to the instance in `zone`, judged by both. */
static void judge(struct scene *s, uint32_t zone, uint8_t host, uint8_t port, bool fragment)
{
    static const uint8_t head[34] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 28, 0, 7, 0, 0, 64, 17};
    struct dp_place place = {.zone = {[DP_INGRESS] = zone, [DP_EGRESS] = DP_NO_ZONE}};
    struct dp_frame frame = {.time_ns = s->now, .captured = 42, .length = 42};
    struct dp_record record;
    struct dp_flow flow;
    uint8_t bytes[42] = {0};

    memcpy(bytes, head, sizeof head);
    bytes[21] = fragment;
    memcpy(bytes + 26, (uint8_t[]){192, 0, 2, host, 10, 0, 0, zone ? 2 : 1}, 8);
    memcpy(bytes + 34, (uint8_t[]){0x0f, 0xa0, 0, port, 0, 8}, 6);
    frame.data = bytes;
    CHECK_EQUAL(dp_engine_process_at(s->engine, &frame, &place, 1, &record, &flow), 0);
    dp_flow_log_add_burst(s->engine->flow_log, dp_engine_frames(s->engine), &record, &flow, 1);
    dp_shadow_judge(&s->shadow, s->engine, &frame, &place, &record, &flow, 1);
}

static void test_what_would_be_other_is_counted_by_flow_and_noted(void)
{
    struct dp_flow_difference flows[4];
    struct scene s;

    if (!make(&s))
        return;
    for (int i = 0; i < 3; i++)
        judge(&s, 0, 9, 53, false);
    judge(&s, 0, 8, 54, false);
    judge(&s, 0, 9, 55, false);
    CHECK_EQUAL(s.engine->counters.shadow[DP_SHADOW_SAME], 1);
    CHECK_EQUAL(s.engine->counters.shadow[DP_SHADOW_WOULD_DENY], 3);
    CHECK_EQUAL(s.engine->counters.shadow[DP_SHADOW_WOULD_ALLOW], 1);
    CHECK_EQUAL(dp_difference_flows(s.shadow.difference, flows, 4), 2);
    CHECK_EQUAL(flows[0].packets, 3);
    CHECK_EQUAL(flows[0].before.rule, 1);
    CHECK_EQUAL(flows[0].after.reason, DP_REASON_NO_RULE_MATCHED);
    CHECK_EQUAL(flows[1].after.rule, 2);
    s.now += (uint64_t)5 * SECOND;
    dp_engine_advance(s.engine, s.now);
    dp_flow_log_pass(s.engine->flow_log);
    CHECK_EQUAL(s.given, 2);
    CHECK_EQUAL(s.record.shadow_packets, 0);
    s.now += (uint64_t)30 * SECOND;
    dp_engine_advance(s.engine, s.now);
    dp_flow_log_catch_up(s.engine->flow_log);
    CHECK_EQUAL(s.given, 3);
    CHECK_EQUAL(s.record.shadow_packets, 3);
    CHECK_EQUAL(s.record.shadow_verdict, DP_DENY);
    CHECK_EQUAL(s.record.shadow_reason, DP_REASON_NO_RULE_MATCHED);
    /* Its own connection has ended too. */
    CHECK_EQUAL(s.shadow.engine->conntrack.table.count, 1);
    dp_shadow_advance(&s.shadow, s.now);
    CHECK_EQUAL(s.shadow.engine->conntrack.table.count, 0);
    unmake(&s);
}

static void test_an_instance_that_it_does_not_know_is_nobody(void)
{
    struct scene s;

    if (!make(&s))
        return;
    judge(&s, 5, 9, 53, false);
    judge(&s, 5, 9, 55, false);
    CHECK_EQUAL(s.engine->counters.shadow[DP_SHADOW_SAME], 1);
    CHECK_EQUAL(s.engine->counters.shadow[DP_SHADOW_WOULD_ALLOW], 1);
    unmake(&s);
}

static void test_a_fragment_that_waits_is_not_compared(void)
{
    struct dp_difference_count count;
    struct scene s;

    if (!make(&s))
        return;
    judge(&s, 0, 9, 53, true);
    CHECK_EQUAL(dp_engine_waiting(s.shadow.engine), 1);
    s.now += (uint64_t)60 * SECOND;
    dp_engine_advance(s.engine, s.now);
    dp_shadow_advance(&s.shadow, s.now);
    CHECK_EQUAL(dp_engine_waiting(s.shadow.engine), 0);
    dp_difference_count(s.shadow.difference, &count);
    CHECK_EQUAL(count.packets_same + count.packets_changed, 0);
    unmake(&s);
}

/* The answer of zone 0 to a host, from port 53; the shadow sees it too if it is `told`. */
static void answer(struct scene *s, uint8_t host, bool told)
{
    struct dp_place place = {.zone = {[DP_INGRESS] = DP_NO_ZONE, [DP_EGRESS] = 0}};
    uint8_t bytes[42] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 28, 0, 7, 0, 0, 64, 17};
    struct dp_frame frame = {.time_ns = s->now, .captured = 42, .length = 42, .data = bytes};
    struct dp_record record;
    struct dp_flow flow;

    memcpy(bytes + 26, (uint8_t[]){10, 0, 0, 1, 192, 0, 2, host, 0, 53, 0x0f, 0xa0, 0, 8}, 14);
    CHECK_EQUAL(dp_engine_process_at(s->engine, &frame, &place, 1, &record, &flow), 0);
    CHECK_EQUAL(record.verdict, DP_ALLOW);
    if (told)
        dp_shadow_judge(&s->shadow, s->engine, &frame, &place, &record, &flow, 1);
}

/* What it has made itself of packets in the middle of a connection gives way, and what its rules deny lives on. */
static void test_connections_are_taken_over_as_they_stand(void)
{
    struct dp_connection_filter all = {.zone = -1, .origin = -1, .protocol = -1, .disconnected = -1};
    struct dp_connection found[4];
    uint64_t cursor = 0, at = 0, taken = 0;
    struct scene s;

    if (!make(&s))
        return;
    s.shadow.comparing = false;
    judge(&s, 0, 9, 53, false); /* the shadow's rules deny it */
    judge(&s, 0, 8, 53, false);
    judge(&s, 5, 9, 53, false); /* of an instance that the shadow does not know */
    CHECK_EQUAL(s.engine->counters.shadow[DP_SHADOW_SAME] + s.engine->counters.shadow[DP_SHADOW_WOULD_DENY], 0);
    CHECK_EQUAL(s.shadow.engine->conntrack.table.count, 0);
    while (cursor != DP_CURSOR_END)
        taken += dp_shadow_take_over(&s.shadow, s.engine, &cursor);
    s.shadow.comparing = true;
    CHECK_EQUAL(taken, 2);
    answer(&s, 9, true);
    judge(&s, 0, 9, 53, false);
    CHECK_EQUAL(s.engine->counters.shadow[DP_SHADOW_SAME], 2);
    CHECK_EQUAL(s.engine->counters.shadow[DP_SHADOW_WOULD_DENY], 0);
    /* One that is taken over again stands in the place of what is there. */
    answer(&s, 8, false);
    for (cursor = 0; cursor != DP_CURSOR_END;)
        dp_shadow_take_over(&s.shadow, s.engine, &cursor);
    CHECK_EQUAL(dp_connections_some(s.shadow.engine, &all, &at, UINT64_MAX, found, 4), 2);
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(found[i].origin, DP_INBOUND);
        CHECK_EQUAL(found[i].state, DP_CONN_OTHER_TWO_WAY);
    }
    unmake(&s);
}

int main(void)
{
    RUN(test_connections_are_taken_over_as_they_stand);
    RUN(test_what_would_be_other_is_counted_by_flow_and_noted);
    RUN(test_an_instance_that_it_does_not_know_is_nobody);
    RUN(test_a_fragment_that_waits_is_not_compared);
    return check_result("test_shadow");
}
