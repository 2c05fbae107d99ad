/* pipeline.h: frames judged at the places where they pass; dp_api.h has how they are judged by their addresses. */
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

/* As dp_engine_process, with frames, records and flows of the whole run. Which flows are denied most is not counted:
 * what is kept of them depends on the order of all shards' frames. */
void dp_engine_process_selected(struct dp_engine *engine, const struct dp_frame *frames,
                                const struct dp_selection *some, struct dp_record *records, struct dp_flow *flows);
/* Counts the denied checks of a frame that was judged so, by whichever shard. */
void dp_engine_count_denied(struct dp_engine *engine, const struct dp_frame *frame, const struct dp_record *record);

#endif
