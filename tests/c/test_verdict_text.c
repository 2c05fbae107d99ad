/* test_verdict_text.c: dp_records_text and the words of dp_word (SPEC 7, --verdicts). */
#include "../../csrc/dp_text.h"
#include "../../csrc/words.h"
#include "check.h"

#include <stdlib.h>

/* Zones 0 to 2, rules 1 and 2 (0 is none); the names stand one behind the other. */
static const char json_text[] =
    "\"ecs-a\"\"ecs-b\"\"\\u00e9, \\\"x\\\"\"\"A01\"\"\"\"sg-a\"\"sg-b\"\"x.pcap\"\"tcp\"\"icmpv6\"200";
static const uint32_t json_zones[] = {0, 7, 14, 29};
static const uint32_t json_rules[] = {29, 29, 34, 36};
static const uint32_t json_groups[] = {36, 36, 42, 48};
static const uint32_t json_captures[] = {48, 56};
static uint32_t json_protocols[DP_NAMED_ARP + 2];
static const uint32_t interfaces[] = {0, 1, 8};
static const struct dp_names json_names = {json_text,      json_zones, json_rules, json_groups, json_captures,
                                           json_protocols, 3,          3,          1,           2,
                                           "0\"tap-a\"",   interfaces};

static const char csv_text[] = "ecs-aecs-b\"é, \"\"x\"\"\"A01A02sg-asg-bx.pcaptcpicmpv6200";
static const uint32_t csv_zones[] = {0, 5, 10, 21};
static const uint32_t csv_rules[] = {21, 21, 24, 27};
static const uint32_t csv_groups[] = {27, 27, 31, 35};
static const uint32_t csv_captures[] = {35, 41};
static uint32_t csv_protocols[DP_NAMED_ARP + 2];
static const uint32_t csv_interfaces[] = {0, 1, 6};
static const struct dp_names csv_names = {csv_text, csv_zones, csv_rules, csv_groups, csv_captures, csv_protocols,
                                          3,        3,         1,         2,          "0tap-a",     csv_interfaces};

static const struct dp_check ingress_by_rule = {.zone = 0,
                                                .rule = 1,
                                                .direction = DP_INGRESS,
                                                .verdict = DP_ALLOW,
                                                .state = DP_STATE_NEW,
                                                .reason = DP_REASON_RULE,
                                                .origin = DP_INBOUND,
                                                .opened_by = 7};
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

/* What is said of a packet that is no IP, and of one that has it all. */
#define JSON_NOT_IP                                                                                                    \
    ", \"protocol\": null, \"source\": null, \"destination\": null, \"source_port\": null, "                           \
    "\"destination_port\": null, \"icmp_type\": null, \"icmp_code\": null, \"vlans\": [], \"capture\": \"x.pcap\", "   \
    "\"capture_packet\": 3, \"interface\": null, \"length\": 0}\n"
#define CSV_NOT_IP ",,,,,,,,,x.pcap,3,,0\n"
#define CSV_NO_CHECK ",,,,,,,,,,"
static const struct dp_flow not_ip[4];
static const struct dp_seen place[4] = {{.number = 3}, {.number = 3}, {.number = 3}, {.number = 3}};

static char out[4096];

/* The text of one record with the number `packet`. */
static const char *text_of(struct dp_record record, int format, uint64_t packet)
{
    uint64_t used = 0;
    uint64_t number = packet;
    const struct dp_names *names = format == DP_TEXT_JSON ? &json_names : &csv_names;
    memset(out, '#', sizeof out);
    CHECK_EQUAL(dp_records_text(&record, not_ip, place, 1, format, names, &number, out, sizeof out, &used), 1);
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
               "\"rule\", \"rule\": \"A01\", \"security_group\": \"sg-a\", \"connection\": \"inbound\", \"cause\": "
               "null, \"opened_by\": 7}]" JSON_NOT_IP);
    record = (struct dp_record){.time_ns = 5, .verdict = DP_DENY, .checks = 2, .check = {quoted, denied}};
    CHECK_TEXT(
        text_of(record, DP_TEXT_JSON, 18446744073709551614u),
        "{\"packet\": 18446744073709551614, \"time\": 0.000000005, \"verdict\": \"deny\", \"checks\": "
        "[{\"instance\": \"\\u00e9, \\\"x\\\"\", \"direction\": \"egress\", \"verdict\": \"allow\", \"state\": "
        "\"established\", \"reason\": \"connection\", \"rule\": \"\", \"security_group\": \"sg-b\", "
        "\"connection\": \"outbound\", \"cause\": null, \"opened_by\": null}, {\"instance\": \"ecs-b\", \"direction\": "
        "\"egress\", \"verdict\": "
        "\"deny\", \"state\": \"invalid\", \"reason\": \"no-rule-matched\", \"rule\": null, "
        "\"security_group\": null, \"connection\": null, \"cause\": \"tcp-window\", \"opened_by\": null}]" JSON_NOT_IP);
    record = (struct dp_record){.time_ns = 0, .verdict = DP_BYPASS};
    CHECK_TEXT(text_of(record, DP_TEXT_JSON, 10),
               "{\"packet\": 10, \"time\": 0.000000, \"verdict\": \"bypass\", \"checks\": []" JSON_NOT_IP);
}

