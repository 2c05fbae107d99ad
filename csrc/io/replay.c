/*
 * replay.c: one reading of captures (merge.h) judged by one plane or by several (judging.h), in batches.
 *
 * A RUN of frames is read, then each plane judges it, while its bytes are where they are. What all planes have decided
 * goes straight to the caller's arrays; behind a record that waits for a fragment everything stands in a queue.
 *
 * Guarantees
 *   1. Each frame of each capture is judged once by each plane, in an order that depends on the captures alone: not on
 *      how often or with which `n` and `until_ns` dp_replay_run is called. What a plane says does not depend on which
 *      others judge beside it.
 *   2. Frames reach the planes with the times they carry.
 *   3. An error of a plane is returned at once; the frames it was given are not offered again.
 *   4. What waits is given up when DP_REORDER_MAX frames stand in the queue from it on, never sooner or later.
 */
#include "judging.h"
#include "merge.h"
#include "part.h"
#include "remap.h"
#include "reorder.h"

#include <stdlib.h>
#include <string.h>

enum {
    /* Frames judged at once: by one thread, and by several at most. */
    BATCH = DP_FRAMES_AT_ONCE,
    BATCH_MAX = DP_FRAME_QUEUE,
    /* Runs that are counted in one call, between which others may come. */
    CENSUS_PIECES = 256
};

struct dp_replay {
    struct dp_merge *merge;
    struct dp_remap *remap; /* NULL where addresses stay as they are */
    struct dp_part *part;   /* NULL where all frames are judged */
    struct dp_plane *first; /* whose policy says what is in the part */
    struct dp_judging **judging;
    uint32_t n; /* planes */
    bool started;
    uint64_t frames; /* judged so far */
    struct dp_reorder queue;
    struct dp_records behind; /* room for BATCH frames that stand behind waiting ones */
};

int dp_replay_new(struct dp_capture **captures, uint32_t n, struct dp_replay **replay)
{
    struct dp_replay *made;
    int error;

    if (!replay)
        return DP_E_ARGUMENT;
    made = calloc(1, sizeof *made);
    if (!made)
        return DP_E_MEMORY;
    error = dp_merge_new(captures, n, &made->merge);
    if (error)
        dp_replay_free(made);
    else
        *replay = made;
    return error;
}

void dp_replay_free(struct dp_replay *replay)
{
    if (!replay)
        return;
    for (uint32_t i = 0; i < replay->n; i++) {
        dp_judging_free(replay->judging[i]);
        free(replay->behind.of[i]);
    }
    free(replay->judging);
    free(replay->behind.of);
    free(replay->behind.flows);
    free(replay->behind.seen);
    dp_reorder_release(&replay->queue);
    dp_remap_free(replay->remap);
    dp_part_free(replay->part);
    dp_merge_free(replay->merge);
    free(replay);
}

/* ---- what is read ---- */

void dp_replay_between(struct dp_replay *replay, uint64_t from_ns, uint64_t to_ns)
{
    dp_merge_between(replay->merge, from_ns, to_ns);
}

int dp_replay_map(struct dp_replay *replay, const struct dp_mapping *mappings, uint32_t n)
{
    dp_remap_free(replay->remap);
    replay->remap = NULL;
    return dp_remap_new(mappings, n, &replay->remap);
}

int64_t dp_replay_starved(const struct dp_replay *replay)
{
    return dp_merge_starved(replay->merge);
}

void dp_replay_stop(struct dp_replay *replay)
{
    dp_merge_stop(replay->merge);
}

int dp_replay_next_time(struct dp_replay *replay, uint64_t *time_ns)
{
    enum dp_next next = dp_merge_next(replay->merge);

    if (next == DP_NEXT_FRAME)
        *time_ns = dp_merge_time(replay->merge);
    return (int)next;
}

uint32_t dp_replay_interfaces(const struct dp_replay *replay)
{
    return dp_merge_interfaces(replay->merge);
}

struct dp_interface dp_replay_interface(const struct dp_replay *replay, uint32_t number)
{
    return dp_merge_interface(replay->merge, number);
}

