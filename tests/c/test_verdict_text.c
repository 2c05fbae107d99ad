/* test_verdict_text.c: dp_records_text and the words of dp_word (SPEC 7, --verdicts). */
#include "../../csrc/dp_api.h"
#include "../../csrc/words.h"
#include "check.h"

#include <stdlib.h>

/* Zones 0 to 2, rules 1 and 2 (0 is none); the names stand one behind the other. */
static const char json_text[] = "\"ecs-a\"\"ecs-b\"\"\\u00e9, \\\"x\\\"\"\"A01\"\"\"\"sg-a\"\"sg-b\"";
static const uint32_t json_zones[] = {0, 7, 14, 29};
static const uint32_t json_rules[] = {29, 29, 34, 36};
static const uint32_t json_groups[] = {36, 36, 42, 48};
static const struct dp_names json_names = {json_text, json_zones, json_rules, json_groups, 3, 3};

static const char csv_text[] = "ecs-aecs-b\"é, \"\"x\"\"\"A01A02sg-asg-b";
static const uint32_t csv_zones[] = {0, 5, 10, 21};
static const uint32_t csv_rules[] = {21, 21, 24, 27};
static const uint32_t csv_groups[] = {27, 27, 31, 35};
static const struct dp_names csv_names = {csv_text, csv_zones, csv_rules, csv_groups, 3, 3};

static const struct dp_check ingress_by_rule = {.zone = 0,
                                                .rule = 1,
                                                .direction = DP_INGRESS,
                                                .verdict = DP_ALLOW,
                                                .state = DP_STATE_NEW,
                                                .reason = DP_REASON_RULE,
                                                .origin = DP_INBOUND};
static const struct dp_check denied = {.zone = 1,
                                       .rule = 0,
                                       .direction = DP_EGRESS,
                                       .verdict = DP_DENY,
                                       .state = DP_STATE_INVALID,
                                       .reason = DP_REASON_NO_RULE_MATCHED,
                                       .origin = DP_ORIGIN_NONE,
                                       .cause = DP_CAUSE_TCP_WINDOW};
static const struct dp_check quoted = {.zone = 2,
                                       .rule = 2,
                                       .direction = DP_EGRESS,
                                       .verdict = DP_ALLOW,
                                       .state = DP_STATE_ESTABLISHED,
                                       .reason = DP_REASON_CONNECTION,
                                       .origin = DP_OUTBOUND};

static char out[4096];

/* The text of one record with the number `packet`. */
static const char *text_of(struct dp_record record, int format, uint64_t packet)
{
    uint64_t used = 0;
    uint64_t number = packet;
    const struct dp_names *names = format == DP_TEXT_JSON ? &json_names : &csv_names;
    memset(out, '#', sizeof out);
    CHECK_EQUAL(dp_records_text(&record, 1, format, names, &number, out, sizeof out, &used), 1);
    CHECK_EQUAL(number, packet + 1);
    CHECK(used < sizeof out);
    out[used] = 0;
    return out;
}

static void json_lines_are_those_of_the_spec(void)
{
    struct dp_record record = {
        .time_ns = 1700000000000001000, .verdict = DP_ALLOW, .checks = 1, .check = {ingress_by_rule}};
    CHECK_TEXT(text_of(record, DP_TEXT_JSON, 1),
               "{\"packet\": 1, \"time\": 1700000000.000001, \"verdict\": \"allow\", \"checks\": [{\"instance\": "
               "\"ecs-a\", \"direction\": \"ingress\", \"verdict\": \"allow\", \"state\": \"new\", \"reason\": "
               "\"rule\", \"rule\": \"A01\", \"security_group\": \"sg-a\", \"connection\": \"inbound\"}]}\n");
    record = (struct dp_record){.time_ns = 5, .verdict = DP_DENY, .checks = 2, .check = {quoted, denied}};
    CHECK_TEXT(text_of(record, DP_TEXT_JSON, 18446744073709551614u),
               "{\"packet\": 18446744073709551614, \"time\": 0.000000005, \"verdict\": \"deny\", \"checks\": "
               "[{\"instance\": \"\\u00e9, \\\"x\\\"\", \"direction\": \"egress\", \"verdict\": \"allow\", \"state\": "
               "\"established\", \"reason\": \"connection\", \"rule\": \"\", \"security_group\": \"sg-b\", "
               "\"connection\": \"outbound\"}, {\"instance\": \"ecs-b\", \"direction\": \"egress\", \"verdict\": "
               "\"deny\", \"state\": \"invalid\", \"reason\": \"no-rule-matched\", \"rule\": null, "
               "\"security_group\": null, \"connection\": null}]}\n");
    record = (struct dp_record){.time_ns = 0, .verdict = DP_BYPASS};
    CHECK_TEXT(text_of(record, DP_TEXT_JSON, 10),
               "{\"packet\": 10, \"time\": 0.000000, \"verdict\": \"bypass\", \"checks\": []}\n");
}

