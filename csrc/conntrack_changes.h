/*
 * conntrack_changes.h: what a change of the policy does to zones: which there are, and the logs of cuts by which their
 * connections are disconnected (SPEC 5; conntrack.h says what a cut means for an entry).
 *
 * Each of these belongs to change number ct->change, which the caller has stepped.
 */
#ifndef DP_CONNTRACK_CHANGES_H
#define DP_CONNTRACK_CHANGES_H

#include "conntrack.h"

/* Cuts in the log of a zone with fewer entries. */
enum { DP_CUTS_KEPT = 64 };

/* Makes room for zones 0 .. n-1. */
int dp_conntrack_reserve_zones(struct dp_conntrack *ct, uint32_t n);
/* Disconnects the inbound connections of the zones below `n` with a 1 at their place in `zones`, which must be there
 * until each of them was counted, and dp_conntrack_all_cut was called. */
void dp_conntrack_cut(struct dp_conntrack *ct, const uint8_t *zones, uint32_t n);
/* How many were alive and not cut before, of one of these; 0 when asked again. Its log has room for the next cut then:
 * without memory for that, its entries are looked at instead. */
uint32_t dp_conntrack_count_cut(struct dp_conntrack *ct, uint32_t zone);
void dp_conntrack_all_cut(struct dp_conntrack *ct);
/* From now on `is_cut` decides about entries that have not met this change; all have met the one before. */
void dp_conntrack_cut_some(struct dp_conntrack *ct);
/* A zone comes, or goes; of one that goes the caller has all entries taken out before the next change. */
void dp_conntrack_set_present(struct dp_conntrack *ct, uint32_t zone, bool present);
/* Takes entries out of a zone that went, as many as there are `removals`, which are counted down; whether it is empty.
 */
bool dp_conntrack_empty_some(struct dp_conntrack *ct, uint32_t zone, uint32_t *removals);

#endif