void dp_replay_keep(struct dp_replay *replay)
{
    dp_merge_keep(replay->merge);
}

const uint8_t *dp_replay_kept_frames(struct dp_replay *replay, uint32_t n, uint64_t *size)
{
    return dp_merge_kept_frames(replay->merge, n, size);
}

const uint8_t *dp_replay_kept_blocks(struct dp_replay *replay, uint32_t capture, uint64_t *size)
{
    return dp_merge_kept_blocks(replay->merge, capture, size);
}

/* ---- who judges ---- */

static int add(struct dp_replay *replay, struct dp_plane *plane)
{
    uint32_t which = replay->n;

    replay->behind.of[which] = calloc(BATCH, sizeof *replay->behind.of[which]);
    replay->first = which ? replay->first : plane;
    replay->judging[which] = dp_judging_new(plane, replay->merge, &replay->queue, which);
    replay->n++;
    return replay->behind.of[which] && replay->judging[which] ? 0 : DP_E_MEMORY;
}

int dp_replay_judge_by(struct dp_replay *replay, struct dp_plane **planes, uint32_t n)
{
    int error = 0;

    if (replay->n || n == 0)
        return DP_E_ARGUMENT;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < i; j++)
            if (planes[i] == planes[j])
                return DP_E_ARGUMENT;
    replay->judging = calloc(n, sizeof(struct dp_judging *));
    replay->behind.of = calloc(n, sizeof(struct dp_record *));
    replay->behind.flows = calloc(BATCH, sizeof *replay->behind.flows);
    replay->behind.seen = calloc(BATCH, sizeof *replay->behind.seen);
    if (!replay->judging || !replay->behind.of || !replay->behind.flows || !replay->behind.seen)
        return DP_E_MEMORY;
    for (uint32_t i = 0; i < n && !error; i++)
        error = add(replay, planes[i]);
    return error;
}

int dp_replay_set_ports(struct dp_replay *replay, uint32_t which, const struct dp_named_port *ports, uint32_t n,
                        int32_t at)
{
    return which < replay->n ? dp_judging_set_ports(replay->judging[which], ports, n, at) : DP_E_ARGUMENT;
}

int dp_replay_judge_part(struct dp_replay *replay, const uint32_t *part_of, uint32_t n_zones, uint32_t mine)
{
    if (replay->remap || replay->part || !replay->n)
        return DP_E_ARGUMENT;
    return dp_part_new(part_of, n_zones, mine, &replay->part);
}

void dp_replay_numbers(struct dp_replay *replay, uint64_t *numbers, uint32_t n)
{
    dp_part_take_numbers(replay->part, numbers, n);
}

uint64_t dp_replay_latest(const struct dp_replay *replay)
{
    return dp_merge_latest(replay->merge);
}

uint64_t dp_replay_waited(const struct dp_replay *replay)
{
    uint64_t waited = 0;

    for (uint32_t i = 0; i < replay->n; i++)
        waited += dp_judging_waited(replay->judging[i]);
    return waited;
}

int dp_replay_census(struct dp_replay *replay, struct dp_plane *plane, uint32_t *leader, uint64_t *packets,
                     uint32_t n_zones, struct dp_census *census)
{
    for (int pieces = 0; pieces < CENSUS_PIECES; pieces++) {
        enum dp_next next = dp_merge_next(replay->merge);
        struct dp_run run;

        if (next != DP_NEXT_FRAME)
            return (int)next;
        run = dp_merge_take(replay->merge, UINT64_MAX, BATCH_MAX);
        dp_census_count(plane->shard[0]->policy->endpoints, replay->merge, &run, leader, packets, n_zones, census);
    }
    return DP_NEXT_FRAME;
}

/* Before the first frame is judged. Of what several threads judge more is read at once. */
static int begin(struct dp_replay *replay)
{
    uint32_t at_once = BATCH;
    int error = 0;

    for (uint32_t i = 0; i < replay->n && !error; i++) {
        error = dp_judging_begin(replay->judging[i]);
        if (dp_judging_on_threads(replay->judging[i]))
            at_once = BATCH_MAX;
    }
    dp_merge_read_at_once(replay->merge, at_once);
    replay->started = error == 0;
    return error;
}

