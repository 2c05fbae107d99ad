/*
 * flow_log_live.h: the flow log of a live worker (flow_log.h says what a record is).
 *
 * WHAT DIFFERS from a replay. Frames have the numbers of their shard; those of a burst are added in order, copies for
 * everybody and fragments that waited in between. A connection's record begins with its entry, so that what a restart
 * brought back is there too. It is given out when the connection has ended; a denied flow when it has been gathered for
 * the interval, or when there are more than `most`. Who takes records is told at once and must not wait.
 *
 * MEMORY is reserved whole and touched as it is used: 184 bytes for each entry of the connection table and each of
 * `most` denied flows, 4 of the index, 32 for an end that is still to be counted. Nothing is moved or allocated while
 * packets are judged. Where the table grows, so does the room (dp_flow_log_resize).
 */
#ifndef DP_FLOW_LOG_LIVE_H
#define DP_FLOW_LOG_LIVE_H

#include "flow_log.h"

/* Denied flows that are gathered at once. */
enum { DP_DENIED_FLOWS_MAX = 1 << 15 };

/* For an engine that has judged nothing; it is the engine's `flow_log` from then on. 0 or DP_E_MEMORY. */
int dp_flow_log_begin(struct dp_engine *engine, const struct dp_flow_sink *sink);
/* Gives it back; nothing is told of what it holds. */
void dp_flow_log_end(struct dp_engine *engine);
/* Room for a table of `entries`; only ever grows. Fails without memory, and then nothing has changed. */
int dp_flow_log_resize(struct dp_flow_log *log, uint32_t entries);
/* To be told of every event of the engine's table; `owner` is the log. */
dp_entry_observer dp_flow_log_observe;

/* Adds the frames of a burst, the first of which has the number `first`, from 1; those that wait come later. */
void dp_flow_log_add_burst(struct dp_flow_log *log, uint64_t first, const struct dp_record *records,
                           const struct dp_flow *flows, uint32_t n);
/* Adds one frame besides: a copy, or a fragment that has waited. */
void dp_flow_log_add_one(struct dp_flow_log *log, uint64_t number, const struct dp_record *record,
                         const struct dp_flow *flow);
/* All records of frames that were judged are added, but for fragments that wait: counts ends up to now. */
void dp_flow_log_catch_up(struct dp_flow_log *log);
/* Gives out denied flows whose interval is over, some at a time. */
void dp_flow_log_pass(struct dp_flow_log *log);

/*
 * Flows that are there, from *cursor on (0 to begin): live connections, as they stand, then denied flows. Looks at no
 * more than `visits` and returns how many it wrote, at most `n`; *cursor is DP_CURSOR_END at the end.
 */
uint32_t dp_flow_log_some(struct dp_flow_log *log, uint64_t *cursor, uint64_t visits, struct dp_flow_record *out,
                          uint32_t n);
/* Gives out denied flows that name what is retired. */
void dp_flow_log_forget(struct dp_flow_log *log, const struct dp_retired *retired);
/* The rule that an entry's record names, 0 for none. */
uint32_t dp_flow_log_rule(const struct dp_flow_log *log, uint32_t entry);

#endif
