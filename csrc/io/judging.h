/*
 * judging.h: the frames of a replay judged by one plane, by their addresses or at ports, on all of its shards.
 *
 * NUMBERS of frames are those of the replay, from 0: a plane may have judged others before. While a replay goes on
 * nobody else brings the plane packets.
 *
 * WAITING. A fragment that waits for its datagram's first has a record that says so. What becomes of it is put there
 * later: in the queue of the replay if it stands there, else among the records of the run that is judged.
 */
#ifndef DP_IO_JUDGING_H
#define DP_IO_JUDGING_H

#include "../plane.h"
#include "judges.h"
#include "merge.h"
#include "reorder.h"

struct dp_judging;

/* `which` is the plane's place in the queue; all but the struct itself stay the caller's. NULL without memory. */
struct dp_judging *dp_judging_new(struct dp_plane *plane, struct dp_merge *merge, struct dp_reorder *queue,
                                  uint32_t which);
void dp_judging_free(struct dp_judging *judging);
/* As dp_replay_set_ports. */
int dp_judging_set_ports(struct dp_judging *judging, const struct dp_named_port *ports, uint32_t n, int32_t at);
/* Before the first frame: threads for the shards, if there are several. 0 or DP_E_MEMORY. */
int dp_judging_begin(struct dp_judging *judging);
/* Whether several threads judge. */
bool dp_judging_on_threads(const struct dp_judging *judging);

/* Judges frames, the first of which has this number. 0 or DP_E_MEMORY. */
int dp_judging_run(struct dp_judging *judging, const struct dp_frame *frames, uint32_t n, uint64_t number,
                   struct dp_record *records, struct dp_flow *flows);
/* Whether frames may be judged as a stream: by several threads, by their addresses alone. */
bool dp_judging_streams(const struct dp_judging *judging);
/* As dp_judging_run, of a stream, to its end; returns how many frames that were. */
uint32_t dp_judging_stream(struct dp_judging *judging, const struct dp_bringer *bringer, uint64_t number,
                           struct dp_record *records, struct dp_flow *flows);
/* Whether a fragment waits, or did and has not been told of: in a stream as dp_judges_wait says. */
bool dp_judging_waits(const struct dp_judging *judging);
bool dp_judging_stream_waits(const struct dp_judging *judging);
/* Denies what waits, up to the frame with this number; UINT64_MAX: all. */
void dp_judging_give_up(struct dp_judging *judging, uint64_t number);
/* How many frames had their answer after they had waited for it. */
uint64_t dp_judging_waited(const struct dp_judging *judging);
/* Frames that opened connections are counted from the replay's first. */
void dp_judging_count_openers(const struct dp_judging *judging, struct dp_record *records, uint32_t n);

#endif
