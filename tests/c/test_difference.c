/* test_difference.c: packets that two engines judge differently (difference.h, SPEC 8.4): counted, by flow, bounded. */
#include "check.h"
#include "difference.h"

#include <stdlib.h>

enum { PLACES = 1 << 17, MANY = 3 * PLACES };

static struct dp_flow flow(uint32_t source, uint16_t source_port, uint32_t destination, uint16_t destination_port)
{
    struct dp_flow f = {.source_port = source_port, .destination_port = destination_port, .family = 4, .protocol = 17};

    memcpy(f.source, &source, sizeof source);
    memcpy(f.destination, &destination, sizeof destination);
    return f;
}

static struct dp_record judged(uint8_t verdict, uint8_t reason, uint32_t rule)
{
    return (struct dp_record){
        .verdict = verdict, .checks = 1, .check = {{.verdict = verdict, .reason = reason, .rule = rule}}};
}

static struct dp_difference *new_difference(void)
{
    struct dp_difference *difference = NULL;

    if (dp_difference_new(&difference) != 0)
        abort();
    return difference;
}

static struct dp_difference_count count_of(const struct dp_difference *difference)
{
    struct dp_difference_count count;

    dp_difference_count(difference, &count);
    return count;
}

/* Both directions are one flow; what is told of it is that of its first packet, most packets first. */
static void flows_with_most_packets_first(void)
{
    struct dp_record allow = judged(DP_ALLOW, DP_REASON_RULE, 7), deny = judged(DP_DENY, DP_REASON_NO_RULE_MATCHED, 0);
    struct dp_record other = judged(DP_ALLOW, DP_REASON_CONNECTION, 9), bypass = {.verdict = DP_BYPASS};
    struct dp_record before[5] = {allow, allow, allow, other, deny}, after[5] = {other, deny, bypass, deny, deny};
    struct dp_flow flows[5] = {flow(1, 10, 2, 20), flow(1, 10, 2, 21), flow(1, 10, 2, 22), flow(2, 22, 1, 10),
                               flow(1, 10, 2, 23)};
    struct dp_difference *difference = new_difference();
    struct dp_flow_difference found[3];

    dp_difference_add(difference, NULL, before, after, flows, 2);
    dp_difference_add(difference, NULL, before + 2, after + 2, flows + 2, 3);
    CHECK_EQUAL(count_of(difference).packets_same, 2);
    CHECK_EQUAL(count_of(difference).packets_changed, 3);
    CHECK_EQUAL(count_of(difference).packets_not_kept, 0);
    CHECK_EQUAL(count_of(difference).flows, 2);
    CHECK_EQUAL(dp_difference_flows(difference, found, 3), 2);
    CHECK_EQUAL(found[0].packets, 2);
    CHECK_EQUAL(found[0].first_packet, 3);
    CHECK_EQUAL(found[0].flow.destination_port, 22);
    CHECK_EQUAL(found[0].before.rule, 7);
    CHECK_EQUAL(found[0].after.verdict, DP_BYPASS);
    CHECK_EQUAL(found[0].after.checked, 0);
    CHECK_EQUAL(found[1].packets, 1);
    CHECK_EQUAL(found[1].after.reason, DP_REASON_NO_RULE_MATCHED);
    dp_difference_free(difference);
}

/* Of some of the packets, numbers are those that they are given with. */
static void packets_between_them_are_left_out(void)
{
    struct dp_record allow[2] = {judged(DP_ALLOW, DP_REASON_RULE, 7), judged(DP_ALLOW, DP_REASON_RULE, 7)};
    struct dp_record deny[2] = {judged(DP_DENY, DP_REASON_RULE, 8), judged(DP_DENY, DP_REASON_RULE, 8)};
    struct dp_flow flows[2] = {flow(1, 10, 2, 20), flow(1, 11, 2, 20)};
    const uint64_t numbers[2] = {41, 1000000007};
    struct dp_difference *difference = new_difference();
    struct dp_flow_difference found[2];

    dp_difference_add(difference, numbers, allow, deny, flows, 2);
    CHECK_EQUAL(count_of(difference).packets_changed, 2);
    CHECK_EQUAL(dp_difference_flows(difference, found, 2), 2);
    CHECK_EQUAL(found[0].first_packet, 41);
    CHECK_EQUAL(found[1].first_packet, 1000000007);
    dp_difference_free(difference);
}

/* More flows than places: each packet is counted once, with its flow or as not kept. */
static void flows_are_bounded(void)
{
    struct dp_record allow = judged(DP_ALLOW, DP_REASON_RULE, 1), deny = judged(DP_DENY, DP_REASON_RULE, 2);
    struct dp_difference *difference = new_difference();
    struct dp_flow_difference *found = calloc(PLACES, sizeof *found);
    struct dp_difference_count count;
    uint64_t kept = 0;

    for (uint32_t i = 0; i < MANY; i++) {
        struct dp_flow f = flow(i, 1, 0x0a000001, 2);

        dp_difference_add(difference, NULL, &allow, &deny, &f, 1);
    }
    count = count_of(difference);
    CHECK_EQUAL(count.packets_changed, MANY);
    CHECK(count.flows > PLACES * 9 / 10 && count.flows <= PLACES);
    if (found && CHECK_EQUAL(dp_difference_flows(difference, found, PLACES), count.flows))
        for (uint64_t i = 0; i < count.flows; i++)
            kept += found[i].packets;
    CHECK_EQUAL(kept + count.packets_not_kept, MANY);
    CHECK_EQUAL(dp_difference_flows(difference, found, 3), 3);
    free(found);
    dp_difference_free(difference);
}

/* As who reads a shadow's: a few places at a time, to the end or until there is no more room. */
static void flows_are_read_some_at_a_time(void)
{
    enum { FLOWS = 100, VISITS = 5000 };
    struct dp_record allow = judged(DP_ALLOW, DP_REASON_RULE, 1), deny = judged(DP_DENY, DP_REASON_RULE, 2);
    struct dp_difference *difference = new_difference();
    struct dp_flow_difference found[FLOWS + 1];
    uint64_t cursor = 0, have = 0;
    int steps = 0;

    for (uint32_t i = 0; i < FLOWS; i++) {
        struct dp_flow f = flow(i, 1, 0x0a000001, 2);

        dp_difference_add(difference, NULL, &allow, &deny, &f, 1);
    }
    for (; cursor != UINT64_MAX && steps <= PLACES / VISITS; steps++)
        have += dp_difference_some(difference, &cursor, VISITS, found + have, FLOWS + 1 - have);
    CHECK_EQUAL(have, FLOWS);
    CHECK_EQUAL(steps, PLACES / VISITS + 1);
    CHECK(cursor == UINT64_MAX);
    cursor = 0;
    CHECK_EQUAL(dp_difference_some(difference, &cursor, PLACES, found, 3), 3);
    CHECK(cursor == UINT64_MAX);
    dp_difference_free(difference);
}

int main(void)
{
    RUN(flows_with_most_packets_first);
    RUN(packets_between_them_are_left_out);
    RUN(flows_are_bounded);
    RUN(flows_are_read_some_at_a_time);
    return check_result("test_difference");
}
