/*
 * dp_text.h: records and flow records as text, and which of them are meant.
 * What dp_api.h says of ownership, errors, units and threads holds here too.
 */
#ifndef DP_TEXT_H
#define DP_TEXT_H

#include "dp_findings.h"

/* cffi: begin */

/* ---- verdicts as text (io) ---- */

/*
 * The last two are of flow records only: lines of VPC flow logs, of Amazon Web Services (version 2) and of Huawei Cloud
 * (version 1), whose fields are the same: one for each way that packets went, and one for those denied; of what is no
 * IP, none.
 */
enum dp_text_format { DP_TEXT_JSON, DP_TEXT_CSV, DP_TEXT_AWS, DP_TEXT_HUAWEI, DP_TEXT_FORMATS };

enum { DP_NAMED_ARP = 256 };
/*
 * Names for text: instances by zone, rules and their groups by rule number, captures by their place,
 * protocols by number with ARP behind them, each already quoted for the format. All names stand one behind the other in
 * `text`; `*_offset[i] .. *_offset[i + 1]` is the i-th. Those of interfaces, by their number less 1, are in
 * `interface_text`, since more of them come as captures are read.
 */
struct dp_names {
    const char *text;
    const uint32_t *zone_offset;
    const uint32_t *rule_offset;
    const uint32_t *group_offset;
    const uint32_t *capture_offset;
    const uint32_t *protocol_offset; /* DP_NAMED_ARP + 2 of them */
    uint32_t n_zones;
    uint32_t n_rules;
    uint32_t n_captures;
    uint32_t n_interfaces;
    const char *interface_text;
    const uint32_t *interface_offset;
};
/*
 * Writes records, with flows[i] and seen[i] of records[i], as lines into `out`; the first has the number *packet. Stops
 * before a record that does not fit, sets *used to the bytes written, advances *packet, and returns how many records
 * were written: 0 when `size` is too small for the first. DP_E_ARGUMENT when the first record has an unknown value, or
 * a zone, rule, capture or interface without a name.
 */
int dp_records_text(const struct dp_record *records, const struct dp_flow *flows, const struct dp_seen *seen,
                    uint32_t n, int format, const struct dp_names *names, uint64_t *packet, char *out, uint64_t size,
                    uint64_t *used);

/* As dp_records_text, of flow records; captures need no names. A record may be of no line. */
int dp_flow_records_text(const struct dp_flow_record *records, uint32_t n, int format, const struct dp_names *names,
                         char *out, uint64_t size, uint64_t *used);

/* Which of `flows` match: addresses and ports on either side. */
struct dp_flow_filter {
    struct dp_prefix address;
    uint32_t family;
    int32_t port;
    int32_t protocol;
};
/* Sets indices[] to the matching positions in order; returns how many. */
int dp_flows_match(const struct dp_flow *flows, uint32_t n, const struct dp_flow_filter *filter, uint32_t *indices);

enum { DP_FILTER_NONE = 31 };
/*
 * Which records match (record_match.c). `direction` and `zone` are -1 for any; the others are sets of values, a bit
 * each, DP_FILTER_NONE for no check. `rules[i]` says whether rule i is among them, 0 for none; NULL for any.
 */
struct dp_record_filter {
    int32_t direction;
    int64_t zone;
    uint32_t verdicts;
    uint32_t states;
    uint32_t reasons;
    uint32_t origins;
    const uint8_t *rules;
    uint32_t n_rules;
};
/*
 * Looks at the records at the `n` positions `among`, or at the first `n` where that is NULL. Sets indices[], which may
 * be `among`, to the matching positions in order; returns how many.
 */
int dp_records_match(const struct dp_record *records, const uint32_t *among, uint32_t n,
                     const struct dp_record_filter *filter, uint32_t *indices);

/* cffi: end */

#endif
