/*
 * difference.h: packets that two engines judge differently, and the flows that these are of.
 *
 * A flow is both directions of one pair of addresses and ports. Flows stand in buckets of a few places, found by a hash
 * of the flow: counting one costs the same whatever the captures hold. A flow that finds its bucket full is not kept,
 * and its packets are counted together with those of all such flows.
 */
#ifndef DP_DIFFERENCE_H
#define DP_DIFFERENCE_H

#include "dp_findings.h"

enum { DP_DIFFERENCE_BUCKETS = 1 << 14, DP_DIFFERENCE_WAYS = 8 };

struct dp_difference {
    struct dp_difference_count count;
    struct dp_flow_difference *flows; /* the places of one bucket behind the other; packets == 0: free */
};

/*
 * Flows from place *cursor on (0 to begin), of no more than `visits` places; returns how many, at most `n`. *cursor is
 * UINT64_MAX at the end, and when there is room for no more.
 */
uint64_t dp_difference_some(const struct dp_difference *difference, uint64_t *cursor, uint64_t visits,
                            struct dp_flow_difference *flows, uint64_t n);
/* Puts those with most packets first. */
void dp_difference_order(struct dp_flow_difference *flows, uint64_t n);

#endif
