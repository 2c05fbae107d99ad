/*
 * verdict_text.c: verdict records as JSON lines or CSV rows (SPEC 7, --verdicts).
 *
 *   JSON  {"packet": 1, "time": 1700000000.000001, "verdict": "allow", "checks": [{"instance": "ecs-a", ...}],
 *         "protocol": "tcp", "source": "10.0.0.5", ...}: what the packet was stands behind the fields of SPEC 7.
 *   CSV   A row for each check, and one for a packet without checks: packet,time,verdict, then of the check
 *         instance,direction,check_verdict,state,reason,rule,security_group,connection,cause,opened_by, then of the
 *         packet protocol,source,destination,source_port,destination_port,icmp_type,icmp_code,vlans,capture,
 *         capture_packet,interface,length. What is null is empty; VLANs have a space between them. The header row is
 *         the caller's.
 *
 * A time is seconds with 6 digits behind the point, or 9 where microseconds do not tell it all. Lines end with one
 * newline. Names come quoted from the caller and are copied as they are.
 *
 * Guarantees
 *   1. Nothing is written at or behind out + size, and only whole lines count in *used.
 *   2. A record is refused (DP_E_ARGUMENT when it is the first, otherwise the call stops before it) if it holds a
 *      value that no enumeration has, or a zone, rule or capture without a name.
 *   3. No library call formats anything: the cost of a line is the copying of its pieces.
 */
#include "../dp_api.h"
#include "../words.h"

#include <limits.h>
#include <stdbool.h>
#include <string.h>

/* The room that is left for a line. `full` once a piece did not fit; the line is then worthless. */
struct line {
    char *at;
    char *end;
    bool full;
};

static inline void put(struct line *line, const char *text, size_t length)
{
    if ((size_t)(line->end - line->at) < length) {
        line->full = true;
        return;
    }
    memcpy(line->at, text, length);
    line->at += length;
}

#define PUT(line, literal) put((line), (literal), sizeof(literal) - 1)

static inline void put_word(struct line *line, const struct dp_word *word)
{
    /* A copy of fixed size costs less than one of the word's length, where there is room for it. */
    if ((size_t)(line->end - line->at) >= sizeof word->text) {
        memcpy(line->at, word->text, sizeof word->text);
        line->at += word->length;
    } else {
        put(line, word->text, word->length);
    }
}

static const char two_digits[] = "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
                                 "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
                                 "8081828384858687888990919293949596979899";

enum { DECIMAL_MAX = 20 };

/* Writes `value` so that it ends before `end`, with zeros in front up to `width` digits; returns where it begins. */
static inline char *decimal(char *end, uint64_t value, uint32_t width)
{
    char *at = end;
    while (value >= 10) {
        at -= 2;
        memcpy(at, &two_digits[value % 100 * 2], 2);
        value /= 100;
    }
    if (value || at == end)
        *--at = (char)('0' + value);
    while (end - at < (ptrdiff_t)width)
        *--at = '0';
    return at;
}

static inline void put_decimal(struct line *line, uint64_t value, uint32_t width)
{
    char digits[DECIMAL_MAX];
    char *first = decimal(digits + sizeof digits, value, width);
    put(line, first, (size_t)(digits + sizeof digits - first));
}

static inline void put_time(struct line *line, uint64_t time_ns)
{
    uint64_t fraction = time_ns % 1000000000;
    put_decimal(line, time_ns / 1000000000, 1);
    PUT(line, ".");
    if (fraction % 1000)
        put_decimal(line, fraction, 9);
    else
        put_decimal(line, fraction / 1000, 6);
}

static inline void put_name(struct line *line, const struct dp_names *names, const uint32_t *offset, uint32_t i)
{
    put(line, names->text + offset[i], offset[i + 1] - offset[i]);
}

static bool named(const uint32_t *offset, uint32_t i, uint32_t n)
{
    return i < n && offset[i] <= offset[i + 1];
}

