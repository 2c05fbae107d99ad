/*
 * test_flow_log_live.c: the flow log of a live worker (SPEC 8.2): the same records as a replay's, however frames come
 * in bursts; given out when a connection has ended or a denied flow was gathered for its interval; within its bounds.
 */
#include "check.h"
#include "flow_log_live.h"
#include "one_instance.h"
#include "reclaim.h"
#include "table_walk.h"

#include <stdlib.h>

enum { TIMEOUT_S = 30, INTERVAL_S = 60, FRAMES = 4000, BURST = 7, MOST = 1 << 16 };
#define SECOND 1000000000u

struct scene {
    struct dp_plane *plane;
    struct dp_engine *engine; /* its shard */
    struct dp_endpoints *endpoints;
    struct dp_rule_table *rules;
    uint64_t now;
    uint32_t n;
    struct dp_flow_record *out; /* given out, `n` of MOST */
};

static void put(void *owner, const struct dp_flow_record *record)
{
    struct scene *s = owner;

    if (s->n < MOST)
        s->out[s->n++] = *record;
}

static bool make(struct scene *s, uint32_t max_entries)
{
    struct dp_conntrack_config config = settings_of(max_entries, (uint64_t)TIMEOUT_S * SECOND);

    memset(s, 0, sizeof *s);
    s->now = 1000000000000u;
    s->out = calloc(MOST, sizeof *s->out);
    config.tentative[DP_CONN_OTHER_ONE_WAY] = 1;
    if (!s->out || !one_instance(&config, &s->plane, &s->endpoints, &s->rules))
        return false;
    s->engine = dp_plane_shard(s->plane, 0);
    return true;
}

/* The same with a live log. */
static bool make_live(struct scene *s, uint32_t max_entries, uint64_t interval_s)
{
    struct dp_flow_sink sink = {.put = put, .owner = s, .interval_ns = interval_s * SECOND};

    if (!make(s, max_entries) || !CHECK_EQUAL(dp_flow_log_begin(s->engine, &sink), 0))
        return false;
    dp_conntrack_observe(&s->engine->conntrack, dp_flow_log_observe, s->engine->flow_log);
    return true;
}

static void unmake(struct scene *s)
{
    if (s->engine)
        dp_flow_log_end(s->engine);
    dp_plane_free(s->plane);
    dp_endpoints_free(s->endpoints);
    dp_rule_table_free(s->rules);
    free(s->out);
}

/* A datagram between the instance and a host, in either direction. */
static void datagram(uint8_t *bytes, uint32_t host, uint16_t port, bool answer)
{
    static const uint8_t head[34] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 28, 0, 7, 0, 0, 64, 17};
    uint8_t there[4] = {192, (uint8_t)(host >> 16), (uint8_t)(host >> 8), (uint8_t)host}, here[4] = {10, 0, 0, 1};
    uint8_t theirs[2] = {0x0f, 0xa0}, ours[2] = {(uint8_t)(port >> 8), (uint8_t)port};

    memcpy(bytes, head, sizeof head);
    memcpy(bytes + 26, answer ? here : there, 4);
    memcpy(bytes + 30, answer ? there : here, 4);
    memcpy(bytes + 34, answer ? ours : theirs, 2);
    memcpy(bytes + 36, answer ? theirs : ours, 2);
    bytes[38] = 0;
    bytes[39] = 8;
    bytes[40] = bytes[41] = 0;
}

/* Judges `n` of them, BURST at most, as a worker does. */
static void burst(struct scene *s, uint8_t (*bytes)[42], uint32_t n)
{
    struct dp_frame frames[BURST];
    struct dp_record records[BURST];
    struct dp_flow flows[BURST];
    uint64_t number = dp_engine_frames(s->engine);

    for (uint32_t i = 0; i < n; i++)
        frames[i] = (struct dp_frame){.time_ns = s->now, .data = bytes[i], .captured = 42, .length = 42};
    CHECK_EQUAL(dp_engine_process(s->engine, frames, n, records, flows), 0);
    dp_flow_log_add_burst(s->engine->flow_log, number + 1, records, flows, n);
}

static void judge(struct scene *s, uint32_t host, uint16_t port, bool answer)
{
    uint8_t bytes[1][42];

    datagram(bytes[0], host, port, answer);
    burst(s, bytes, 1);
}

