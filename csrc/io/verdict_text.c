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
#include "line_text.h"

#include <limits.h>

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

static void put_interface(struct line *line, const struct dp_seen *seen, const struct dp_names *names, const char *none)
{
    const uint32_t *offset = names->interface_offset;

    if (seen->interface)
        put(line, names->interface_text + offset[seen->interface - 1],
            offset[seen->interface] - offset[seen->interface - 1]);
    else
        put(line, none, strlen(none));
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