static bool record_valid(const struct dp_record *record, const struct dp_seen *seen, const struct dp_names *names)
{
    if (!named(names->capture_offset, seen->capture, names->n_captures) || record->verdict >= DP_VERDICTS ||
        record->checks > 2)
        return false;
    for (uint32_t i = 0; i < record->checks; i++) {
        const struct dp_check *check = &record->check[i];
        if (check->direction >= DP_DIRECTIONS || check->verdict >= DP_VERDICTS || check->state >= DP_STATES ||
            check->reason >= DP_REASONS || check->origin >= DP_ORIGINS || check->cause >= DP_CAUSES)
            return false;
        if (!named(names->zone_offset, check->zone, names->n_zones))
            return false;
        if (check->rule && (!named(names->rule_offset, check->rule, names->n_rules) ||
                            !named(names->group_offset, check->rule, names->n_rules)))
            return false;
    }
    return true;
}

/* ---- what the packet was ---- */

static void put_ipv4(struct line *line, const uint8_t *address)
{
    for (int i = 0; i < 4; i++) {
        if (i)
            PUT(line, ".");
        put_decimal(line, address[i], 1);
    }
}

static void put_hex(struct line *line, uint32_t value)
{
    static const char digits[] = "0123456789abcdef";
    bool begun = false;

    for (int shift = 12; shift >= 0; shift -= 4) {
        uint32_t digit = value >> shift & 15;

        begun = begun || digit || shift == 0;
        if (begun)
            put(line, &digits[digit], 1);
    }
}

/* As RFC 5952 has it: the first longest run of two zeros or more is left out. */
static void put_ipv6(struct line *line, const uint8_t *address)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    uint32_t word[8];
    int first = 8, run = 1;

    if (memcmp(address, mapped, sizeof mapped) == 0) {
        PUT(line, "::ffff:");
        put_ipv4(line, address + 12);
        return;
    }
    for (int i = 0; i < 8; i++)
        word[i] = (uint32_t)address[2 * i] << 8 | address[2 * i + 1];
    for (int i = 0, length; i < 8; i += length + 1) {
        for (length = 0; i + length < 8 && word[i + length] == 0; length++)
            ;
        if (length > run) {
            first = i;
            run = length;
        }
    }
    for (int i = 0; i < 8; i++) {
        if (i == first) {
            PUT(line, "::");
            i += run - 1;
        } else {
            if (i && i != first + run)
                PUT(line, ":");
            put_hex(line, word[i]);
        }
    }
}

static void put_address(struct line *line, const struct dp_flow *flow, const uint8_t *address)
{
    if (flow->family == 4)
        put_ipv4(line, address);
    else
        put_ipv6(line, address);
}

static void put_protocol(struct line *line, const struct dp_flow *flow, const struct dp_names *names)
{
    put_name(line, names, names->protocol_offset, flow->arp ? DP_NAMED_ARP : flow->protocol);
}

enum { ICMP = 1, ICMPV6 = 58 };

/* Whether ports were read: all of them 0 stands for none. An ICMP query's identifier is no port. */
static bool has_ports(const struct dp_flow *flow)
{
    return (flow->source_port || flow->destination_port) && flow->protocol != ICMP && flow->protocol != ICMPV6;
}

static void put_json_number(struct line *line, bool known, uint64_t value)
{
    if (known)
        put_decimal(line, value, 1);
    else
        PUT(line, "null");
}

