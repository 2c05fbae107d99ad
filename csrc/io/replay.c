/*
 * replay.c: captures merged by time and judged in batches.
 *
 * A heap orders the captures by the time of their next frame, then by their position; only these heads are compared,
 * so a capture keeps its own order even where its times run backwards. Merged frames are gathered in a batch; a single
 * capture, or the last one left, is judged straight from its queue without a copy.
 *
 * Life-cycle: nothing is read before the first question. A capture is refilled only when its queue is empty and
 * every frame taken from it has been judged, because refilling may move the bytes that frames point to. Of many
 * captures only the time of the first frame is kept at first: each is read when its time has come, so that a ring of
 * thousands of files takes the memory of those that overlap.
 *
 * Guarantees
 *   1. Each frame of each capture is judged once, in an order that depends on the captures alone: not on how often
 *      or with which `n` and `until_ns` dp_replay_run is called.
 *   2. The clock of `until_ns` and of dp_replay_next_time never runs backwards; frames reach the plane with the
 *      times they carry.
 *   3. An error of the plane is returned at once; the frames it was given are not offered again.
 *   4. Between two calls every capture in the heap but the first has a frame in its queue or has not begun.
 *   5. A capture that has to be fed stops everything until it has been: no frame overtakes one that comes from it.
 */
#include "capture.h"
#include "judges.h"
#include "remap.h"
#include "reorder.h"
#include "replay_at_port.h"

#include <stdlib.h>

enum {
    /* Frames judged at once: by one thread, and by several at most. */
    BATCH = DP_FRAMES_AT_ONCE,
    BATCH_MAX = DP_FRAME_QUEUE,
    /* More captures than these are opened when their time comes. */
    OPEN_AT_ONCE = 32,
    /* What the windows of all captures take together, but for their least size. */
    WINDOWS = 64 * 1024 * 1024
};

/* What next_capture() finds. */
enum next { NEXT_END, NEXT_FRAME, NEXT_STARVED };

struct head {
    uint64_t time_ns;
    uint32_t capture;
};

/* An interface of a capture, by its number there. */
struct where {
    uint32_t capture;
    uint32_t interface;
};

struct dp_replay {
    struct dp_capture **captures;
    struct head *heap;
    uint32_t n;
    uint32_t live;
    uint32_t begun; /* captures whose first frame has been looked for */
    int64_t starved;
    uint64_t latest_ns;
    uint32_t at_once; /* frames: BATCH or BATCH_MAX */
    struct dp_frame batch[BATCH_MAX];
    struct dp_reorder reorder;
    struct dp_record records[BATCH]; /* of frames that stand behind waiting ones */
    struct dp_flow flows[BATCH];
    struct dp_seen seen[BATCH];
    uint64_t *judged; /* by capture: how many of its frames, those passed over too */
    uint64_t from_ns; /* frames before are passed over, and from to_ns on */
    uint64_t to_ns;
    struct dp_at_port *ports; /* NULL until there are any */
    struct dp_remap *remap;   /* NULL where addresses stay as they are */
    struct where *where;      /* interfaces by their number, from 1 */
    bool keeps;
    struct dp_byte_queue kept; /* frames, as struct dp_kept_frame */
    uint32_t n_where;
    uint64_t before; /* frames that the plane had judged before the replay's first */
    bool started;
    struct dp_judges *judges; /* of a plane of several shards */
};

static size_t window_of(uint32_t captures)
{
    size_t share = WINDOWS / captures;
    if (share > DP_SOURCE_WINDOW)
        return DP_SOURCE_WINDOW;
    return share < DP_SOURCE_WINDOW_MIN ? DP_SOURCE_WINDOW_MIN : share;
}

