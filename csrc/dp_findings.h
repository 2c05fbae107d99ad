/*
 * dp_findings.h: what Python sees of what is gathered from the records of packets: flows, the history of connections,
 * who speaks most, and where two engines differ.
 *
 * What dp_api.h says of ownership, errors, units and threads holds here too.
 */
#ifndef DP_FINDINGS_H
#define DP_FINDINGS_H

#include "dp_connections.h"
#include "dp_counters.h"

/* cffi: begin */

/* ---- flows (SPEC 8.2) ---- */

/* How a connection ended; LIVE at the end of what was seen. NOT_ADMITTED: a denied flow that never became one. */
enum dp_flow_end {
    DP_FLOW_NOT_ADMITTED,
    DP_FLOW_LIVE,
    DP_FLOW_EXPIRED,
    DP_FLOW_CLOSED,       /* both sides closed it, or a new connection took the place of one that was closing */
    DP_FLOW_RESET,        /* by RST */
    DP_FLOW_DISCONNECTED, /* by a change of the policy */
    DP_FLOW_EVICTED,      /* it gave way in a full table */
    DP_FLOW_ENDS
};

/*
 * A connection of one instance, or a denied flow that never became one. `flow` is that of the packet that opened it, or
 * of the first that was denied, which went in `direction`; `first_packet` counts from 1. `passed` are packets that went
 * into and out of the instance; those denied are counted apart. `rule` and `reason` are of the check that admitted it
 * or that denied the first packet. `shadow_packets` are those that a shadow judges otherwise, and the rest is what it
 * says of the first of them. `state` is the last enum dp_conn_state, DP_CONN_INVALID where there was no
 * connection.
 */
struct dp_flow_record {
    struct dp_flow flow;
    uint64_t first_ns;
    uint64_t last_ns;
    uint64_t first_packet;
    struct dp_counter passed[DP_DIRECTIONS];
    struct dp_counter denied;
    uint64_t shadow_packets;
    uint32_t zone;
    uint32_t rule;
    uint8_t origin;
    uint8_t direction;
    uint8_t verdict;
    uint8_t reason;
    uint8_t state;
    uint8_t end;
    uint8_t shadow_verdict;
    uint8_t shadow_reason;
    uint32_t shadow_rule;
    uint8_t shadow_checked; /* else reason and rule are of no meaning */
    uint8_t unused[3];
};

struct dp_flow_log;

/*
 * Follows an engine from its next frame on; what was opened before is left out. Openers are noted, as by
 * dp_engine_note_openers. One log an engine, not beside another that observes its connections; the engine must outlive
 * it. It keeps at most `most` flows that are denied or have ended, and gives out those that were so first when there
 * are more.
 */
int dp_flow_log_new(struct dp_engine *engine, uint32_t most, struct dp_flow_log **log);
void dp_flow_log_free(struct dp_flow_log *log);
/* Adds the next `n` decided records, with their flows, in the order of their frames; 0 or DP_E_MEMORY. */
int dp_flow_log_add(struct dp_flow_log *log, const struct dp_record *records, const struct dp_flow *flows, uint32_t n);
/* No more comes: all that it has is given out now, in the order of first_packet. 0 or DP_E_MEMORY. */
int dp_flow_log_finish(struct dp_flow_log *log);
/* Takes at most `n` flows that are given out; returns how many. */
int dp_flow_log_take(struct dp_flow_log *log, struct dp_flow_record *out, uint32_t n);
/*
 * The Community ID (version 1, seed 0) of each flow, by which other programs know it: of DP_COMMUNITY_ID_SIZE bytes the
 * first 30, and zeros behind them; all zeros for ARP and what is no IP.
 */
enum { DP_COMMUNITY_ID_SIZE = 32 };
void dp_community_ids(const struct dp_flow_record *records, uint32_t n, char *out);

/* ---- the history of single connections, for an explanation (history.h) ---- */

/*
 * A connection by its zone, the frame that opened it, counted from 1 over the life of the engine, and its origin: a
 * packet of an instance to itself opens one of each.
 */