static void csv_rows(void)
{
    struct dp_record record = {
        .time_ns = 1700000000000001000, .verdict = DP_ALLOW, .checks = 1, .check = {ingress_by_rule}};
    CHECK_TEXT(text_of(record, DP_TEXT_CSV, 1),
               "1,1700000000.000001,allow,ecs-a,ingress,allow,new,rule,A01,sg-a,inbound,,,,,,,,\n");
    record = (struct dp_record){.time_ns = 99, .verdict = DP_DENY, .checks = 2, .check = {quoted, denied}};
    CHECK_TEXT(text_of(record, DP_TEXT_CSV, 2),
               "2,0.000000099,deny,\"é, \"\"x\"\"\",egress,allow,established,connection,A02,sg-b,outbound,"
               "ecs-b,egress,deny,invalid,no-rule-matched,,,\n");
    record = (struct dp_record){.time_ns = 1000, .verdict = DP_BYPASS};
    CHECK_TEXT(text_of(record, DP_TEXT_CSV, 3), "3,0.000001,bypass,,,,,,,,,,,,,,,,\n");
}

static void times(void)
{
    static const struct {
        uint64_t time_ns;
        const char *text;
    } cases[] = {{999, "0.000000999"},
                 {1000000000, "1.000000"},
                 {10000000000, "10.000000"},
                 {99999999999, "99.999999999"},
                 {100000001000, "100.000001"},
                 {1700000000123456000, "1700000000.123456"},
                 {1700000000123456789, "1700000000.123456789"},
                 {1700000000100000000, "1700000000.100000"},
                 {UINT64_MAX, "18446744073.709551615"}};
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char expected[80];
        struct dp_record record = {.time_ns = cases[i].time_ns, .verdict = DP_BYPASS};
        (void)snprintf(expected, sizeof expected, "7,%s,bypass,,,,,,,,,,,,,,,,\n", cases[i].text);
        CHECK_TEXT(text_of(record, DP_TEXT_CSV, 7), expected);
    }
}

static void packet_numbers(void)
{
    for (uint64_t packet = 1; packet < UINT64_MAX / 20; packet = packet * 7 + 3) {
        char expected[80];
        struct dp_record record = {.verdict = DP_BYPASS};
        (void)snprintf(expected, sizeof expected, "%" PRIu64 ",0.000000,bypass,,,,,,,,,,,,,,,,\n", packet);
        CHECK_TEXT(text_of(record, DP_TEXT_CSV, packet), expected);
    }
}

/* For each size of the output: only whole lines, as many as fit, and not a byte behind the end. */
static void every_size_of_output(int format, const struct dp_names *names)
{
    enum { RECORDS = 4 };
    const struct dp_record records[RECORDS] = {
        {.time_ns = 1, .verdict = DP_ALLOW, .checks = 1, .check = {quoted}},
        {.time_ns = 2, .verdict = DP_BYPASS},
        {.time_ns = 3, .verdict = DP_DENY, .checks = 2, .check = {quoted, denied}},
        {.time_ns = 4, .verdict = DP_BYPASS}};
    char whole[4096];
    uint64_t ends[RECORDS + 1] = {0};
    for (uint32_t i = 0; i < RECORDS; i++) {
        uint64_t packet = 99 + i;
        uint64_t used;
        CHECK_EQUAL(
            dp_records_text(&records[i], 1, format, names, &packet, whole + ends[i], sizeof whole - ends[i], &used), 1);
        ends[i + 1] = ends[i] + used;
    }
    for (uint64_t size = 0; size <= ends[RECORDS] + 30; size++) {
        /* A block of exact size lets a sanitizer see the first byte too many. */
        char *exact = malloc(size + (size == 0));
        uint64_t packet = 99;
        uint64_t used = 12345;
        uint32_t fit = 0;
        while (fit < RECORDS && ends[fit + 1] <= size)
            fit++;
        CHECK_EQUAL(dp_records_text(records, RECORDS, format, names, &packet, exact, size, &used), fit);
        CHECK_EQUAL(used, ends[fit]);
        CHECK_EQUAL(packet, 99 + fit);
        CHECK(memcmp(exact, whole, ends[fit]) == 0);
        free(exact);
    }
}

static int try_record(struct dp_record record, uint64_t *packet)
{
    const struct dp_record records[2] = {{.verdict = DP_BYPASS}, record};
    uint64_t used = 0;
    CHECK_EQUAL(dp_records_text(records, 2, DP_TEXT_JSON, &json_names, packet, out, sizeof out, &used), 1);
    return dp_records_text(&record, 1, DP_TEXT_JSON, &json_names, packet, out, sizeof out, &used);
}