int dp_replay_new(struct dp_capture **captures, uint32_t n, struct dp_replay **replay)
{
    if (!replay || (n && !captures))
        return DP_E_ARGUMENT;
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t j = 0; j < i; j++) {
            if (captures[i] == captures[j])
                return DP_E_ARGUMENT;
        }
        if (!captures[i])
            return DP_E_ARGUMENT;
    }
    struct dp_replay *made = calloc(1, sizeof *made);
    if (!made)
        return DP_E_MEMORY;
    made->captures = calloc(n + (size_t)1, sizeof *made->captures);
    made->heap = calloc(n + (size_t)1, sizeof *made->heap);
    made->judged = calloc(n + (size_t)1, sizeof *made->judged);
    if (!made->captures || !made->heap || !made->judged) {
        dp_replay_free(made);
        return DP_E_MEMORY;
    }
    for (uint32_t i = 0; i < n; i++) {
        made->captures[i] = captures[i];
        captures[i]->index = i;
        captures[i]->source.window = window_of(n);
    }
    made->at_once = BATCH;
    made->n = n;
    made->starved = -1;
    made->to_ns = UINT64_MAX;
    *replay = made;
    return 0;
}

void dp_replay_free(struct dp_replay *replay)
{
    if (!replay)
        return;
    free(replay->captures);
    free(replay->heap);
    free(replay->judged);
    free(replay->where);
    dp_byte_queue_release(&replay->kept);
    dp_at_port_free(replay->ports);
    dp_remap_free(replay->remap);
    dp_reorder_release(&replay->reorder);
    dp_judges_free(replay->judges);
    free(replay);
}

static bool comes_before(const struct head *a, const struct head *b)
{
    return a->time_ns < b->time_ns || (a->time_ns == b->time_ns && a->capture < b->capture);
}

static void sift_down(struct dp_replay *replay, uint32_t at)
{
    struct head *heap = replay->heap;
    for (;;) {
        uint32_t first = at;
        for (uint32_t child = 2 * at + 1; child <= 2 * at + 2 && child < replay->live; child++) {
            if (comes_before(&heap[child], &heap[first]))
                first = child;
        }
        if (first == at)
            return;
        struct head moved = heap[at];
        heap[at] = heap[first];
        heap[first] = moved;
        at = first;
    }
}

static bool queue_empty(const struct dp_capture *capture)
{
    return capture->head == capture->tail;
}

static uint64_t head_time(const struct dp_capture *capture)
{
    return capture->queue[capture->head].time_ns;
}

static bool passed_over(const struct dp_replay *replay, uint64_t time_ns)
{
    return time_ns < replay->from_ns || time_ns >= replay->to_ns;
}

/* Passes over the frames at the head of a queue that are not to be judged; all taken from it before are. */
static void pass_over(struct dp_replay *replay, struct dp_capture *capture)
{
    for (; !queue_empty(capture) && passed_over(replay, head_time(capture)); capture->head++)
        replay->judged[capture->index]++;
}

/*
 * Refills a capture whose queue is empty, until there is a frame to judge or the capture has ended; true if it has to
 * be fed first.
 */
static bool starves(struct dp_replay *replay, struct dp_capture *capture)
{
    bool came;

    do {
        dp_capture_fill(capture);
        came = !queue_empty(capture);
        pass_over(replay, capture);
    } while (came && queue_empty(capture));
    if (capture->starved)
        replay->starved = capture->index;
    return capture->starved;
}

/* Finds the first frame of each capture. */
static enum next begin(struct dp_replay *replay)
{
    for (; replay->begun < replay->n; replay->begun++) {
        struct dp_capture *capture = replay->captures[replay->begun];
        pass_over(replay, capture);
        if (queue_empty(capture) && starves(replay, capture))
            return NEXT_STARVED;
        if (queue_empty(capture))
            continue;
        replay->heap[replay->live++] = (struct head){head_time(capture), capture->index};
        if (replay->n > OPEN_AT_ONCE && dp_capture_rewind(capture))
            replay->judged[capture->index] = 0;
    }
    for (uint32_t i = replay->live / 2; i > 0; i--)
        sift_down(replay, i - 1);
    return NEXT_FRAME;
}

