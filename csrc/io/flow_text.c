/*
 * flow_text.c: flow records as JSON lines or CSV rows (SPEC 8.2, --flows), their fields in the order of the SPEC, and
 * as lines of VPC flow logs, in the order of their vendors:
 * docs.aws.amazon.com/vpc/latest/userguide/flow-log-records.html
 * ("Default format"), support.huaweicloud.com/intl/en-us/usermanual-vpc/FlowLog_0004.html.
 * Times, names and what is null are written as in verdict_text.c, whose guarantees hold here too.
 */
#include "line_text.h"

#include <limits.h>

/* Each side of a flow, seen from the instance. */
struct sides {
    const uint8_t *local;
    const uint8_t *remote;
    uint16_t local_port;
    uint16_t remote_port;
};

static struct sides sides_of(const struct dp_flow_record *r)
{
    const struct dp_flow *f = &r->flow;

    if (r->direction == DP_INGRESS)
        return (struct sides){f->destination, f->source, f->destination_port, f->source_port};
    return (struct sides){f->source, f->destination, f->source_port, f->destination_port};
}

static bool is_valid(const struct dp_flow_record *r, const struct dp_names *names)
{
    return r->origin < DP_ORIGINS && r->direction < DP_DIRECTIONS && r->verdict < DP_VERDICTS &&
           r->reason < DP_REASONS && r->state < DP_CONN_STATES && r->end < DP_FLOW_ENDS &&
           named(names->zone_offset, r->zone, names->n_zones) && r->shadow_verdict < DP_VERDICTS &&
           r->shadow_reason < DP_REASONS &&
           (!r->shadow_rule || named(names->rule_offset, r->shadow_rule, names->n_rules)) &&
           (!r->rule || (named(names->rule_offset, r->rule, names->n_rules) &&
                         named(names->group_offset, r->rule, names->n_rules)));
}

static void put_json_word(struct line *line, bool known, enum dp_word_kind kind, int value)
{
    if (!known) {
        PUT(line, "null");
        return;
    }
    PUT(line, "\"");
    put_word(line, &dp_word_table(kind)[value]);
    PUT(line, "\"");
}

/* What a shadow says otherwise, which only flows of live traffic can have. */
static void put_json_shadow(struct line *line, const struct dp_flow_record *r, const struct dp_names *names)
{
    PUT(line, ", \"shadow\": {\"verdict\": ");
    put_json_word(line, true, DP_WORD_VERDICT, r->shadow_verdict);
    PUT(line, ", \"reason\": ");
    put_json_word(line, r->shadow_checked, DP_WORD_REASON, r->shadow_reason);
    PUT(line, ", \"rule\": ");
    if (r->shadow_rule)
        put_name(line, names, names->rule_offset, r->shadow_rule);
    else
        PUT(line, "null");
    PUT(line, ", \"packets\": ");
    put_decimal(line, r->shadow_packets);
    PUT(line, "}");
}

static void put_json(struct line *line, const struct dp_flow_record *r, const struct dp_names *names)
{
    bool admitted = r->end != DP_FLOW_NOT_ADMITTED, ports = has_ports(&r->flow);
    struct sides sides = sides_of(r);
    char id[DP_COMMUNITY_ID_SIZE];

    dp_community_ids(r, 1, id);
    PUT(line, "{\"instance\": ");
    put_name(line, names, names->zone_offset, r->zone);
    PUT(line, ", \"origin\": ");
    put_json_word(line, true, DP_WORD_ORIGIN, r->origin);
    if (r->flow.family) {
        PUT(line, ", \"protocol\": ");
        put_protocol(line, &r->flow, names);
        PUT(line, ", \"local\": \"");
        put_address(line, &r->flow, sides.local);
        PUT(line, "\", \"local_port\": ");
        put_json_number(line, ports, sides.local_port);
        PUT(line, ", \"remote\": \"");
        put_address(line, &r->flow, sides.remote);
        PUT(line, "\", \"remote_port\": ");
    } else {
        PUT(line, ", \"protocol\": null, \"local\": null, \"local_port\": ");
        put_json_number(line, ports, sides.local_port);
        PUT(line, ", \"remote\": null, \"remote_port\": ");
    }
    put_json_number(line, ports, sides.remote_port);
    if (id[0]) {
        PUT(line, ", \"community_id\": \"");
        put(line, id, strlen(id));
        PUT(line, "\", \"first\": ");
    } else {
        PUT(line, ", \"community_id\": null, \"first\": ");
    }
    put_time(line, r->first_ns);
    PUT(line, ", \"last\": ");
    put_time(line, r->last_ns);
    PUT(line, ", \"first_packet\": ");
    put_decimal(line, r->first_packet);
    PUT(line, ", \"packets_in\": ");
    put_decimal(line, r->passed[DP_INGRESS].packets);
    PUT(line, ", \"packets_out\": ");
    put_decimal(line, r->passed[DP_EGRESS].packets);
    PUT(line, ", \"bytes_in\": ");
    put_decimal(line, r->passed[DP_INGRESS].bytes);
    PUT(line, ", \"bytes_out\": ");
    put_decimal(line, r->passed[DP_EGRESS].bytes);
    PUT(line, ", \"packets_denied\": ");
    put_decimal(line, r->denied.packets);
    PUT(line, ", \"verdict\": ");
    put_json_word(line, true, DP_WORD_VERDICT, r->verdict);
    PUT(line, ", \"reason\": ");
    put_json_word(line, true, DP_WORD_REASON, r->reason);
    if (r->rule) {
        PUT(line, ", \"rule\": ");
        put_name(line, names, names->rule_offset, r->rule);
        PUT(line, ", \"security_group\": ");
        put_name(line, names, names->group_offset, r->rule);
        PUT(line, ", \"state\": ");
    } else {
        PUT(line, ", \"rule\": null, \"security_group\": null, \"state\": ");
    }
    put_json_word(line, admitted, DP_WORD_CONN_STATE, r->state);
    PUT(line, ", \"end\": ");
    put_json_word(line, admitted, DP_WORD_FLOW_END, r->end);
    if (r->shadow_packets)
        put_json_shadow(line, r, names);
    PUT(line, "}\n");
}