static void pass(struct scene *s, uint64_t seconds)
{
    s->now += seconds * SECOND;
    dp_engine_advance(s->engine, s->now);
    dp_flow_log_catch_up(s->engine->flow_log);
    dp_flow_log_pass(s->engine->flow_log);
}

/* All that a live log holds, behind what it has given out. */
static void take_rest(struct scene *s)
{
    uint64_t cursor = 0;

    while (cursor != DP_CURSOR_END)
        s->n += dp_flow_log_some(s->engine->flow_log, &cursor, 100, s->out + s->n, MOST - s->n);
}

static int compare(const void *a, const void *b)
{
    const struct dp_flow_record *x = a, *y = b;

    return (x->first_packet > y->first_packet) - (x->first_packet < y->first_packet);
}

/* Few hosts, ports that are open and not, answers, and now and then a pause in which connections end. */
static uint32_t step(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 16;
}

static void test_the_records_are_those_of_a_replay(void)
{
    static uint8_t bytes[FRAMES][42];
    static struct dp_record records[FRAMES];
    static struct dp_flow flows[FRAMES];
    static struct dp_flow_record expected[FRAMES];
    struct scene live, replay;
    struct dp_flow_log *log;
    uint32_t state = 7, n;

    if (!make_live(&live, 20, 1000000) || !make(&replay, 20) ||
        !CHECK_EQUAL(dp_flow_log_new(replay.engine, FRAMES, &log), 0))
        return;
    for (uint32_t at = 0; at < FRAMES - BURST; at += BURST) {
        struct dp_frame frames[BURST];

        live.now += step(&state) % 40 ? SECOND / 10 : (uint64_t)2 * TIMEOUT_S * SECOND;
        for (uint32_t i = 0; i < BURST; i++) {
            datagram(bytes[at + i], step(&state) % 30, step(&state) % 3 ? 53 : 54, step(&state) % 2);
            frames[i] = (struct dp_frame){.time_ns = live.now, .data = bytes[at + i], .captured = 42, .length = 42};
        }
        CHECK_EQUAL(dp_engine_process(replay.engine, frames, BURST, records, flows), 0);
        CHECK_EQUAL(dp_flow_log_add(log, records, flows, BURST), 0);
        burst(&live, bytes + at, BURST);
    }
    CHECK_EQUAL(dp_flow_log_finish(log), 0);
    n = (uint32_t)dp_flow_log_take(log, expected, FRAMES);
    take_rest(&live);
    CHECK(n > 150);
    CHECK_EQUAL(live.n, n);
    qsort(live.out, live.n, sizeof *live.out, compare);
    qsort(expected, n, sizeof *expected, compare);
    for (uint32_t i = 0; i < n && i < live.n; i++)
        if (!CHECK(memcmp(&live.out[i], &expected[i], sizeof expected[i]) == 0))
            break;
    CHECK_EQUAL(live.engine->counters.flow_records_lost[DP_FLOW_LOST_NO_ROOM], 0);
    dp_flow_log_free(log);
    unmake(&live);
    unmake(&replay);
}

static void test_when_records_are_given_out(void)
{
    struct scene s;

    if (!make_live(&s, 100, INTERVAL_S))
        return;
    judge(&s, 1, 53, false);
    judge(&s, 1, 54, false);
    pass(&s, TIMEOUT_S - 1);
    judge(&s, 1, 54, false);
    CHECK_EQUAL(s.n, 0);
    pass(&s, 1);
    CHECK_EQUAL(s.n, 1);
    CHECK_EQUAL(s.out[0].end, DP_FLOW_EXPIRED);
    CHECK_EQUAL(s.out[0].passed[DP_INGRESS].bytes, 42);
    pass(&s, INTERVAL_S - TIMEOUT_S - 1);
    CHECK_EQUAL(s.n, 1);
    pass(&s, 1);
    CHECK_EQUAL(s.n, 2);
    CHECK_EQUAL(s.out[1].end, DP_FLOW_NOT_ADMITTED);
    CHECK_EQUAL(s.out[1].denied.packets, 2);
    CHECK_EQUAL(s.out[1].denied.bytes, 84);
    /* What comes then is another record. */
    judge(&s, 1, 54, false);
    take_rest(&s);
    CHECK_EQUAL(s.n, 3);
    CHECK_EQUAL(s.out[2].denied.packets, 1);
    unmake(&s);
}

