/*
 * test_flow_text.c: flow records as text in any room (SPEC 8.2): whole lines only, nothing behind the room, and a
 * record that has no words is refused. What the lines say is tested with the command.
 */
#include "check.h"
#include "dp_text.h"

#include <stdlib.h>

static const char text[] = "\"a\"\"b\"tcp";
static const uint32_t zones[] = {0, 3, 6};
static const uint32_t rules[] = {0, 0, 3};
static uint32_t protocols[DP_NAMED_ARP + 2];

static struct dp_names names_of(void)
{
    for (int i = 0; i < DP_NAMED_ARP + 2; i++)
        protocols[i] = i <= 6 ? 6 : 9;
    return (struct dp_names){.text = text,
                             .zone_offset = zones,
                             .rule_offset = rules,
                             .group_offset = rules,
                             .protocol_offset = protocols,
                             .n_zones = 2,
                             .n_rules = 2};
}

static struct dp_flow_record record_of(uint32_t zone)
{
    struct dp_flow_record r = {.zone = zone,
                               .rule = 1,
                               .origin = DP_INBOUND,
                               .verdict = DP_ALLOW,
                               .state = DP_CONN_TCP_ESTABLISHED,
                               .end = DP_FLOW_LIVE,
                               .first_ns = 1700000000000001000,
                               .last_ns = 1700000000000000001,
                               .first_packet = UINT64_MAX,
                               .passed = {{3, 300}, {2, UINT64_MAX}},
                               .denied = {1, 100}};

    r.flow = (struct dp_flow){
        .source = {0x20, 1, [15] = 1}, .family = 6, .protocol = 6, .transport = true, .source_port = 65535};
    return r;
}

static void test_only_whole_lines_are_written(int format)
{
    struct dp_flow_record records[2] = {record_of(0), record_of(1)};
    struct dp_names names = names_of();
    char whole[2048];
    uint64_t used, first;

    CHECK_EQUAL(dp_flow_records_text(records, 1, format, &names, whole, sizeof whole, &first), 1);
    CHECK_EQUAL(dp_flow_records_text(records, 2, format, &names, whole, sizeof whole, &used), 2);
    CHECK(whole[first - 1] == '\n' && whole[used - 1] == '\n');
    for (uint64_t size = 0; size < used; size++) {
        char *room = malloc(size ? size : 1);
        uint64_t written;

        if (!room)
            continue;
        CHECK_EQUAL(dp_flow_records_text(records, 2, format, &names, room, size, &written), size >= first);
        CHECK_EQUAL(written, size >= first ? first : 0);
        CHECK(memcmp(room, whole, written) == 0);
        free(room);
    }
}

static void test_what_has_no_word_is_refused(void)
{
    struct dp_flow_record wrong[7];
    struct dp_names names = names_of();
    char out[2048];
    uint64_t used;

    for (int i = 0; i < 7; i++)
        wrong[i] = record_of(0);
    wrong[0].zone = 2;
    wrong[1].rule = 2;
    wrong[2].origin = DP_ORIGINS;
    wrong[3].verdict = DP_VERDICTS;
    wrong[4].reason = DP_REASONS;
    wrong[5].state = DP_CONN_STATES;
    wrong[6].end = DP_FLOW_ENDS;
    for (int i = 0; i < 7; i++) {
        struct dp_flow_record records[2] = {record_of(1), wrong[i]};

        CHECK_EQUAL(dp_flow_records_text(&wrong[i], 1, DP_TEXT_CSV, &names, out, sizeof out, &used), DP_E_ARGUMENT);
        CHECK_EQUAL(dp_flow_records_text(records, 2, DP_TEXT_CSV, &names, out, sizeof out, &used), 1);
    }
    CHECK_EQUAL(dp_flow_records_text(wrong, 1, DP_TEXT_FORMATS, &names, out, sizeof out, &used), DP_E_ARGUMENT);
}

int main(void)
{
    test_only_whole_lines_are_written(DP_TEXT_JSON);
    test_only_whole_lines_are_written(DP_TEXT_CSV);
    test_only_whole_lines_are_written(DP_TEXT_AWS);
    test_only_whole_lines_are_written(DP_TEXT_HUAWEI);
    RUN(test_what_has_no_word_is_refused);
    return check_result("test_flow_text");
}
