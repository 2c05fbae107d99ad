/*
 * reclaim.h: what an engine still keeps of zones and rules that no policy names any more (struct dp_retired), so that
 * their numbers can be given out again and nothing of a former holder is told of the next one.
 *
 * A ZONE that a policy leaves out loses its connections with that change. What is left are datagrams whose fragments
 * may still come, denied flows, and who was last seen to have an address: dp_retired_forget gives these up. What waited
 * for its datagram's first fragment is refused, so the caller takes resolutions afterwards.
 *
 * A RULE that is gone still is the one under which connections live on (SPEC 5.2): it keeps its number while there is
 * one (dp_retired_keep_some). The answer of a datagram's first fragment is kept without it.
 */
#ifndef DP_RECLAIM_H
#define DP_RECLAIM_H

#include "engine.h"

void dp_retired_forget(struct dp_engine *engine, const struct dp_retired *retired);
/* Sets retired->rules[] to 0 for rules of the next `visits` entries; *cursor as in table_walk.h. */
void dp_retired_keep_some(const struct dp_engine *engine, struct dp_retired *retired, uint64_t *cursor,
                          uint64_t visits);
/* The counters of rules that are still 1 begin anew. */
void dp_retired_clear(struct dp_engine *engine, const struct dp_retired *retired);

#endif