/* ---- a batch ---- */

/* Where the frames of a run were seen. */
static int note_seen(struct dp_replay *replay, const struct dp_run *run, struct dp_seen *seen)
{
    if (!replay->part)
        return dp_merge_seen(replay->merge, run, seen);
    memcpy(seen, dp_part_seen(replay->part), run->n * sizeof *seen);
    return 0;
}

/* Has each plane judge a run, into the places from `at` on. */
static int judge(struct dp_replay *replay, const struct dp_run *run, const struct dp_records *to, uint32_t at)
{
    const struct dp_frame *frames = replay->remap ? dp_remap_frames(replay->remap, run->frames, run->n) : run->frames;
    int error = frames ? 0 : DP_E_MEMORY;

    for (uint32_t i = 0; i < replay->n && !error; i++)
        error = dp_judging_run(replay->judging[i], frames, run->n, replay->frames, to->of[i] + at,
                               i == 0 && to->flows ? to->flows + at : NULL);
    if (!error && to->seen)
        error = note_seen(replay, run, to->seen + at);
    replay->frames += run->n;
    return error;
}

/* How many of the frames from `at` on, up to `end`, no plane waits about. */
static uint32_t decided_of(const struct dp_replay *replay, const struct dp_records *records, uint32_t at, uint32_t end)
{
    uint32_t decided = end;

    for (uint32_t i = 0; i < replay->n; i++) {
        uint32_t k = at;

        if (!dp_judging_waits(replay->judging[i]))
            continue;
        while (k < decided && records->of[i][k].verdict != DP_WAITING)
            k++;
        decided = k;
    }
    return decided - at;
}

/* Puts what comes behind a record that waits in the queue, of `n` that are judged, the first of which has this number.
 * Returns how many are not. */
static int keep_order(struct dp_replay *replay, uint64_t number, const struct dp_records *to, uint32_t at, uint32_t n)
{
    uint32_t decided = decided_of(replay, to, at, at + n);

    if (decided == n)
        return (int)decided;
    if (dp_reorder_reserve(&replay->queue, replay->n) < 0)
        return DP_E_MEMORY;
    dp_reorder_put(&replay->queue, number + decided, to, at + decided, n - decided);
    return (int)decided;
}

/* Has a run judged while no record waits. */
static int judge_into(struct dp_replay *replay, const struct dp_run *run, const struct dp_records *to, uint32_t at)
{
    uint64_t number = replay->frames;
    int error = judge(replay, run, to, at);

    return error < 0 ? error : keep_order(replay, number, to, at, run->n);
}

/* Has a run judged that has to stand behind records that wait; `like` says which arrays the caller wants. */
static int judge_behind(struct dp_replay *replay, const struct dp_run *run, const struct dp_records *like)
{
    struct dp_records behind = replay->behind;
    uint64_t number = replay->frames;
    int error;

    behind.flows = like->flows ? behind.flows : NULL;
    behind.seen = like->seen ? behind.seen : NULL;
    error = judge(replay, run, &behind, 0);
    if (!error)
        dp_reorder_put(&replay->queue, number, &behind, 0, run->n);
    return error;
}

/* ---- a stream: runs are read while those before are judged ---- */

/* What is read for one call, from whichever thread. */
struct reading {
    struct dp_replay *replay;
    uint64_t until_ns;
    const struct dp_records *to;
    uint32_t at; /* where the next frame goes */
    uint32_t n;
    uint64_t token; /* of the last run */
    bool last;
    int error;
};

/* As long as nothing waits: what comes behind has to stand in the queue. */
static struct dp_brought read_more(void *owner, uint32_t thread)
{
    struct reading *r = owner;
    struct dp_replay *replay = r->replay;
    struct dp_run run = {.n = 0};