/* The capture with the next frame, refilled if need be. */
static enum next next_capture(struct dp_replay *replay, struct dp_capture **found)
{
    replay->starved = -1;
    if (replay->begun < replay->n && begin(replay) == NEXT_STARVED)
        return NEXT_STARVED;
    while (replay->live) {
        struct dp_capture *first = replay->captures[replay->heap[0].capture];
        uint32_t head = first->head;
        *found = first;
        pass_over(replay, first);
        if (!queue_empty(first) && head == first->head)
            return NEXT_FRAME;
        if (queue_empty(first) && starves(replay, first))
            return NEXT_STARVED;
        if (queue_empty(first))
            replay->heap[0] = replay->heap[--replay->live];
        else
            replay->heap[0].time_ns = head_time(first);
        sift_down(replay, 0);
    }
    return NEXT_END;
}

void dp_replay_between(struct dp_replay *replay, uint64_t from_ns, uint64_t to_ns)
{
    replay->from_ns = from_ns;
    replay->to_ns = to_ns;
    /* The first frame of each capture is looked for again. */
    replay->live = 0;
    replay->begun = 0;
}

int dp_replay_map(struct dp_replay *replay, const struct dp_mapping *mappings, uint32_t n)
{
    dp_remap_free(replay->remap);
    replay->remap = NULL;
    return dp_remap_new(mappings, n, &replay->remap);
}

int64_t dp_replay_starved(const struct dp_replay *replay)
{
    return replay->starved;
}

void dp_replay_stop(struct dp_replay *replay)
{
    replay->live = 0;
    replay->begun = replay->n;
}

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

int dp_replay_next_time(struct dp_replay *replay, uint64_t *time_ns)
{
    struct dp_capture *first = NULL;
    enum next next = next_capture(replay, &first);
    if (next == NEXT_FRAME)
        *time_ns = later(replay->latest_ns, head_time(first));
    return (int)next;
}

/* Frames that may be judged: a run in a queue or in the batch. */
struct run {
    const struct dp_frame *frames;
    uint32_t n;
    /* The end of the run is the end of the call: the next frame is not before until_ns. */
    bool last;
};

/* The longest run of the one capture that is left. */
static struct run take_queue(struct dp_replay *replay, struct dp_capture *capture, uint64_t until_ns, uint32_t n)
{
    struct run run = {.frames = &capture->queue[capture->head]};
    uint32_t queued = capture->tail - capture->head;
    uint64_t latest = replay->latest_ns;
    for (n = n < queued ? n : queued; run.n < n; run.n++) {
        uint64_t time = later(latest, run.frames[run.n].time_ns);
        if (passed_over(replay, run.frames[run.n].time_ns))
            break;
        if (time >= until_ns) {
            run.last = true;
            break;
        }
        latest = time;
    }
    replay->latest_ns = latest;
    capture->head += run.n;
    return run;
}

/* Merges frames into the batch until it is full, or a queue is empty. */
static struct run take_merged(struct dp_replay *replay, uint64_t until_ns, uint32_t n)
{
    struct run run = {.frames = replay->batch};
    for (n = n < replay->at_once ? n : replay->at_once; run.n < n;) {
        struct dp_capture *capture = replay->captures[replay->heap[0].capture];
        if (queue_empty(capture))
            break;
        uint64_t time = later(replay->latest_ns, head_time(capture));
        if (time >= until_ns) {
            run.last = true;
            break;
        }
        replay->latest_ns = time;
        replay->batch[run.n++] = capture->queue[capture->head++];
        if (queue_empty(capture) || passed_over(replay, head_time(capture)))
            break;
        replay->heap[0].time_ns = head_time(capture);
        sift_down(replay, 0);
    }
    return run;
}

/* Takes the plane's resolutions: for records of the batch at `base`, or for those that waited. */
static void resolve(struct dp_replay *replay, struct dp_plane *plane, uint64_t base, struct dp_record *records,
                    uint32_t n)
{
    struct dp_resolution resolution;
    struct dp_engine *by;

    while (dp_plane_resolved(plane, &resolution, &by)) {
        if (replay->ports)
            dp_at_port_resolved(replay->ports, by, &resolution);
        if (!dp_reorder_resolve(&replay->reorder, &resolution) && resolution.number - base < n)
            records[resolution.number - base] = resolution.record;
    }
}

