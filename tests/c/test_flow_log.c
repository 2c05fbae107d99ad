/*
 * test_flow_log.c: what the property test of flows does not reach (SPEC 8.2): an engine that has judged frames before,
 * fragments that stand before the packet that opens their connection, and flows given out early, the same however the
 * records come in batches.
 */
#include "check.h"
#include "flow_log.h"
#include "one_instance.h"

enum { TIMEOUT_S = 30, FLOWS = 2000 };
#define SECOND 1000000000u

struct scene {
    struct dp_plane *plane;
    struct dp_engine *engine; /* its shard */
    struct dp_endpoints *endpoints;
    struct dp_rule_table *rules;
    struct dp_flow_log *log;
    uint64_t now;
};

static bool make(struct scene *s)
{
    struct dp_conntrack_config config = settings_of(FLOWS, (uint64_t)TIMEOUT_S * SECOND);

    memset(s, 0, sizeof *s);
    s->now = 1000000000000u;
    if (!one_instance(&config, &s->plane, &s->endpoints, &s->rules))
        return false;
    s->engine = dp_plane_shard(s->plane, 0);
    return true;
}

static void unmake(struct scene *s)
{
    dp_flow_log_free(s->log);
    dp_plane_free(s->plane);
    dp_endpoints_free(s->endpoints);
    dp_rule_table_free(s->rules);
}

/* A datagram from `host` to the instance, or of its fragments (8 bytes each) the one at `offset`, a second later. */
static void judge(struct scene *s, uint32_t host, uint8_t port, int offset, bool more, struct dp_record *record,
                  struct dp_flow *flow)
{
    uint8_t udp[16] = {0x0f, 0xa0, 0, port, 0, more || offset ? 16 : 8};
    uint8_t bytes[42] = {2,
                         0,
                         0,
                         0,
                         0,
                         1,
                         2,
                         0,
                         0,
                         0,
                         0,
                         2,
                         8,
                         0,
                         0x45,
                         0,
                         0,
                         28,
                         0,
                         7,
                         (uint8_t)(more << 5),
                         (uint8_t)(offset / 8),
                         64,
                         17,
                         0,
                         0,
                         192,
                         (uint8_t)(host >> 16),
                         (uint8_t)(host >> 8),
                         (uint8_t)host,
                         10,
                         0,
                         0,
                         1};
    struct dp_frame frame = {.time_ns = s->now, .data = bytes, .captured = 42, .length = 42};

    memcpy(bytes + 34, udp + offset, 8);
    s->now += SECOND;
    CHECK_EQUAL(dp_engine_process(s->engine, &frame, 1, record, flow), 0);
}

static void test_what_was_opened_before_is_left_out(void)
{
    struct dp_flow_record flows[4];
    struct dp_record record;
    struct dp_flow flow;
    struct scene s;

    if (!make(&s))
        return;
    judge(&s, 1, 53, 0, false, &record, &flow);
    CHECK_EQUAL(dp_flow_log_new(s.engine, 100, &s.log), 0);
    for (uint32_t host = 1; host <= 2; host++) {
        judge(&s, host, 53, 0, false, &record, &flow);
        CHECK_EQUAL(record.verdict, DP_ALLOW);
        record.check[0].opened_by -= record.check[0].opened_by ? 1 : 0;
        CHECK_EQUAL(dp_flow_log_add(s.log, &record, &flow, 1), 0);
    }
    CHECK_EQUAL(dp_flow_log_finish(s.log), 0);
    CHECK_EQUAL(dp_flow_log_take(s.log, flows, 4), 1);
    CHECK_EQUAL(flows[0].flow.source[3], 2);
    CHECK_EQUAL(flows[0].first_packet, 2);
    CHECK_EQUAL(flows[0].end, DP_FLOW_LIVE);
    unmake(&s);
}