static void put_json_packet(struct line *line, const struct dp_record *record, const struct dp_flow *flow,
                            const struct dp_seen *seen, const struct dp_names *names)
{
    bool ports = has_ports(flow);

    if (flow->family) {
        PUT(line, ", \"protocol\": ");
        put_protocol(line, flow, names);
        PUT(line, ", \"source\": \"");
        put_address(line, flow, flow->source);
        PUT(line, "\", \"destination\": \"");
        put_address(line, flow, flow->destination);
        PUT(line, "\", \"source_port\": ");
    } else {
        PUT(line, ", \"protocol\": null, \"source\": null, \"destination\": null, \"source_port\": ");
    }
    put_json_number(line, ports, flow->source_port);
    PUT(line, ", \"destination_port\": ");
    put_json_number(line, ports, flow->destination_port);
    PUT(line, ", \"icmp_type\": ");
    put_json_number(line, flow->icmp, flow->icmp_type);
    PUT(line, ", \"icmp_code\": ");
    put_json_number(line, flow->icmp, flow->icmp_code);
    PUT(line, ", \"vlans\": [");
    if (flow->vlans >> 12) {
        put_decimal(line, flow->vlans >> 12, 1);
        PUT(line, ", ");
    }
    if (flow->vlans)
        put_decimal(line, flow->vlans & 0xfff, 1);
    PUT(line, "], \"capture\": ");
    put_name(line, names, names->capture_offset, seen->capture);
    PUT(line, ", \"capture_packet\": ");
    put_decimal(line, seen->number, 1);
    PUT(line, ", \"interface\": ");
    put_json_number(line, seen->interface != 0, seen->interface - 1);
    PUT(line, ", \"length\": ");
    put_decimal(line, record->length, 1);
}

static void put_csv_number(struct line *line, bool known, uint64_t value)
{
    PUT(line, ",");
    if (known)
        put_decimal(line, value, 1);
}

static void put_csv_packet(struct line *line, const struct dp_record *record, const struct dp_flow *flow,
                           const struct dp_seen *seen, const struct dp_names *names)
{
    bool ports = has_ports(flow);

    PUT(line, ",");
    if (flow->family) {
        put_protocol(line, flow, names);
        PUT(line, ",");
        put_address(line, flow, flow->source);
        PUT(line, ",");
        put_address(line, flow, flow->destination);
    } else {
        PUT(line, ",,");
    }
    put_csv_number(line, ports, flow->source_port);
    put_csv_number(line, ports, flow->destination_port);
    put_csv_number(line, flow->icmp, flow->icmp_type);
    put_csv_number(line, flow->icmp, flow->icmp_code);
    PUT(line, ",");
    if (flow->vlans >> 12) {
        put_decimal(line, flow->vlans >> 12, 1);
        PUT(line, " ");
    }
    if (flow->vlans)
        put_decimal(line, flow->vlans & 0xfff, 1);
    PUT(line, ",");
    put_name(line, names, names->capture_offset, seen->capture);
    put_csv_number(line, true, seen->number);
    put_csv_number(line, seen->interface != 0, seen->interface - 1);
    put_csv_number(line, true, record->length);
}

/* ---- checks and lines ---- */

static void put_json_check(struct line *line, const struct dp_check *check, const struct dp_names *names)
{
    PUT(line, "{\"instance\": ");
    put_name(line, names, names->zone_offset, check->zone);
    PUT(line, ", \"direction\": \"");
    put_word(line, &dp_word_table(DP_WORD_DIRECTION)[check->direction]);
    PUT(line, "\", \"verdict\": \"");
    put_word(line, &dp_word_table(DP_WORD_VERDICT)[check->verdict]);
    PUT(line, "\", \"state\": \"");
    put_word(line, &dp_word_table(DP_WORD_STATE)[check->state]);
    PUT(line, "\", \"reason\": \"");
    put_word(line, &dp_word_table(DP_WORD_REASON)[check->reason]);
    PUT(line, "\", \"rule\": ");
    if (check->rule) {
        put_name(line, names, names->rule_offset, check->rule);
        PUT(line, ", \"security_group\": ");
        put_name(line, names, names->group_offset, check->rule);
        PUT(line, ", \"connection\": ");
    } else {
        PUT(line, "null, \"security_group\": null, \"connection\": ");
    }
    if (check->origin == DP_ORIGIN_NONE) {
        PUT(line, "null");
    } else {
        PUT(line, "\"");
        put_word(line, &dp_word_table(DP_WORD_ORIGIN)[check->origin]);
        PUT(line, "\"");
    }
    PUT(line, ", \"cause\": ");
    if (check->cause == DP_CAUSE_NONE) {
        PUT(line, "null");
    } else {
        PUT(line, "\"");
        put_word(line, &dp_word_table(DP_WORD_CAUSE)[check->cause]);
        PUT(line, "\"");
    }
    PUT(line, ", \"opened_by\": ");
    put_json_number(line, check->opened_by != 0, check->opened_by);
    PUT(line, "}");
}