static struct dp_capture_interface *interface_of(const struct dp_replay *replay, const struct dp_frame *frame)
{
    return frame->interface ? &replay->captures[frame->capture]->interface[frame->interface - 1] : NULL;
}

/* The number of a frame's interface, a new one for one that has none yet; 0 where there is none, or no memory. */
static uint32_t number_of(struct dp_replay *replay, const struct dp_frame *frame)
{
    struct dp_capture_interface *interface = interface_of(replay, frame);
    uint32_t n = replay->n_where;

    if (!interface || interface->number)
        return interface ? interface->number : 0;
    if ((n & (n - 1)) == 0) {
        struct where *grown = realloc(replay->where, (n ? 2 * (size_t)n : 1) * sizeof *grown);
        if (!grown)
            return 0;
        replay->where = grown;
    }
    replay->where[n] = (struct where){frame->capture, frame->interface};
    return interface->number = ++replay->n_where;
}

uint32_t dp_replay_interfaces(const struct dp_replay *replay)
{
    return replay->n_where;
}

struct dp_interface dp_replay_interface(const struct dp_replay *replay, uint32_t number)
{
    const struct dp_capture_interface *interface;

    if (number == 0 || number > replay->n_where)
        return (struct dp_interface){.name = NULL};
    interface =
        &replay->captures[replay->where[number - 1].capture]->interface[replay->where[number - 1].interface - 1];
    return (struct dp_interface){.name = interface->name,
                                 .body = interface->body,
                                 .size = interface->size,
                                 .number = interface->place,
                                 .swapped = interface->swapped};
}

/* ---- frames that are kept ---- */

void dp_replay_keep(struct dp_replay *replay)
{
    replay->keeps = true;
    for (uint32_t i = 0; i < replay->n; i++)
        replay->captures[i]->keeps = true;
}

/* Where the block of a frame begins whose data stand at `data`. */
enum { BEFORE_DATA = 28 };

static int keep(struct dp_replay *replay, const struct dp_frame *frame, uint32_t interface)
{
    const struct dp_capture_interface *described = interface_of(replay, frame);
    struct dp_kept_frame head = {.time_ns = frame->time_ns,
                                 .captured = frame->captured,
                                 .length = frame->length,
                                 .capture = frame->capture,
                                 .interface = interface,
                                 .link_type = replay->captures[frame->capture]->status.link_type,
                                 .in_block = (frame->flags & DP_FRAME_IN_BLOCK) != 0,
                                 .swapped = described && described->swapped};
    const uint8_t *block = frame->data - BEFORE_DATA, *options = NULL;
    uint8_t *at;

    if (head.in_block) {
        options = frame->data + ((frame->captured + (size_t)3) & ~(size_t)3);
        head.options = (uint32_t)(block + dp_load_u32(block + 4, head.swapped) - 4 - options);
        head.timestamp = (uint64_t)dp_load_u32(block + 12, head.swapped) << 32 | dp_load_u32(block + 16, head.swapped);
    }
    head.size = (uint32_t)((sizeof head + frame->captured + head.options + 7) & ~(size_t)7);
    at = dp_byte_queue_add(&replay->kept, head.size);
    if (!at)
        return DP_E_MEMORY;
    memcpy(at, &head, sizeof head);
    memcpy(at + sizeof head, frame->data, frame->captured);
    if (head.options)
        memcpy(at + sizeof head + frame->captured, options, head.options);
    return 0;
}

const uint8_t *dp_replay_kept_frames(struct dp_replay *replay, uint32_t n, uint64_t *size)
{
    struct dp_byte_queue *kept = &replay->kept;
    struct dp_kept_frame head;

    for (*size = 0; n-- && *size + sizeof head <= dp_byte_queue_size(kept); *size += head.size)
        memcpy(&head, kept->bytes + kept->first + *size, sizeof head);
    return dp_byte_queue_take(kept, *size);
}

const uint8_t *dp_replay_kept_blocks(struct dp_replay *replay, uint32_t capture, uint64_t *size)
{
    *size = capture < replay->n ? dp_byte_queue_size(&replay->captures[capture]->kept) : 0;
    return *size ? dp_byte_queue_take(&replay->captures[capture]->kept, *size) : NULL;
}