struct dp_watched {
    uint64_t opened_by;
    uint32_t zone;
    uint32_t origin; /* enum dp_origin */
};
/*
 * What happened to it, and how it stood then: by the frame `frame`, or, where that is only the next to be judged, by a
 * change before it.
 */
struct dp_history_event {
    uint64_t frame;
    uint64_t time_ns;
    struct dp_connection connection;
    uint32_t event; /* enum dp_connection_event */
    uint32_t unused;
};
struct dp_history;
/* So many of each connection are kept, the first ones. */
enum { DP_HISTORY_EVENTS = 256 };
/* Notes from now on what happens to `n` connections, DP_DIRECTIONS at most. The engine is freed after its history. */
int dp_history_new(struct dp_engine *engine, const struct dp_watched *watched, uint32_t n, struct dp_history **history);
void dp_history_free(struct dp_history *history);
/* Has the connections meet all changes so far, so that what these disconnected is noted before the next frame. */
void dp_history_look(struct dp_history *history);
/* The first `n` events of connection `which`, in order; returns how many. `lost` is how many more were not kept. */
uint32_t dp_history_events(const struct dp_history *history, uint32_t which, struct dp_history_event *events,
                           uint32_t n, uint64_t *lost);

/* ---- who speaks most (top_talkers.h) ---- */

/*
 * The addresses of hosts that most packets come from or go to (top_talkers.h). A packet counts for both of its
 * addresses; `packets` is at most `overcount` too high. `family` is 4 or 6.
 */
struct dp_busiest;
struct dp_busy_address {
    uint8_t address[16];
    uint64_t packets;
    uint64_t overcount;
    uint32_t family;
    uint32_t unused;
};
int dp_busiest_new(struct dp_busiest **busiest);
void dp_busiest_free(struct dp_busiest *busiest);
/* Counts up to the first packet whose verdict is not bypass; 1 if there is one, else 0. */
int dp_busiest_count(struct dp_busiest *busiest, const struct dp_record *records, const struct dp_flow *flows,
                     uint32_t n);
/* Up to `n` of them, the busiest first; returns how many. */
int dp_busiest_largest(const struct dp_busiest *busiest, struct dp_busy_address *out, uint32_t n);

/* ---- two engines that judge the same packets, compared (difference.h) ---- */

/* What decided about a packet; reason and rule are of no meaning where it was not `checked`. */
struct dp_judgement {
    uint32_t rule;
    uint8_t verdict;
    uint8_t reason;
    uint8_t checked;
    uint8_t unused;
};
/* A flow with packets that are judged differently: the first one's flow and number, from 1, and what decided about it;
 * how many there are, in both directions. */
struct dp_flow_difference {
    struct dp_flow flow;
    uint64_t first_packet;
    uint64_t packets;
    struct dp_judgement before;
    struct dp_judgement after;
};
/* `packets_not_kept` of those changed are of flows for which there was no place. */
struct dp_difference_count {
    uint64_t packets_same;
    uint64_t packets_changed;
    uint64_t packets_not_kept;
    uint64_t flows;
};
struct dp_difference;
int dp_difference_new(struct dp_difference **difference);
void dp_difference_free(struct dp_difference *difference);
/*
 * Compares the records of `n` packets, whose flows are the same in both, with those added before them. `numbers` are
 * those of the packets, where others stand between them that are not added; NULL where none does.
 */
void dp_difference_add(struct dp_difference *difference, const uint64_t *numbers, const struct dp_record *before,
                       const struct dp_record *after, const struct dp_flow *flows, uint32_t n);
void dp_difference_count(const struct dp_difference *difference, struct dp_difference_count *count);
/* All flows if `n` is their number, those with most packets first; returns how many. */
uint64_t dp_difference_flows(const struct dp_difference *difference, struct dp_flow_difference *flows, uint64_t n);

/* cffi: end */

_Static_assert(sizeof(struct dp_flow_record) == 152, "the record of a flow is 152 bytes");

#endif
