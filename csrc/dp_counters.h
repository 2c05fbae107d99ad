/*
 * dp_counters.h: what Python sees of what a plane counts: packets, connections, rules, and what is denied most.
 *
 * What dp_api.h says of ownership, errors, units and threads holds here too.
 */
#ifndef DP_COUNTERS_H
#define DP_COUNTERS_H

#include "dp_plane.h"

/* cffi: begin */

struct dp_counter {
    uint64_t packets;
    uint64_t bytes;
};
/* What floods a connection table, told apart by the entries that it makes. */
enum dp_flood { DP_FLOOD_TCP_HALF_OPEN, DP_FLOOD_TCP, DP_FLOOD_UDP, DP_FLOOD_ICMP, DP_FLOOD_OTHER, DP_FLOODS };
/*
 * Entries dropped early to make room; new connections denied as table-full; how many of these because their instance
 * had its share of the table or more.
 */
struct dp_flood_counter {
    uint64_t dropped_early;
    uint64_t refused;
    uint64_t refused_over_share;
};
/* What a shadow says of a packet that was judged: the same, or that it would be denied, or passed, and is not. */
enum dp_shadow_outcome { DP_SHADOW_SAME, DP_SHADOW_WOULD_DENY, DP_SHADOW_WOULD_ALLOW, DP_SHADOW_OUTCOMES };
/*
 * Why a flow record of live traffic is lost: there was no place to gather it, the queue to the writer took no more, or
 * the file could not be written, which only Python knows and counts.
 */
enum dp_flow_loss { DP_FLOW_LOST_NO_ROOM, DP_FLOW_LOST_QUEUE_FULL, DP_FLOW_LOST_NOT_WRITTEN, DP_FLOW_LOSSES };
/*
 * `fragments_waiting` is of now. Datagrams that gave way to others; fragments that waited and were denied with them, or
 * after 30 s; fragments that were denied because there was no room for them to wait.
 */
struct dp_counters {
    struct dp_counter verdict[DP_VERDICTS];
    struct dp_counter check[DP_VERDICTS][DP_REASONS];
    struct dp_counter state[DP_STATES];
    struct dp_counter cause[DP_CAUSES];
    uint64_t consequences[DP_CAUSES]; /* of these, packets of flows whose first packets were denied */
    uint64_t connections_opened;
    uint64_t connections_expired;
    uint64_t connections_replaced;
    uint64_t connections_disconnected;
    uint64_t connections_resynchronised; /* both sides agreed on a place outside the TCP window */
    uint64_t early_drops;
    uint64_t table_full;
    uint64_t time_backwards;
    struct dp_flood_counter flood[DP_FLOODS];
    uint64_t fragments_waiting;
    uint64_t datagrams_evicted;
    uint64_t fragments_evicted;
    uint64_t fragments_expired;
    uint64_t fragments_refused;
    uint64_t flow_records; /* given out by live workers */
    uint64_t flow_records_lost[DP_FLOW_LOSSES];
    uint64_t shadow[DP_SHADOW_OUTCOMES]; /* packets, of all shadows so far */
    uint64_t entries;
    uint64_t max_entries;
    uint64_t table_bytes;
};
void dp_plane_counters(struct dp_plane *plane, struct dp_counters *counters);

/* `hits`: new connections it admitted or packets it denied; `traffic`: all packets it let pass or denied. */
struct dp_rule_counter {
    uint64_t hits;
    struct dp_counter traffic;
};
/* Counters of the rules numbered 0 .. n-1. */
void dp_plane_rule_counters(struct dp_plane *plane, struct dp_rule_counter *counters, uint32_t n);

/*
 * Denied packets by zone, direction, reason, cause, addresses, protocol and destination port (source ports taken
 * together). `consequences` are not in `count`: what belongs to no connection because this flow's first packets were
 * denied, of both directions.
 */
struct dp_denied {
    struct dp_flow flow;
    uint32_t zone;
    uint8_t direction;
    uint8_t reason;
    uint8_t cause;
    uint8_t unused;
    struct dp_counter count;
    struct dp_counter consequences;
    uint64_t overcount;
};
/*
 * The first `n` at most, and how many they are. Those with most packets come first, consequences among them, but what
 * belongs to no connection, of which no first packet was seen denied, behind all others. `overcount` bounds by how much
 * packets of `count` may be too high.
 */
int dp_plane_denied(struct dp_plane *plane, struct dp_denied *denied, uint32_t n);
/* Counts the denied checks of packets that were judged elsewhere, in their order, in this alone and in the consequences
 * of dp_plane_counters. */
void dp_plane_count_denied(struct dp_plane *plane, const struct dp_record *records, const struct dp_flow *flows,
                           uint32_t n);
/* At most so many entries have been in the connection tables at once; the sum of all shards. */
uint64_t dp_plane_most_entries(struct dp_plane *plane);

/* cffi: end */

#endif