static void csv_rows(void)
{
    struct dp_record record = {
        .time_ns = 1700000000000001000, .verdict = DP_ALLOW, .checks = 1, .check = {ingress_by_rule}};
    CHECK_TEXT(text_of(record, DP_TEXT_CSV, 1),
               "1,1700000000.000001,allow,ecs-a,ingress,allow,new,rule,A01,sg-a,inbound,,7" CSV_NOT_IP);
    record = (struct dp_record){.time_ns = 99, .verdict = DP_DENY, .checks = 2, .check = {quoted, denied}};
    CHECK_TEXT(text_of(record, DP_TEXT_CSV, 2),
               "2,0.000000099,deny,\"é, \"\"x\"\"\",egress,allow,established,connection,A02,sg-b,outbound,," CSV_NOT_IP
               "2,0.000000099,deny,ecs-b,egress,deny,invalid,no-rule-matched,,,,tcp-window," CSV_NOT_IP);
    record = (struct dp_record){.time_ns = 1000, .verdict = DP_BYPASS};
    CHECK_TEXT(text_of(record, DP_TEXT_CSV, 3), "3,0.000001,bypass" CSV_NO_CHECK CSV_NOT_IP);
}

/* A packet as JSON and CSV say it behind its checks, from `protocol` on. */
static void check_packet(struct dp_flow flow, struct dp_seen seen, const char *json, const char *csv)
{
    struct dp_record record = {.verdict = DP_BYPASS, .length = 60};
    uint64_t used = 0, number = 1;
    const char *found;

    CHECK_EQUAL(dp_records_text(&record, &flow, &seen, 1, DP_TEXT_JSON, &json_names, &number, out, sizeof out, &used),
                1);
    out[used] = 0;
    found = strstr(out, "\"protocol\"");
    CHECK(found != NULL);
    if (found)
        CHECK_TEXT(found, json);
    CHECK_EQUAL(dp_records_text(&record, &flow, &seen, 1, DP_TEXT_CSV, &csv_names, &number, out, sizeof out, &used), 1);
    out[used] = 0;
    CHECK_TEXT(out + strlen("2,0.000000,bypass" CSV_NO_CHECK ","), csv);
}

static void what_the_packet_was(void)
{
    check_packet((struct dp_flow){.source = {10, 0, 0, 255},
                                  .destination = {192, 168, 0, 1},
                                  .source_port = 4000,
                                  .destination_port = 22,
                                  .family = 4,
                                  .protocol = 6,
                                  .transport = true,
                                  .vlans = 100u << 12 | 20},
                 (struct dp_seen){.number = 12, .interface = 1},
                 "\"protocol\": \"tcp\", \"source\": \"10.0.0.255\", \"destination\": \"192.168.0.1\", "
                 "\"source_port\": 4000, \"destination_port\": 22, \"icmp_type\": null, \"icmp_code\": null, "
                 "\"vlans\": [100, 20], \"capture\": \"x.pcap\", \"capture_packet\": 12, \"interface\": 0, "
                 "\"length\": 60}\n",
                 "tcp,10.0.0.255,192.168.0.1,4000,22,,,100 20,x.pcap,12,0,60\n");
    check_packet((struct dp_flow){.source = {0x20, 1, 0x0d, 0xb8, [15] = 1},
                                  .destination = {[10] = 0xff, [11] = 0xff, [12] = 1, [13] = 2, [14] = 3, [15] = 4},
                                  .source_port = 77,
                                  .family = 6,
                                  .protocol = 58,
                                  .icmp = 1,
                                  .icmp_type = 128,
                                  .transport = true,
                                  .vlans = 7},
                 (struct dp_seen){.number = 1, .interface = 2},
                 "\"protocol\": \"icmpv6\", \"source\": \"2001:db8::1\", \"destination\": \"::ffff:1.2.3.4\", "
                 "\"source_port\": null, \"destination_port\": null, \"icmp_type\": 128, \"icmp_code\": 0, "
                 "\"vlans\": [7], \"capture\": \"x.pcap\", \"capture_packet\": 1, \"interface\": \"tap-a\", "
                 "\"length\": 60}\n",
                 "icmpv6,2001:db8::1,::ffff:1.2.3.4,,,128,0,7,x.pcap,1,tap-a,60\n");
    check_packet((struct dp_flow){.destination = {0, 1, [6] = 0, [7] = 2, [12] = 0xab, [13] = 0xcd},
                                  .family = 6,
                                  .protocol = 200},
                 (struct dp_seen){.number = 1},
                 "\"protocol\": 200, \"source\": \"::\", \"destination\": \"1::2:0:0:abcd:0\", "
                 "\"source_port\": null, \"destination_port\": null, \"icmp_type\": null, \"icmp_code\": null, "
                 "\"vlans\": [], \"capture\": \"x.pcap\", \"capture_packet\": 1, \"interface\": null, "
                 "\"length\": 60}\n",
                 "200,::,1::2:0:0:abcd:0,,,,,,x.pcap,1,,60\n");
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
        char expected[120];
        struct dp_record record = {.time_ns = cases[i].time_ns, .verdict = DP_BYPASS};
        (void)snprintf(expected, sizeof expected, "7,%s,bypass" CSV_NO_CHECK CSV_NOT_IP, cases[i].text);
        CHECK_TEXT(text_of(record, DP_TEXT_CSV, 7), expected);
    }
}

