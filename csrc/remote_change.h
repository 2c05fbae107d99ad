/*
 * remote_change.h: what a change of remote groups cuts (SPEC 5.4): inbound connections from addresses that left the
 * group of the allow rule which admitted them (revocations), and those from addresses that came into the group of a
 * deny rule which would decide about them now (arrivals): an instance put into a quarantine group is cut off at once.
 *
 * Of a revocation the entry itself tells: by the rule that admitted it. For arrivals a connection is judged as its
 * first packet would be: by its zone's ingress table, with the remote address and the selector that its entry keeps.
 * That holds of the policy which the change put in force, and of no later one, so every entry has to be looked at
 * before the next change. An entry that has not been is judged when its next packet comes: from the change on none of
 * them passes.
 *
 * OWNERSHIP. The value belongs to a policy (engine.h) and never changes. COST. Two binary searches for an inbound entry
 * at its first look after the change; the rule table for those from an address that came.
 */
#ifndef DP_REMOTE_CHANGE_H
#define DP_REMOTE_CHANGE_H

#include "classifier.h"
#include "flow_table.h"

struct dp_remote_change {
    uint32_t n_revoked;
    uint32_t n_arrived;
    struct dp_rule_address address[]; /* revoked ones, then those that arrived; by family, address and rule */
};

/* What an update says of remote groups, released by free(); NULL without memory. */
struct dp_remote_change *dp_remote_change_new(const struct dp_policy_update *update);

/* Whether it cuts an inbound entry; `table` is the ingress table of the entry's zone and family, NULL for none. */
bool dp_remote_change_cuts(const struct dp_remote_change *change, const struct dp_rule_table *table,
                           const struct dp_flow_table *flows, const struct dp_entry *entry);

#endif
