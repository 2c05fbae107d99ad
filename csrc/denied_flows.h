/*
 * denied_flows.h: the flows that were denied most, in bounded memory.
 *
 * A set-associative Space-Saving sketch (Metwally, Agrawal, El Abbadi 2005): a flow's bucket has eight counters; a flow
 * that finds none of its own takes over the smallest and inherits its count, which is kept as `overcount`. So a flow
 * that is denied often is never missed, and its true count is between packets - overcount and packets, however many
 * flows a flood makes up.
 *
 * CONSEQUENCES. A packet that is invalid because it belongs to no connection is counted with the flow whose first
 * packets were denied, where one has a counter: the flow from the same host to the same service, or, for an answer, the
 * one that it answers. Without one it is a flow of its own.
 *
 * DISCONNECTED. Both directions of a connection that was cut are counted with the flow of who opened it: the ports of
 * clients would be as many flows.
 */
#ifndef DP_DENIED_FLOWS_H
#define DP_DENIED_FLOWS_H

#include "dp_counters.h"
#include "packet.h"

enum { DP_DENIED_KEPT = 8192 };

struct dp_denied_flows;

struct dp_denied_flows *dp_denied_new(void);
/* Takes all its memory now. */
void dp_denied_populate(struct dp_denied_flows *denied);
void dp_denied_free(struct dp_denied_flows *denied);
/* Whether it was counted as a consequence. */
bool dp_denied_count(struct dp_denied_flows *denied, const struct dp_packet *packet, const struct dp_check *check,
                     uint32_t length);
/* The same of a packet that was judged elsewhere. */
bool dp_denied_count_flow(struct dp_denied_flows *denied, const struct dp_flow *flow, const struct dp_check *check,
                          uint32_t length);
/* Takes out the flows of retired zones. */
void dp_denied_forget(struct dp_denied_flows *denied, const struct dp_retired *retired);
/* The order of what is listed, for qsort: of those with as many packets, that of their bytes. */
int dp_denied_order(const void *a, const void *b);
/* Any order, but the same flow stands together. */
int dp_denied_order_by_flow(const void *a, const void *b);
/* All that have a counter, in any order; at most DP_DENIED_KEPT. */
uint32_t dp_denied_all(const struct dp_denied_flows *denied, struct dp_denied *out);
int dp_denied_largest(const struct dp_denied_flows *denied, struct dp_denied *out, uint32_t n);

/* The addresses, protocol and ports of a packet. */
void dp_flow_of(const struct dp_packet *packet, struct dp_flow *flow);

#endif
