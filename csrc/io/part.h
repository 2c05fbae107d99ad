/*
 * part.h: a replay cut by instance: who of the policy's instances meet in captures, and the frames of some of them.
 *
 * PARTS. Instances whose packets meet (one is the source, the other the destination) stand in one part, and each part
 * is judged by itself: the frames of its instances, in their order, as if the captures had no others. What touches no
 * instance is the first part's. Verdicts, states and rules are the same as those of all frames judged together, as long
 * as the parts share nothing: what they would share, the census counts.
 *
 *   ownership  A part owns its copies of frames, which last until the next dp_part_keep(), and the numbers that nobody
 *              has taken yet.
 */
#ifndef DP_IO_PART_H
#define DP_IO_PART_H

#include "../dp_captures.h"
#include "../endpoints.h"
#include "merge.h"

struct dp_part;

/* `part_of[z]` is the part of zone z; frames of `mine` are kept. 0 or DP_E_MEMORY. */
int dp_part_new(const uint32_t *part_of, uint32_t n_zones, uint32_t mine, struct dp_part **part);
void dp_part_free(struct dp_part *part);

/* Makes a run one of the frames that are kept of it; `seen` says that it is asked where they were. 0 or DP_E_MEMORY. */
int dp_part_keep(struct dp_part *part, const struct dp_endpoints *endpoints, struct dp_merge *merge, bool seen,
                 struct dp_run *run);
/* Where the frames that were kept last were seen. */
const struct dp_seen *dp_part_seen(const struct dp_part *part);
/* Takes the numbers, from 1 among all frames, of the next `n` that were kept. */
void dp_part_take_numbers(struct dp_part *part, uint64_t *numbers, uint32_t n);

/* Counts a run; `leader` and `packets` are by zone (dp_replay_census). */
void dp_census_count(const struct dp_endpoints *endpoints, const struct dp_merge *merge, const struct dp_run *run,
                     uint32_t *leader, uint64_t *packets, uint32_t n_zones, struct dp_census *census);

#endif
