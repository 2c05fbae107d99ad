/* pipeline.h: frames judged at the places where they pass; dp_plane.h has how they are judged by their addresses. */
#ifndef DP_PIPELINE_H
#define DP_PIPELINE_H

#include "engine.h"

/* As dp_engine_process, with places[i] for frames[i]; frames that are no IP are denied, and before all else
 * those whose sender may not come by their port (spoof.h). */
int dp_engine_process_at(struct dp_engine *engine, const struct dp_frame *frames, const struct dp_place *places,
                         uint32_t n, struct dp_record *records, struct dp_flow *flows);

/*
 * Judges a copy of the last frame, or of one that waited, at one more place. It is no packet of its own: it
 * has no number and no verdict, only its checks are counted.
 */
void dp_engine_judge_copy(struct dp_engine *engine, const struct dp_frame *frame, const struct dp_place *place);

/* One of those that were denied. */
struct dp_denied_frame {
    struct dp_frame frame;
    struct dp_record record;
    uint32_t at;
};

/*
 * As dp_engine_process, of some frames of a run whose first has the number `first`, with records and flows of the whole
 * run. Which flows are denied most is not counted: what is kept of them depends on the order of all shards' frames.
 * Those that are denied are told in `denied`, which has room for all; returns how many.
 */
uint32_t dp_engine_process_selected(struct dp_engine *engine, const struct dp_selected *some, uint32_t n,
                                    uint64_t first, struct dp_record *records, struct dp_flow *flows,
                                    struct dp_denied_frame *denied);
/* Counts the denied checks of a frame that was judged so, by whichever shard; by cause, `consequences` grow by those
 * that are (denied_flows.h). */
void dp_count_denied_frame(struct dp_denied_flows *denied, const struct dp_frame *frame, const struct dp_record *record,
                           uint64_t *consequences);

#endif