static void put_csv_word(struct line *line, bool known, enum dp_word_kind kind, int value)
{
    PUT(line, ",");
    if (known)
        put_word(line, &dp_word_table(kind)[value]);
}

static void put_csv_side(struct line *line, const struct dp_flow *flow, const uint8_t *address, uint16_t port)
{
    PUT(line, ",");
    if (flow->family)
        put_address(line, flow, address);
    put_csv_number(line, has_ports(flow), port);
}

static void put_csv(struct line *line, const struct dp_flow_record *r, const struct dp_names *names)
{
    bool admitted = r->end != DP_FLOW_NOT_ADMITTED;
    struct sides sides = sides_of(r);
    char id[DP_COMMUNITY_ID_SIZE];

    dp_community_ids(r, 1, id);
    put_name(line, names, names->zone_offset, r->zone);
    put_csv_word(line, true, DP_WORD_ORIGIN, r->origin);
    PUT(line, ",");
    if (r->flow.family)
        put_protocol(line, &r->flow, names);
    put_csv_side(line, &r->flow, sides.local, sides.local_port);
    put_csv_side(line, &r->flow, sides.remote, sides.remote_port);
    PUT(line, ",");
    put(line, id, strlen(id));
    PUT(line, ",");
    put_time(line, r->first_ns);
    PUT(line, ",");
    put_time(line, r->last_ns);
    put_csv_number(line, true, r->first_packet);
    put_csv_number(line, true, r->passed[DP_INGRESS].packets);
    put_csv_number(line, true, r->passed[DP_EGRESS].packets);
    put_csv_number(line, true, r->passed[DP_INGRESS].bytes);
    put_csv_number(line, true, r->passed[DP_EGRESS].bytes);
    put_csv_number(line, true, r->denied.packets);
    put_csv_word(line, true, DP_WORD_VERDICT, r->verdict);
    put_csv_word(line, true, DP_WORD_REASON, r->reason);
    PUT(line, ",");
    if (r->rule)
        put_name(line, names, names->rule_offset, r->rule);
    PUT(line, ",");
    if (r->rule)
        put_name(line, names, names->group_offset, r->rule);
    put_csv_word(line, admitted, DP_WORD_CONN_STATE, r->state);
    put_csv_word(line, admitted, DP_WORD_FLOW_END, r->end);
    PUT(line, "\n");
}

/* ---- VPC flow logs ---- */

/* version account interface srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status */
static void put_vpc_line(struct line *line, const struct dp_flow_record *r, const struct dp_names *names, int format,
                         uint32_t direction, const struct dp_counter *counter, bool accepted)
{
    struct sides sides = sides_of(r);
    bool in = direction == DP_INGRESS, ports = has_ports(&r->flow);

    if (counter->packets == 0)
        return;
    if (format == DP_TEXT_AWS)
        PUT(line, "2 unknown ");
    else
        PUT(line, "1 - ");
    put_name(line, names, names->zone_offset, r->zone);
    PUT(line, " ");
    put_address(line, &r->flow, in ? sides.remote : sides.local);
    PUT(line, " ");
    put_address(line, &r->flow, in ? sides.local : sides.remote);
    PUT(line, " ");
    put_decimal(line, !ports ? 0 : in ? sides.remote_port : sides.local_port);
    PUT(line, " ");
    put_decimal(line, !ports ? 0 : in ? sides.local_port : sides.remote_port);
    PUT(line, " ");
    put_decimal(line, r->flow.protocol);
    PUT(line, " ");
    put_decimal(line, counter->packets);
    PUT(line, " ");
    put_decimal(line, counter->bytes);
    PUT(line, " ");
    put_decimal(line, r->first_ns / 1000000000u);
    PUT(line, " ");
    put_decimal(line, r->last_ns / 1000000000u);
    if (accepted)
        PUT(line, " ACCEPT OK\n");
    else
        PUT(line, " REJECT OK\n");
}

static void put_vpc(struct line *line, const struct dp_flow_record *r, const struct dp_names *names, int format)
{
    uint32_t first = r->direction, back = first == DP_INGRESS ? DP_EGRESS : DP_INGRESS;

    if (!r->flow.family || r->flow.arp)
        return;
    put_vpc_line(line, r, names, format, first, &r->passed[first], true);
    put_vpc_line(line, r, names, format, back, &r->passed[back], true);
    put_vpc_line(line, r, names, format, first, &r->denied, false);
}

int dp_flow_records_text(const struct dp_flow_record *records, uint32_t n, int format, const struct dp_names *names,
                         char *out, uint64_t size, uint64_t *used)
{
    struct line line = {.at = out, .end = out + size};
    uint32_t written = 0;

    *used = 0;
    if (n > INT_MAX || format < 0 || format >= DP_TEXT_FORMATS)
        return DP_E_ARGUMENT;
    for (; written < n; written++) {
        if (!is_valid(&records[written], names))
            return written ? (int)written : DP_E_ARGUMENT;
        if (format == DP_TEXT_JSON)
            put_json(&line, &records[written], names);
        else if (format == DP_TEXT_CSV)
            put_csv(&line, &records[written], names);
        else
            put_vpc(&line, &records[written], names, format);
        if (line.full)
            break;
        *used = (uint64_t)(line.at - out);
    }
    return (int)written;
}
