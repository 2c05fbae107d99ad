/*
 * table_walk.h: the connection table as people see it, in steps of a bounded number of entries, so that a live engine
 * can be asked between two bursts.
 *
 * A CURSOR is 0 to begin with and moves on over the entries; once it has passed the last one it is DP_CURSOR_END. An
 * entry that is made behind the cursor is not seen, one that lives all the while is seen once.
 */
#ifndef DP_TABLE_WALK_H
#define DP_TABLE_WALK_H

#include "engine.h"

#define DP_CURSOR_END UINT64_MAX

/* One entry in words of dp_connections.h. */
void dp_connection_of(const struct dp_conntrack *ct, const struct dp_entry *entry, struct dp_connection *connection);

/* As the functions of dp_connections.h without `_some`; each looks at no more than `visits` entries. */
uint32_t dp_connections_some(struct dp_engine *engine, const struct dp_connection_filter *filter, uint64_t *cursor,
                             uint64_t visits, struct dp_connection *connections, uint32_t n);
uint64_t dp_connections_count_some(struct dp_engine *engine, const struct dp_connection_filter *filter,
                                   uint64_t *cursor, uint64_t visits, uint64_t *by_state);
/* Takes no more than `removals` out, nor than DP_FLUSHED_AT_ONCE. */
enum { DP_FLUSHED_AT_ONCE = 32 };
uint64_t dp_connections_flush_some(struct dp_engine *engine, const struct dp_connection_filter *filter,
                                   uint64_t *cursor, uint64_t visits, uint32_t removals);

/* Looks at the changes that entries have not met yet, so that what these cut is counted. */
void dp_connections_settle_some(struct dp_engine *engine, uint64_t *cursor, uint64_t visits);

/*
 * What an update would do: `policy` is made of it, and zones[z] is the enum dp_fate of inbound connections of zone
 * z < policy->n_zones, but for revocations and arrivals. How many live connections these would cut, of zones that stay;
 * and as dp_plane_reconsider.
 */
uint64_t dp_connections_revocable_some(struct dp_engine *engine, const struct dp_policy *policy, const uint8_t *zones,
                                       uint64_t *cursor, uint64_t visits);
uint32_t dp_connections_reconsider_some(struct dp_engine *engine, const struct dp_policy *policy, const uint8_t *zones,
                                        uint64_t *cursor, uint64_t visits, struct dp_reconsidered *out, uint32_t n);
/* How many a cut of `zone` would disconnect now. */
uint64_t dp_connections_attached(struct dp_engine *engine, uint32_t zone);

/* A filter of NULL lets all pass. */
uint32_t dp_connections_save_some(struct dp_engine *engine, const struct dp_connection_filter *filter, uint64_t *cursor,
                                  uint64_t visits, struct dp_saved_connection *saved, uint32_t n);
/* Puts one connection back, as it was `passed_ns` ago; `how` as dp_plane_restore has it, or DP_RESTORE_ANEW: what is in
 * goes, and it comes as one that was not. */
enum { DP_RESTORE_ANEW = DP_RESTORE_NEWER_UNLESS_CUT + 1 };
enum dp_restored dp_connections_restore(struct dp_engine *engine, const struct dp_saved_connection *saved,
                                        uint64_t passed_ns, int how);
/* Takes the connection with this one's key out of the table; whether it was in. */
bool dp_connections_forget(struct dp_engine *engine, const struct dp_saved_connection *saved);

#endif