/* The second fragment comes first and waits; its record stands before that of the packet that opens. */
static void test_a_fragment_before_the_packet_that_opens(void)
{
    struct dp_record records[2];
    struct dp_flow flows[2];
    struct dp_resolution resolution;
    struct dp_flow_record out[2];
    struct scene s;

    if (!make(&s) || !CHECK_EQUAL(dp_flow_log_new(s.engine, 100, &s.log), 0))
        return;
    judge(&s, 1, 53, 8, false, &records[0], &flows[0]);
    CHECK_EQUAL(records[0].verdict, DP_WAITING);
    judge(&s, 1, 53, 0, true, &records[1], &flows[1]);
    CHECK_EQUAL(dp_engine_resolved(s.engine, &resolution, 1), 1);
    records[0] = resolution.record;
    CHECK_EQUAL(records[0].check[0].opened_by, 2);
    /* It has ended before any record of it comes. */
    dp_engine_advance(s.engine, s.now + 2ull * TIMEOUT_S * SECOND);
    CHECK_EQUAL(dp_flow_log_add(s.log, records, flows, 2), 0);
    CHECK_EQUAL(dp_flow_log_finish(s.log), 0);
    CHECK_EQUAL(dp_flow_log_take(s.log, out, 2), 1);
    CHECK_EQUAL(out[0].first_packet, 1);
    CHECK_EQUAL(out[0].flow.destination_port, 53);
    CHECK_EQUAL(out[0].passed[DP_INGRESS].packets, 2);
    CHECK_EQUAL(out[0].reason, DP_REASON_RULE);
    CHECK_EQUAL(out[0].end, DP_FLOW_EXPIRED);
    unmake(&s);
}

/* Denied flows and connections in turn, most of them gone by the end; records added `batch` at a time. */
static uint32_t given_out(uint32_t batch, struct dp_flow_record *out)
{
    static struct dp_record records[FLOWS];
    static struct dp_flow flows[FLOWS];
    struct scene s;
    uint32_t n = 0;

    if (!make(&s) || !CHECK_EQUAL(dp_flow_log_new(s.engine, 50, &s.log), 0))
        return 0;
    for (uint32_t i = 0; i < FLOWS; i++) {
        judge(&s, i / 2, i % 3 ? 53 : 54, 0, false, &records[i], &flows[i]);
        if ((i + 1) % batch == 0)
            CHECK_EQUAL(dp_flow_log_add(s.log, &records[i + 1 - batch], &flows[i + 1 - batch], batch), 0);
        n += (uint32_t)dp_flow_log_take(s.log, out + n, FLOWS - n);
    }
    CHECK(n > FLOWS / 2);
    CHECK_EQUAL(dp_flow_log_finish(s.log), 0);
    while (n < FLOWS && dp_flow_log_take(s.log, out + n, 1) == 1)
        n++;
    unmake(&s);
    return n;
}

static void test_what_is_given_out_does_not_depend_on_batches(void)
{
    static struct dp_flow_record one[FLOWS], other[FLOWS];
    uint32_t n = given_out(1, one);
    uint64_t packets = 0;

    CHECK(n > 0 && n < FLOWS);
    CHECK_EQUAL(given_out(500, other), n);
    CHECK(memcmp(one, other, n * sizeof *one) == 0);
    for (uint32_t i = 0; i < n; i++)
        packets += one[i].passed[DP_INGRESS].packets + one[i].denied.packets;
    CHECK_EQUAL(packets, FLOWS);
}

static void test_one_observer_at_a_time(void)
{
    struct dp_flow_log *second;
    struct scene s;

    if (!make(&s) || !CHECK_EQUAL(dp_flow_log_new(s.engine, 100, &s.log), 0))
        return;
    CHECK_EQUAL(dp_flow_log_new(s.engine, 100, &second), DP_E_ARGUMENT);
    unmake(&s);
}

int main(void)
{
    RUN(test_what_was_opened_before_is_left_out);
    RUN(test_a_fragment_before_the_packet_that_opens);
    RUN(test_what_is_given_out_does_not_depend_on_batches);
    RUN(test_one_observer_at_a_time);
    return check_result("test_flow_log");
}