static void test_denied_flows_are_bounded_and_the_first_give_way(void)
{
    struct scene s;

    if (!make_live(&s, 100, INTERVAL_S))
        return;
    for (uint32_t host = 0; host < DP_DENIED_FLOWS_MAX + 10; host++)
        judge(&s, host, 54, false);
    CHECK_EQUAL(s.n, 10);
    for (uint32_t i = 0; i < 10; i++)
        CHECK_EQUAL(s.out[i].first_packet, i + 1);
    CHECK_EQUAL(s.engine->counters.flow_records_lost[DP_FLOW_LOST_NO_ROOM], 0);
    /* No more are given out at once than a worker has time for. */
    pass(&s, INTERVAL_S);
    CHECK(s.n < DP_DENIED_FLOWS_MAX / 2);
    for (int i = 0; i < 100; i++)
        pass(&s, 0);
    CHECK_EQUAL(s.n, DP_DENIED_FLOWS_MAX + 10);
    unmake(&s);
}

static void test_what_a_restart_brought_back_is_there(void)
{
    struct dp_saved_connection saved[2] = {0};
    struct scene s;

    if (!make_live(&s, 100, INTERVAL_S))
        return;
    dp_engine_advance(s.engine, s.now);
    for (int i = 0; i < 2; i++) {
        saved[i] = (struct dp_saved_connection){.local = {10, 0, 0, 1},
                                                .remote = {192, 0, 0, (uint8_t)(i + 1)},
                                                .rule = 1,
                                                .local_port = 53,
                                                .remote_port = 4000,
                                                .family = 4,
                                                .protocol = 17,
                                                .origin = DP_INBOUND,
                                                .state = DP_CONN_OTHER_ONE_WAY};
        CHECK_EQUAL(dp_connections_restore(s.engine, &saved[i], SECOND, DP_RESTORE_MISSING), DP_RESTORED_TAKEN);
    }
    judge(&s, 2, 53, true);
    judge(&s, 2, 53, false);
    pass(&s, TIMEOUT_S + 1);
    CHECK_EQUAL(s.n, 2);
    qsort(s.out, s.n, sizeof *s.out, compare);
    for (uint32_t i = 0; i < 2 && i < s.n; i++) {
        CHECK_EQUAL(s.out[i].flow.source[3], i + 1);
        CHECK_EQUAL(s.out[i].flow.destination_port, 53);
        CHECK_EQUAL(s.out[i].rule, 1);
        CHECK_EQUAL(s.out[i].passed[DP_INGRESS].packets, i);
        CHECK_EQUAL(s.out[i].passed[DP_EGRESS].packets, i);
    }
    unmake(&s);
}

static void test_denied_flows_of_names_that_are_gone_are_given_out(void)
{
    uint8_t zones[1] = {1}, rules[2] = {0, 1};
    struct dp_retired retired = {.zones = zones, .rules = rules, .n_zones = 1, .n_rules = 2};
    uint64_t cursor = 0;
    struct scene s;

    if (!make_live(&s, 100, INTERVAL_S))
        return;
    judge(&s, 1, 54, false);
    judge(&s, 1, 53, false);
    dp_retired_forget(s.engine, &retired);
    CHECK_EQUAL(s.n, 1);
    dp_retired_keep_some(s.engine, &retired, &cursor, 100);
    CHECK_EQUAL(rules[1], 0); /* the connection's */
    unmake(&s);
}

static void test_room_grows_with_the_table(void)
{
    struct scene s;

    if (!make_live(&s, 10, INTERVAL_S))
        return;
    CHECK_EQUAL(dp_flow_log_resize(s.engine->flow_log, 100000), 0);
    CHECK(s.engine->flow_log->pool.room > 100000);
    judge(&s, 1, 53, false);
    take_rest(&s);
    CHECK_EQUAL(s.n, 1);
    unmake(&s);
}

int main(void)
{
    RUN(test_the_records_are_those_of_a_replay);
    RUN(test_when_records_are_given_out);
    RUN(test_denied_flows_are_bounded_and_the_first_give_way);
    RUN(test_what_a_restart_brought_back_is_there);
    RUN(test_denied_flows_of_names_that_are_gone_are_given_out);
    RUN(test_room_grows_with_the_table);
    return check_result("test_flow_log_live");
}
