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
 *      value that no enumeration has, or a zone, rule, capture or interface without a name.
 *   3. No library call formats anything: the cost of a line is the copying of its pieces.
 */
#include "../dp_api.h"
#include "../words.h"
#include "address_text.h"

#include <limits.h>
#include <stdbool.h>
#include <string.h>

/* The room that is left for a line. `full` once a piece did not fit; the line is then worthless. */
struct line {
    char *at;
    char *end;
    bool full;
};

/*
 * A piece of up to `most` bytes is written where it belongs if there is room for the longest one, and beside it
 * otherwise: nothing is measured before it is written.
 */
static inline char *begin(const struct line *line, char *beside, size_t most)
{
    return (size_t)(line->end - line->at) >= most ? line->at : beside;
}

/* Copies of fixed size cost less than a call for the few bytes of most names. */
static inline void copy(char *to, const char *text, size_t length)
{
    if (length > 32) {
        memcpy(to, text, length);
    } else if (length >= 16) {
        memcpy(to, text, 16);
        memcpy(to + length - 16, text + length - 16, 16);
    } else if (length >= 8) {
        memcpy(to, text, 8);
        memcpy(to + length - 8, text + length - 8, 8);
    } else if (length >= 4) {
        memcpy(to, text, 4);
        memcpy(to + length - 4, text + length - 4, 4);
    } else {
        for (size_t i = 0; i < length; i++)
            to[i] = text[i];
    }
}

static inline void put(struct line *line, const char *text, size_t length)
{
    if ((size_t)(line->end - line->at) < length) {
        line->full = true;
        return;
    }
    if (__builtin_constant_p(length))
        memcpy(line->at, text, length);
    else
        copy(line->at, text, length);
    line->at += length;
}

/* Takes a piece that was written from what `begin` returned to before `end`. */
static inline void finish(struct line *line, const char *begun, char *end)
{
    if (begun == line->at)
        line->at = end;
    else
        put(line, begun, (size_t)(end - begun));
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

static inline uint32_t digits_of(uint64_t value)
{
    uint32_t digits = 1;

    for (; value >= 10000; value /= 10000)
        digits += 4;
    return digits + (value >= 10) + (value >= 100) + (value >= 1000);
}

/* Writes the last `digits` digits of `value`; returns what is behind them. */
static inline char *decimal(char *at, uint64_t value, uint32_t digits)
{
    char *end = at + digits;

    for (; digits >= 2; digits -= 2) {
        memcpy(at + digits - 2, &two_digits[value % 100 * 2], 2);
        value /= 100;
    }
    if (digits)
        *at = (char)('0' + value % 10);
    return end;
}

static inline void put_decimal(struct line *line, uint64_t value)
{
    char beside[DECIMAL_MAX], *begun = begin(line, beside, sizeof beside);

    finish(line, begun, decimal(begun, value, digits_of(value)));
}

static inline void put_time(struct line *line, uint64_t time_ns)
{
    enum { NANOSECONDS = 1000000000 };
    char beside[DECIMAL_MAX + 1], *begun = begin(line, beside, sizeof beside), *end;
    uint64_t seconds = time_ns / NANOSECONDS;
    uint32_t fraction = (uint32_t)(time_ns % NANOSECONDS);

    end = decimal(begun, seconds, digits_of(seconds));
    *end++ = '.';
    end = fraction % 1000 ? decimal(end, fraction, 9) : decimal(end, fraction / 1000, 6);
    finish(line, begun, end);
}
_Static_assert(UINT64_MAX / 1000000000 < 100000000000, "seconds have up to 11 digits");

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
        record->checks > 2 ||
        (seen->interface && !named(names->interface_offset, seen->interface - 1, names->n_interfaces)))
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

static inline void put_address(struct line *line, const struct dp_flow *flow, const uint8_t *address)
{
    char beside[DP_ADDRESS_TEXT_MAX], *begun = begin(line, beside, sizeof beside);

    finish(line, begun, flow->family == 4 ? dp_ipv4_text(begun, address) : dp_ipv6_text(begun, address));
}

static void put_protocol(struct line *line, const struct dp_flow *flow, const struct dp_names *names)
{
    put_name(line, names, names->protocol_offset, flow->arp ? DP_NAMED_ARP : flow->protocol);
}

static void put_interface(struct line *line, const struct dp_seen *seen, const struct dp_names *names, const char *none)
{
    const uint32_t *offset = names->interface_offset;

    if (seen->interface)
        put(line, names->interface_text + offset[seen->interface - 1],
            offset[seen->interface] - offset[seen->interface - 1]);
    else
        put(line, none, strlen(none));
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
        put_decimal(line, value);
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
    if (flow->icmp || flow->vlans) {
        PUT(line, ", \"icmp_type\": ");
        put_json_number(line, flow->icmp, flow->icmp_type);
        PUT(line, ", \"icmp_code\": ");
        put_json_number(line, flow->icmp, flow->icmp_code);
        PUT(line, ", \"vlans\": [");
        if (flow->vlans >> 12) {
            put_decimal(line, flow->vlans >> 12);
            PUT(line, ", ");
        }
        if (flow->vlans)
            put_decimal(line, flow->vlans & 0xfff);
        PUT(line, "], \"capture\": ");
    } else {
        PUT(line, ", \"icmp_type\": null, \"icmp_code\": null, \"vlans\": [], \"capture\": ");
    }
    put_name(line, names, names->capture_offset, seen->capture);
    PUT(line, ", \"capture_packet\": ");
    put_decimal(line, seen->number);
    PUT(line, ", \"interface\": ");
    put_interface(line, seen, names, "null");
    PUT(line, ", \"length\": ");
    put_decimal(line, record->length);
}

static void put_csv_number(struct line *line, bool known, uint64_t value)
{
    PUT(line, ",");
    if (known)
        put_decimal(line, value);
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
        put_decimal(line, flow->vlans >> 12);
        PUT(line, " ");
    }
    if (flow->vlans)
        put_decimal(line, flow->vlans & 0xfff);
    PUT(line, ",");
    put_name(line, names, names->capture_offset, seen->capture);
    put_csv_number(line, true, seen->number);
    PUT(line, ",");
    put_interface(line, seen, names, "");
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
    put_decimal(line, packet);
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
        put_decimal(line, packet);
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
    char *whole = out;
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
        whole = line.at;
    }
    *packet += written;
    *used = (uint64_t)(whole - out);
    return (int)written;
}