/* Where the frames of a run were seen; 0 or DP_E_MEMORY. */
static int look_where(struct dp_replay *replay, const struct run *run, struct dp_seen *seen)
{
    int error = 0;

    for (uint32_t i = 0; i < run->n && !error; i++) {
        const struct dp_frame *frame = &run->frames[i];

        seen[i] = (struct dp_seen){++replay->judged[frame->capture], frame->capture, number_of(replay, frame)};
        if (replay->keeps)
            error = keep(replay, frame, seen[i].interface);
    }
    return error;
}

int dp_replay_set_ports(struct dp_replay *replay, const struct dp_named_port *ports, uint32_t n, int32_t at)
{
    if (!replay->ports)
        replay->ports = dp_at_port_new();
    return replay->ports ? dp_at_port_set(replay->ports, ports, n, at) : DP_E_MEMORY;
}

/* Judges frames by their addresses, on one shard or on all of them. */
static int judge_by_address(struct dp_replay *replay, struct dp_plane *plane, const struct dp_frame *frames, uint32_t n,
                            struct dp_record *records, struct dp_flow *flows)
{
    if (!replay->judges)
        return dp_engine_process(plane->shard[0], frames, n, records, flows);
    dp_judges_process(replay->judges, frames, n, records, flows);
    return 0;
}

static void judge_at_port(struct dp_replay *replay, struct dp_plane *plane, const struct dp_frame *frame,
                          struct dp_record *record, struct dp_flow *flow)
{
    struct dp_engine *engine = replay->judges ? dp_judges_alone(replay->judges, frame) : plane->shard[0];

    dp_at_port_judge(replay->ports, engine, frame, interface_of(replay, frame), record, flow);
    if (replay->judges)
        dp_judges_follow(replay->judges, engine);
}

/* Judges the frames of a run; `base` is the number of the first. */
static int judge(struct dp_replay *replay, struct dp_plane *plane, const struct run *run, uint64_t base,
                 struct dp_record *records, struct dp_flow *flows)
{
    const struct dp_frame *frames = replay->remap ? dp_remap_frames(replay->remap, run->frames, run->n) : run->frames;
    uint32_t done = 0, by_address = 0;

    if (!frames)
        return DP_E_MEMORY;
    if (!replay->ports)
        return judge_by_address(replay, plane, frames, run->n, records, flows);
    /* What is not by port is judged together, before the next that is. */
    for (; done < run->n; done++) {
        const struct dp_frame *frame = &frames[done];
        int error;

        if (!dp_at_port_concerns(replay->ports, frame, interface_of(replay, frame)))
            continue;
        error = judge_by_address(replay, plane, &frames[by_address], done - by_address, &records[by_address],
                                 flows ? &flows[by_address] : NULL);
        if (error < 0)
            return error;
        judge_at_port(replay, plane, frame, &records[done], flows ? &flows[done] : NULL);
        by_address = done + 1;
        if (dp_plane_waiting(plane))
            resolve(replay, plane, base, records, done + 1);
    }
    return judge_by_address(replay, plane, &frames[by_address], done - by_address, &records[by_address],
                            flows ? &flows[by_address] : NULL);
}

/* Counts from the replay's first frame on. */
static void count_openers_from(uint64_t before, struct dp_record *records, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < records[i].checks; k++) {
            uint64_t *by = &records[i].check[k].opened_by;

            *by = *by > before ? *by - before : 0;
        }
}

/* Judges frames while none waits; what comes behind a record that waits is put in the queue. Returns how many are not.
 */
static int judge_into(struct dp_replay *replay, struct dp_plane *plane, const struct run *run,
                      struct dp_record *records, struct dp_flow *flows, struct dp_seen *seen)
{
    uint64_t base = dp_plane_frames(plane);
    uint32_t decided = 0;
    int error = judge(replay, plane, run, base, records, flows);