/* A value without a word, a zone or a rule without a name: what comes before is written, then the call refuses. */
static void records_that_cannot_be_told(void)
{
    struct dp_check wrong[8];
    for (int i = 0; i < 8; i++)
        wrong[i] = ingress_by_rule;
    wrong[0].zone = 3;
    wrong[1].rule = 3;
    wrong[2].direction = DP_DIRECTIONS;
    wrong[3].verdict = DP_VERDICTS;
    wrong[4].state = DP_STATES;
    wrong[5].reason = DP_REASONS;
    wrong[6].origin = DP_ORIGINS;
    wrong[7].rule = UINT32_MAX;
    uint64_t packet = 1;
    for (int i = 0; i < 8; i++) {
        struct dp_record record = {.verdict = DP_ALLOW, .checks = 2, .check = {ingress_by_rule, wrong[i]}};
        CHECK_EQUAL(try_record(record, &packet), DP_E_ARGUMENT);
    }
    CHECK_EQUAL(try_record((struct dp_record){.verdict = DP_VERDICTS}, &packet), DP_E_ARGUMENT);
    CHECK_EQUAL(try_record((struct dp_record){.checks = 3}, &packet), DP_E_ARGUMENT);
    CHECK_EQUAL(packet, 11);

    uint64_t used;
    CHECK_EQUAL(dp_records_text(NULL, 0, DP_TEXT_CSV, &csv_names, &packet, NULL, 0, &used), 0);
    CHECK_EQUAL(used, 0);
    CHECK_EQUAL(dp_records_text(NULL, 0, 2, &csv_names, &packet, NULL, 0, &used), DP_E_ARGUMENT);
}

static void every_value_has_a_word(void)
{
    static const int counts[DP_WORD_KINDS] = {DP_VERDICTS, DP_DIRECTIONS,  DP_ORIGINS, DP_STATES, DP_REASONS,
                                              DP_CAUSES,   DP_CONN_STATES, DP_LINKS,   DP_FLOODS};
    for (int kind = 0; kind < DP_WORD_KINDS; kind++) {
        for (int value = 0; value < counts[kind]; value++) {
            const char *word = dp_word(kind, value);
            CHECK(word && word[0]);
            CHECK_EQUAL(dp_word_table((enum dp_word_kind)kind)[value].length, strlen(word));
        }
        CHECK(dp_word(kind, counts[kind]) == NULL);
        CHECK(dp_word(kind, -1) == NULL);
    }
    CHECK(dp_word(DP_WORD_KINDS, 0) == NULL);
    CHECK(dp_word(-1, 0) == NULL);
}

static void check_words(int kind, const char *expected)
{
    char words[512] = "";
    for (int value = 0; dp_word(kind, value); value++) {
        if (value)
            strcat(words, "|");
        strcat(words, dp_word(kind, value));
    }
    CHECK_TEXT(words, expected);
}

static void words_of_spec_7(void)
{
    check_words(DP_WORD_VERDICT, "deny|allow|bypass");
    check_words(DP_WORD_DIRECTION, "ingress|egress");
    check_words(DP_WORD_ORIGIN, "none|inbound|outbound");
    check_words(DP_WORD_STATE, "new|established|related|disconnected|invalid|untracked");
    check_words(DP_WORD_REASON, "rule|no-rule-matched|connection|related|disconnected|invalid|malformed|table-full|"
                                "load-balancer|control");
    check_words(DP_WORD_CAUSE,
                "none|short-header|bad-length|bad-version|extension-chain|bad-checksum|fragment|fragment-limit|"
                "tcp-flags|tcp-no-connection|tcp-state|tcp-window|icmp-unsolicited|icmp-unrelated|"
                "icmp-type|neighbour-discovery|spoofed|not-ip|arp|multicast-listener|dhcp|dhcp-server|control-rate");
    check_words(DP_WORD_CONN_STATE, "INVALID|SYN_SENT|SYN_SENT2|SYN_RECV|SYN_RECV|ESTABLISHED|FIN_WAIT|FIN_WAIT|"
                                    "CLOSE_WAIT|CLOSE_WAIT|CLOSING|LAST_ACK|LAST_ACK|TIME_WAIT|CLOSE|UNREPLIED|REPLIED|"
                                    "UNREPLIED|REPLIED");
    check_words(DP_WORD_LINK, "ethernet|raw|null|loop|sll|sll2|ppp|pppoe|cisco-hdlc|nflog|pktap");
    check_words(DP_WORD_FLOOD, "tcp-half-open|tcp|udp|icmp|other");
}

int main(void)
{
    json_lines_are_those_of_the_spec();
    csv_rows();
    times();
    packet_numbers();
    every_size_of_output(DP_TEXT_JSON, &json_names);
    every_size_of_output(DP_TEXT_CSV, &csv_names);
    records_that_cannot_be_told();
    every_value_has_a_word();
    words_of_spec_7();
    return check_result("test_verdict_text");
}
