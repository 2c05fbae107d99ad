/*
 * merge.h: captures merged by time, read in runs: which frames come next, and where they were seen.
 *
 *   ownership  Captures stay the caller's and must outlive the merge.
 *   lifetime   A capture is refilled only by dp_merge_next(), when its queue is empty, because refilling may move the
 *              bytes that frames point to: a run holds until then, whoever has looked at it; the bytes of one that is
 *              held (dp_merge_hold) until it is given back.
 *   order      Frames come in the order of the time of their captures' heads, ties in the order of the captures. It
 *              depends on the captures alone: not on how long runs are.
 *   time       The clock of `until_ns` and of dp_merge_time() never runs backwards; frames have the times they carry.
 *   starving   A capture that has to be fed stops everything until it has been: no frame overtakes one that comes from
 *              it.
 */
#ifndef DP_IO_MERGE_H
#define DP_IO_MERGE_H

#include "capture.h"

struct dp_merge;

/* What dp_merge_next() finds; these are the answers of dp_replay_next_time(). */
enum dp_next { DP_NEXT_END, DP_NEXT_FRAME, DP_NEXT_STARVED };

/* Frames one behind the other. */
struct dp_run {
    const struct dp_frame *frames;
    uint32_t n;
    /* The frame behind it is not before until_ns. */
    bool last;
};

/* 0, DP_E_MEMORY, or DP_E_ARGUMENT where a capture is missing or comes twice. */
int dp_merge_new(struct dp_capture **captures, uint32_t n, struct dp_merge **merge);
void dp_merge_free(struct dp_merge *merge);
/* As dp_replay_between, _stop, _starved and _interface(s). */
void dp_merge_between(struct dp_merge *merge, uint64_t from_ns, uint64_t to_ns);
void dp_merge_stop(struct dp_merge *merge);
int64_t dp_merge_starved(const struct dp_merge *merge);
uint32_t dp_merge_interfaces(const struct dp_merge *merge);
struct dp_interface dp_merge_interface(const struct dp_merge *merge, uint32_t number);

/* How many frames are read at once, at most DP_FRAME_QUEUE, of each capture and of all together. */
void dp_merge_read_at_once(struct dp_merge *merge, uint32_t frames);
/* Looks for the next frame; every capture but the first then has a frame in its queue or has not begun. */
enum dp_next dp_merge_next(struct dp_merge *merge);
/* The time of the frame that dp_merge_next() has found. */
uint64_t dp_merge_time(const struct dp_merge *merge);
/* The latest time of a frame that was taken. */
uint64_t dp_merge_latest(const struct dp_merge *merge);
/* Takes frames before until_ns, at most `n`, from the one that dp_merge_next() has found on. */
struct dp_run dp_merge_take(struct dp_merge *merge, uint64_t until_ns, uint32_t n);

/* The bytes of a run just taken stay where they are until it is given back, whatever is read behind it. Returns the
 * token that it is given back with, and with it all runs before. */
uint64_t dp_merge_hold(struct dp_merge *merge, const struct dp_run *run);
/* From now on such a thread, of those numbered from 0, reads: each has buffers of its own. */
void dp_merge_read_by(struct dp_merge *merge, uint32_t thread);
void dp_merge_give_back(struct dp_merge *merge, uint64_t token);

/* The interface that a frame was captured at; NULL where its capture tells none. */
struct dp_capture_interface *dp_merge_interface_of(const struct dp_merge *merge, const struct dp_frame *frame);
/* The number of that interface in struct dp_seen, a new one where it has none yet; 0 or DP_E_MEMORY. */
int dp_merge_number(struct dp_merge *merge, const struct dp_frame *frame, uint32_t *number);
/* Where the frames of a run were seen, to be asked once for each; 0 or DP_E_MEMORY. */
int dp_merge_seen(struct dp_merge *merge, const struct dp_run *run, struct dp_seen *seen);

/* From now on frames are kept when dp_merge_seen() is asked, and blocks when they are read; as dp_replay_keep. */
void dp_merge_keep(struct dp_merge *merge);
const uint8_t *dp_merge_kept_frames(struct dp_merge *merge, uint32_t n, uint64_t *size);
const uint8_t *dp_merge_kept_blocks(struct dp_merge *merge, uint32_t capture, uint64_t *size);

#endif