    dp_merge_read_by(replay->merge, thread);
    while (!run.n && !r->error && !r->last && r->at < r->n && !dp_judging_stream_waits(replay->judging[0]) &&
           dp_merge_next(replay->merge) == DP_NEXT_FRAME) {
        run = dp_merge_take(replay->merge, r->until_ns, r->n - r->at);
        r->last = run.last;
        r->token = dp_merge_hold(replay->merge, &run);
        if (replay->part)
            r->error = dp_part_keep(replay->part, replay->first->shard[0]->policy->endpoints, replay->merge,
                                    r->to->seen != NULL, &run);
        if (!r->error && r->to->seen)
            r->error = note_seen(replay, &run, r->to->seen + r->at);
    }
    if (r->error)
        run.n = 0;
    r->at += run.n;
    return (struct dp_brought){run.frames, run.n, r->token};
}

static void give_back(void *owner, uint64_t token)
{
    const struct reading *r = owner;

    dp_merge_give_back(r->replay->merge, token);
}

/* Whether frames are judged so while no record waits. */
static bool streams(const struct dp_replay *replay)
{
    return replay->n == 1 && !replay->remap && dp_judging_streams(replay->judging[0]);
}

/* Has frames read and judged as judge_into() does; `last` as of a run. */
static int judge_stream(struct dp_replay *replay, uint64_t until_ns, const struct dp_records *to, uint32_t at,
                        uint32_t n, bool *last)
{
    struct reading reading = {.replay = replay, .until_ns = until_ns, .to = to, .at = at, .n = n};
    const struct dp_bringer bringer = {&reading, read_more, give_back};
    uint64_t number = replay->frames;
    uint32_t judged =
        dp_judging_stream(replay->judging[0], &bringer, number, to->of[0] + at, to->flows ? to->flows + at : NULL);

    give_back(&reading, reading.token);
    replay->frames += judged;
    *last = reading.last;
    return reading.error < 0 ? reading.error : keep_order(replay, number, to, at, judged);
}

/* ---- what comes next ---- */

/* Denies what waits up to `number`, so that what is in the queue can leave. */
static void give_up(struct dp_replay *replay, uint64_t number)
{
    for (uint32_t i = 0; i < replay->n; i++)
        dp_judging_give_up(replay->judging[i], number);
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

int dp_replay_run(struct dp_replay *replay, uint64_t until_ns, struct dp_record **records, struct dp_flow *flows,
                  struct dp_seen *seen, uint32_t n)
{
    struct dp_reorder *queue = &replay->queue;
    const struct dp_records to = {records, flows, seen};
    struct dp_run run = {.last = false};
    uint32_t done = 0;

    if (n > INT32_MAX || !replay->n)
        return DP_E_ARGUMENT;
    if (!replay->started) {
        int error = begin(replay);

        if (error < 0)
            return error;
    }
    while (done < n && !run.last) {
        enum dp_next next;
        uint32_t most;
        int decided = 0;

        done += dp_reorder_take(queue, &to, done, n - done);
        next = dp_merge_next(replay->merge);
        if (done == n || next == DP_NEXT_STARVED || (next == DP_NEXT_END && !queue->count))
            break;
        if (next == DP_NEXT_END || queue->count == DP_REORDER_MAX) {
            give_up(replay, next == DP_NEXT_END ? UINT64_MAX : queue->number);
            continue;
        }
        if (!queue->count && streams(replay)) {
            decided = judge_stream(replay, until_ns, &to, done, n, &run.last);
            if (decided < 0)
                return decided;
            done += (uint32_t)decided;
            continue;
        }
        most = least(queue->count ? BATCH : n - done, DP_REORDER_MAX - queue->count);
        run = dp_merge_take(replay->merge, until_ns, most);
        if (replay->part)
            decided = dp_part_keep(replay->part, replay->first->shard[0]->policy->endpoints, replay->merge,
                                   to.seen != NULL, &run);
        if (run.n && decided >= 0)
            decided = queue->count ? judge_behind(replay, &run, &to) : judge_into(replay, &run, &to, done);
        if (decided < 0)
            return decided;
        done += (uint32_t)decided;
    }
    done += dp_reorder_take(queue, &to, done, n - done);
    for (uint32_t i = 0; i < replay->n; i++)
        dp_judging_count_openers(replay->judging[i], records[i], done);
    return (int)done;
}
