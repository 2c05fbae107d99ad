/*
 * arrivals.h: addresses that a change brought into the remote groups of deny rules, and the inbound connections from
 * them that such a rule would decide about now (SPEC 5.4): an instance put into a quarantine group is cut off at once.
 *
 * A connection is judged as its first packet would be: by its zone's ingress table, with the remote address and the
 * selector that its entry keeps. That holds of the policy which the change put in force, and of no later one, so every
 * entry has to be looked at before the next change. An entry that has not been is judged when its next packet comes:
 * from the change on none of them passes.
 *
 * OWNERSHIP. The set belongs to a policy (engine.h) and never changes. COST. A binary search in it for an inbound entry
 * at its first look after the change; the rule table for those from an address in it.
 */
#ifndef DP_ARRIVALS_H
#define DP_ARRIVALS_H

#include "classifier.h"
#include "flow_table.h"

struct dp_arrivals {
    uint32_t n;
    struct dp_arrival arrival[]; /* by family, address and rule */
};

/* The set of `n` arrivals, released by free(); NULL without memory. */
struct dp_arrivals *dp_arrivals_new(const struct dp_arrival *arrivals, uint32_t n);

/* Whether a deny rule of `table`, the ingress table of the entry's zone and family (or NULL), that the entry's remote
 * address came to is the first to match it. */
bool dp_arrivals_deny(const struct dp_arrivals *arrivals, const struct dp_rule_table *table,
                      const struct dp_flow_table *flows, const struct dp_entry *entry);

#endif