    if (!error && seen)
        error = look_where(replay, run, seen);
    if (error < 0)
        return error;
    if (dp_plane_waiting(plane) == 0)
        return (int)run->n;
    resolve(replay, plane, base, records, run->n);
    while (decided < run->n && records[decided].verdict != DP_WAITING)
        decided++;
    if (decided == run->n)
        return (int)decided;
    if (dp_reorder_reserve(&replay->reorder) < 0)
        return DP_E_MEMORY;
    dp_reorder_put(&replay->reorder, base + decided, records + decided, flows ? flows + decided : NULL,
                   seen ? seen + decided : NULL, run->n - decided);
    return (int)decided;
}

/* Judges frames that have to stand behind waiting ones. */
static int judge_behind(struct dp_replay *replay, struct dp_plane *plane, const struct run *run, bool flows, bool seen)
{
    uint64_t base = dp_plane_frames(plane);
    struct dp_flow *into = flows ? replay->flows : NULL;
    int error = judge(replay, plane, run, base, replay->records, into);

    if (!error && seen)
        error = look_where(replay, run, replay->seen);
    if (error < 0)
        return error;
    dp_reorder_put(&replay->reorder, base, replay->records, into, seen ? replay->seen : NULL, run->n);
    resolve(replay, plane, base, replay->records, 0);
    return 0;
}

/* Denies what waits up to `number`, so that what is in the queue can leave. */
static void give_up(struct dp_replay *replay, struct dp_plane *plane, uint64_t number)
{
    dp_plane_give_up(plane, number);
    resolve(replay, plane, 0, NULL, 0);
}

/* Before the first frame is judged. Of what several threads judge more is read at once. */
static int begin_judging(struct dp_replay *replay, struct dp_plane *plane)
{
    int error = plane->shards > 1 ? dp_judges_new(plane, &replay->judges) : 0;

    if (error < 0)
        return error;
    replay->at_once = replay->judges ? BATCH_MAX : BATCH;
    for (uint32_t i = 0; i < replay->n; i++)
        replay->captures[i]->room = replay->at_once;
    replay->before = dp_plane_frames(plane);
    replay->started = true;
    return 0;
}

int dp_replay_run(struct dp_replay *replay, struct dp_plane *plane, uint64_t until_ns, struct dp_record *records,
                  struct dp_flow *flows, struct dp_seen *seen, uint32_t n)
{
    struct dp_reorder *reorder = &replay->reorder;
    struct run run = {.last = false};
    uint32_t done = 0;

    if (n > INT32_MAX)
        return DP_E_ARGUMENT;
    if (!replay->started) {
        int error = begin_judging(replay, plane);

        if (error < 0)
            return error;
    }
    while (done < n && !run.last) {
        struct dp_capture *first = NULL;
        enum next next;
        uint32_t most;
        int decided = 0;

        done +=
            dp_reorder_take(reorder, records + done, flows ? flows + done : NULL, seen ? seen + done : NULL, n - done);
        next = next_capture(replay, &first);
        if (done == n || next == NEXT_STARVED || (next == NEXT_END && !reorder->count))
            break;
        if (next == NEXT_END || reorder->count > DP_REORDER_MAX - BATCH) {
            give_up(replay, plane, next == NEXT_END ? UINT64_MAX : reorder->number);
            continue;
        }
        most = !reorder->count || n - done < BATCH ? n - done : BATCH;
        most = most < DP_REORDER_MAX ? most : DP_REORDER_MAX;
        run = replay->live == 1 ? take_queue(replay, first, until_ns, most) : take_merged(replay, until_ns, most);
        if (run.n)
            decided = reorder->count ? judge_behind(replay, plane, &run, flows != NULL, seen != NULL)
                                     : judge_into(replay, plane, &run, records + done, flows ? flows + done : NULL,
                                                  seen ? seen + done : NULL);
        if (decided < 0)
            return decided;
        done += (uint32_t)decided;
    }
    done += dp_reorder_take(reorder, records + done, flows ? flows + done : NULL, seen ? seen + done : NULL, n - done);
    if (replay->before)
        count_openers_from(replay->before, records, done);
    return (int)done;
}