static void packet_numbers(void)
{
    for (uint64_t packet = 1; packet < UINT64_MAX / 20; packet = packet * 7 + 3) {
        char expected[120];
        struct dp_record record = {.verdict = DP_BYPASS};
        (void)snprintf(expected, sizeof expected, "%" PRIu64 ",0.000000,bypass" CSV_NO_CHECK CSV_NOT_IP, packet);
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
        CHECK_EQUAL(dp_records_text(&records[i], not_ip, place, 1, format, names, &packet, whole + ends[i],
                                    sizeof whole - ends[i], &used),
                    1);
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
        CHECK_EQUAL(dp_records_text(records, not_ip, place, RECORDS, format, names, &packet, exact, size, &used), fit);
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
    CHECK_EQUAL(dp_records_text(records, not_ip, place, 2, DP_TEXT_JSON, &json_names, packet, out, sizeof out, &used),
                1);
    return dp_records_text(&record, not_ip, place, 1, DP_TEXT_JSON, &json_names, packet, out, sizeof out, &used);
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
    uint64_t nothing;
    CHECK_EQUAL(dp_records_text(&(struct dp_record){.verdict = DP_ALLOW}, not_ip, &(struct dp_seen){.interface = 3}, 1,
                                DP_TEXT_JSON, &json_names, &packet, out, sizeof out, &nothing),
                DP_E_ARGUMENT);

    uint64_t used;
    CHECK_EQUAL(dp_records_text(NULL, NULL, NULL, 0, DP_TEXT_CSV, &csv_names, &packet, NULL, 0, &used), 0);
    CHECK_EQUAL(used, 0);
    CHECK_EQUAL(dp_records_text(NULL, NULL, NULL, 0, 2, &csv_names, &packet, NULL, 0, &used), DP_E_ARGUMENT);
}

static void every_value_has_a_word(void)
{
    static const int counts[DP_WORD_KINDS] = {DP_VERDICTS,         DP_DIRECTIONS, DP_ORIGINS,     DP_STATES,
                                              DP_REASONS,          DP_CAUSES,     DP_CONN_STATES, DP_LINKS,
                                              DP_FLOODS,           DP_FLOW_ENDS,  DP_FLOW_LOSSES, DP_SHADOW_OUTCOMES,
                                              DP_RESTORED_OUTCOMES};
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
    check_words(DP_WORD_FLOW_END, "not-admitted|live|expired|closed|reset|disconnected|evicted");
}

/* TCP, ICMPv6 and protocol 200 have names at `tcp`, `icmpv6` and `last` .. `end`; the others' are empty. */
static void name_protocols(uint32_t *offset, uint32_t tcp, uint32_t icmpv6, uint32_t last, uint32_t end)
{
    for (uint32_t i = 0; i < DP_NAMED_ARP + 2; i++)
        offset[i] = i <= 6 ? tcp : i <= 58 ? icmpv6 : i <= 200 ? last : end;
}

int main(void)
{
    name_protocols(json_protocols, 56, 61, 69, 72);
    name_protocols(csv_protocols, 41, 44, 50, 53);
    RUN(json_lines_are_those_of_the_spec);
    RUN(csv_rows);
    RUN(what_the_packet_was);
    RUN(times);
    RUN(packet_numbers);
    every_size_of_output(DP_TEXT_JSON, &json_names);
    every_size_of_output(DP_TEXT_CSV, &csv_names);
    RUN(records_that_cannot_be_told);
    RUN(every_value_has_a_word);
    RUN(words_of_spec_7);
    return check_result("test_verdict_text");
}