static void put_json(struct line *line, const struct dp_record *record, const struct dp_flow *flow,
                     const struct dp_seen *seen, const struct dp_names *names, uint64_t packet)
{
    PUT(line, "{\"packet\": ");
    put_decimal(line, packet, 1);
    PUT(line, ", \"time\": ");
    put_time(line, record->time_ns);
    PUT(line, ", \"verdict\": \"");
    put_word(line, &dp_word_table(DP_WORD_VERDICT)[record->verdict]);
    PUT(line, "\", \"checks\": [");
    for (uint32_t i = 0; i < record->checks; i++) {
        if (i)
            PUT(line, ", ");
        put_json_check(line, &record->check[i], names);
    }
    PUT(line, "]");
    put_json_packet(line, record, flow, seen, names);
    PUT(line, "}\n");
}

static void put_csv_check(struct line *line, const struct dp_check *check, const struct dp_names *names)
{
    PUT(line, ",");
    put_name(line, names, names->zone_offset, check->zone);
    PUT(line, ",");
    put_word(line, &dp_word_table(DP_WORD_DIRECTION)[check->direction]);
    PUT(line, ",");
    put_word(line, &dp_word_table(DP_WORD_VERDICT)[check->verdict]);
    PUT(line, ",");
    put_word(line, &dp_word_table(DP_WORD_STATE)[check->state]);
    PUT(line, ",");
    put_word(line, &dp_word_table(DP_WORD_REASON)[check->reason]);
    PUT(line, ",");
    if (check->rule)
        put_name(line, names, names->rule_offset, check->rule);
    PUT(line, ",");
    if (check->rule)
        put_name(line, names, names->group_offset, check->rule);
    PUT(line, ",");
    if (check->origin != DP_ORIGIN_NONE)
        put_word(line, &dp_word_table(DP_WORD_ORIGIN)[check->origin]);
    PUT(line, ",");
    if (check->cause != DP_CAUSE_NONE)
        put_word(line, &dp_word_table(DP_WORD_CAUSE)[check->cause]);
    put_csv_number(line, check->opened_by != 0, check->opened_by);
}

static void put_csv(struct line *line, const struct dp_record *record, const struct dp_flow *flow,
                    const struct dp_seen *seen, const struct dp_names *names, uint64_t packet)
{
    uint32_t i = 0;

    do {
        put_decimal(line, packet, 1);
        PUT(line, ",");
        put_time(line, record->time_ns);
        PUT(line, ",");
        put_word(line, &dp_word_table(DP_WORD_VERDICT)[record->verdict]);
        if (record->checks)
            put_csv_check(line, &record->check[i], names);
        else
            PUT(line, ",,,,,,,,,,");
        put_csv_packet(line, record, flow, seen, names);
        PUT(line, "\n");
    } while (++i < record->checks);
}

int dp_records_text(const struct dp_record *records, const struct dp_flow *flows, const struct dp_seen *seen,
                    uint32_t n, int format, const struct dp_names *names, uint64_t *packet, char *out, uint64_t size,
                    uint64_t *used)
{
    if (!names || !packet || !used || n > INT_MAX || (n && (!records || !flows || !seen || !out)) ||
        (format != DP_TEXT_JSON && format != DP_TEXT_CSV))
        return DP_E_ARGUMENT;
    *used = 0;
    if (n == 0)
        return 0;
    struct line line = {.at = out, .end = out + size};
    char *begin = out;
    uint32_t written = 0;
    for (; written < n; written++) {
        if (!record_valid(&records[written], &seen[written], names)) {
            if (written == 0)
                return DP_E_ARGUMENT;
            break;
        }
        if (format == DP_TEXT_JSON)
            put_json(&line, &records[written], &flows[written], &seen[written], names, *packet + written);
        else
            put_csv(&line, &records[written], &flows[written], &seen[written], names, *packet + written);
        if (line.full)
            break;
        begin = line.at;
    }
    *packet += written;
    *used = (uint64_t)(begin - out);
    return (int)written;
}
