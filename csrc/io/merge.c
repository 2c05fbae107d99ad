/*
 * merge.c: merge.h in code.
 *
 * A heap orders the captures by the time of their next frame, then by their position; only these heads are compared,
 * so a capture keeps its own order even where its times run backwards. Merged frames are gathered in a batch; of a
 * single capture, or the last one left, a run is a piece of its queue, without a copy.
 *
 * Life-cycle: nothing is read before the first question. Of many captures only the time of the first frame is kept at
 * first: each is read when its time has come, so that a ring of thousands of files takes the memory of those that
 * overlap.
 */
#include "merge.h"

#include "kept_frames.h"

#include <stdlib.h>

enum {
    /* More captures than these are opened when their time comes. */
    OPEN_AT_ONCE = 32,
    /* What the windows of all captures take together, but for their least size. */
    WINDOWS = 64 * 1024 * 1024
};

struct head {
    uint64_t time_ns;
    uint32_t capture;
};

/* An interface of a capture, by its number there. */
struct where {
    uint32_t capture;
    uint32_t interface;
};

struct dp_merge {
    struct dp_capture **captures;
    struct head *heap;
    uint32_t n;
    uint32_t live;
    uint32_t begun; /* captures whose first frame has been looked for */
    int64_t starved;
    uint64_t latest_ns;
    uint32_t at_once; /* frames of a run */
    uint64_t *passed; /* by capture: how many of its frames, those passed over too */
    uint64_t from_ns; /* frames before are passed over, and from to_ns on */
    uint64_t to_ns;
    struct where *where; /* interfaces by their number, from 1 */
    uint32_t n_where;
    bool keeps;
    struct dp_byte_queue kept;
    struct dp_held_buffers held;
    struct dp_frame batch[DP_FRAME_QUEUE];
};

static size_t window_of(uint32_t captures)
{
    size_t share = WINDOWS / captures;
    if (share > DP_SOURCE_WINDOW)
        return DP_SOURCE_WINDOW;
    return share < DP_SOURCE_WINDOW_MIN ? DP_SOURCE_WINDOW_MIN : share;
}

int dp_merge_new(struct dp_capture **captures, uint32_t n, struct dp_merge **merge)
{
    if (!merge || (n && !captures))
        return DP_E_ARGUMENT;
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t j = 0; j < i; j++) {
            if (captures[i] == captures[j])
                return DP_E_ARGUMENT;
        }
        if (!captures[i])
            return DP_E_ARGUMENT;
    }
    struct dp_merge *made = calloc(1, sizeof *made);
    if (!made)
        return DP_E_MEMORY;
    made->captures = calloc(n + (size_t)1, sizeof *made->captures);
    made->heap = calloc(n + (size_t)1, sizeof *made->heap);
    made->passed = calloc(n + (size_t)1, sizeof *made->passed);
    if (!made->captures || !made->heap || !made->passed) {
        dp_merge_free(made);
        return DP_E_MEMORY;
    }
    for (uint32_t i = 0; i < n; i++) {
        made->captures[i] = captures[i];
        captures[i]->index = i;
        captures[i]->source.window = window_of(n);
        captures[i]->source.held = &made->held;
    }
    made->at_once = DP_FRAMES_AT_ONCE;
    made->n = n;
    made->starved = -1;
    made->to_ns = UINT64_MAX;
    *merge = made;
    return 0;
}

void dp_merge_free(struct dp_merge *merge)
{
    if (!merge)
        return;
    free(merge->captures);
    free(merge->heap);
    free(merge->passed);
    free(merge->where);
    dp_byte_queue_release(&merge->kept);
    dp_held_release(&merge->held);
    free(merge);
}

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static bool comes_before(const struct head *a, const struct head *b)
{
    return a->time_ns < b->time_ns || (a->time_ns == b->time_ns && a->capture < b->capture);
}

static void sift_down(struct dp_merge *merge, uint32_t at)
{
    struct head *heap = merge->heap;
    for (;;) {
        uint32_t first = at;
        for (uint32_t child = 2 * at + 1; child <= 2 * at + 2 && child < merge->live; child++) {
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

static bool passed_over(const struct dp_merge *merge, uint64_t time_ns)
{
    return time_ns < merge->from_ns || time_ns >= merge->to_ns;
}

/* Passes over the frames at the head of a queue that are not to be judged; all taken from it before are. */
static void pass_over(struct dp_merge *merge, struct dp_capture *capture)
{
    for (; !queue_empty(capture) && passed_over(merge, head_time(capture)); capture->head++)
        merge->passed[capture->index]++;
}

/*
 * Refills a capture whose queue is empty, until there is a frame to judge or the capture has ended; true if it has to
 * be fed first.
 */
static bool starves(struct dp_merge *merge, struct dp_capture *capture)
{
    bool came;

    do {
        dp_capture_fill(capture);
        came = !queue_empty(capture);
        pass_over(merge, capture);
    } while (came && queue_empty(capture));
    if (capture->starved)
        merge->starved = capture->index;
    return capture->starved;
}

/* Finds the first frame of each capture. */
static enum dp_next begin(struct dp_merge *merge)
{
    for (; merge->begun < merge->n; merge->begun++) {
        struct dp_capture *capture = merge->captures[merge->begun];
        pass_over(merge, capture);
        if (queue_empty(capture) && starves(merge, capture))
            return DP_NEXT_STARVED;
        if (queue_empty(capture))
            continue;
        merge->heap[merge->live++] = (struct head){head_time(capture), capture->index};
        if (merge->n > OPEN_AT_ONCE && dp_capture_rewind(capture))
            merge->passed[capture->index] = 0;
    }
    for (uint32_t i = merge->live / 2; i > 0; i--)
        sift_down(merge, i - 1);
    return DP_NEXT_FRAME;
}

enum dp_next dp_merge_next(struct dp_merge *merge)
{
    merge->starved = -1;
    if (merge->begun < merge->n && begin(merge) == DP_NEXT_STARVED)
        return DP_NEXT_STARVED;
    while (merge->live) {
        struct dp_capture *first = merge->captures[merge->heap[0].capture];
        uint32_t head = first->head;
        pass_over(merge, first);
        if (!queue_empty(first) && head == first->head)
            return DP_NEXT_FRAME;
        if (queue_empty(first) && starves(merge, first))
            return DP_NEXT_STARVED;
        if (queue_empty(first))
            merge->heap[0] = merge->heap[--merge->live];
        else
            merge->heap[0].time_ns = head_time(first);
        sift_down(merge, 0);
    }
    return DP_NEXT_END;
}

uint64_t dp_merge_time(const struct dp_merge *merge)
{
    return later(merge->latest_ns, head_time(merge->captures[merge->heap[0].capture]));
}

uint64_t dp_merge_latest(const struct dp_merge *merge)
{
    return merge->latest_ns;
}

void dp_merge_between(struct dp_merge *merge, uint64_t from_ns, uint64_t to_ns)
{
    merge->from_ns = from_ns;
    merge->to_ns = to_ns;
    /* The first frame of each capture is looked for again. */
    merge->live = 0;
    merge->begun = 0;
}

int64_t dp_merge_starved(const struct dp_merge *merge)
{
    return merge->starved;
}

void dp_merge_stop(struct dp_merge *merge)
{
    merge->live = 0;
    merge->begun = merge->n;
}

/* The longest run of the one capture that is left. */
static struct dp_run take_queue(struct dp_merge *merge, struct dp_capture *capture, uint64_t until_ns, uint32_t n)
{
    struct dp_run run = {.frames = &capture->queue[capture->head]};
    uint32_t queued = capture->tail - capture->head;
    uint64_t latest = merge->latest_ns;
    for (n = n < queued ? n : queued; run.n < n; run.n++) {
        uint64_t time = later(latest, run.frames[run.n].time_ns);
        if (passed_over(merge, run.frames[run.n].time_ns))
            break;
        if (time >= until_ns) {
            run.last = true;
            break;
        }
        latest = time;
    }
    merge->latest_ns = latest;
    capture->head += run.n;
    return run;
}

/* Merges frames into the batch until it is full, or a queue is empty. */
static struct dp_run take_merged(struct dp_merge *merge, uint64_t until_ns, uint32_t n)
{
    struct dp_run run = {.frames = merge->batch};
    for (n = n < merge->at_once ? n : merge->at_once; run.n < n;) {
        struct dp_capture *capture = merge->captures[merge->heap[0].capture];
        if (queue_empty(capture))
            break;
        uint64_t time = later(merge->latest_ns, head_time(capture));
        if (time >= until_ns) {
            run.last = true;
            break;
        }
        merge->latest_ns = time;
        merge->batch[run.n++] = capture->queue[capture->head++];
        if (queue_empty(capture) || passed_over(merge, head_time(capture)))
            break;
        merge->heap[0].time_ns = head_time(capture);
        sift_down(merge, 0);
    }
    return run;
}

struct dp_run dp_merge_take(struct dp_merge *merge, uint64_t until_ns, uint32_t n)
{
    return merge->live == 1 ? take_queue(merge, merge->captures[merge->heap[0].capture], until_ns, n)
                            : take_merged(merge, until_ns, n);
}

uint64_t dp_merge_hold(struct dp_merge *merge, const struct dp_run *run)
{
    return merge->held.handed += run->n;
}

void dp_merge_read_by(struct dp_merge *merge, uint32_t thread)
{
    merge->held.thread = thread;
}

void dp_merge_give_back(struct dp_merge *merge, uint64_t token)
{
    merge->held.back = token;
}

/* ---- where frames were seen ---- */

struct dp_capture_interface *dp_merge_interface_of(const struct dp_merge *merge, const struct dp_frame *frame)
{
    return frame->interface ? &merge->captures[frame->capture]->interface[frame->interface - 1] : NULL;
}

int dp_merge_number(struct dp_merge *merge, const struct dp_frame *frame, uint32_t *number)
{
    struct dp_capture_interface *interface = dp_merge_interface_of(merge, frame);
    uint32_t n = merge->n_where;

    *number = interface ? interface->number : 0;
    if (!interface || interface->number)
        return 0;
    if ((n & (n - 1)) == 0) {
        struct where *grown = realloc(merge->where, (n ? 2 * (size_t)n : 1) * sizeof *grown);
        if (!grown)
            return DP_E_MEMORY;
        merge->where = grown;
    }
    merge->where[n] = (struct where){frame->capture, frame->interface};
    *number = interface->number = ++merge->n_where;
    return 0;
}

uint32_t dp_merge_interfaces(const struct dp_merge *merge)
{
    return merge->n_where;
}

struct dp_interface dp_merge_interface(const struct dp_merge *merge, uint32_t number)
{
    const struct dp_capture_interface *interface;

    if (number == 0 || number > merge->n_where)
        return (struct dp_interface){.name = NULL};
    interface = &merge->captures[merge->where[number - 1].capture]->interface[merge->where[number - 1].interface - 1];
    return (struct dp_interface){.name = interface->name,
                                 .body = interface->body,
                                 .size = interface->size,
                                 .number = interface->place,
                                 .swapped = interface->swapped};
}

int dp_merge_seen(struct dp_merge *merge, const struct dp_run *run, struct dp_seen *seen)
{
    int error = 0;

    for (uint32_t i = 0; i < run->n && !error; i++) {
        const struct dp_frame *frame = &run->frames[i];

        seen[i] = (struct dp_seen){.number = ++merge->passed[frame->capture], .capture = frame->capture};
        error = dp_merge_number(merge, frame, &seen[i].interface);
        if (merge->keeps && !error)
            error = dp_kept_frame_add(&merge->kept, frame, dp_merge_interface_of(merge, frame), seen[i].interface,
                                      merge->captures[frame->capture]->status.link_type);
    }
    return error;
}

void dp_merge_keep(struct dp_merge *merge)
{
    merge->keeps = true;
    for (uint32_t i = 0; i < merge->n; i++)
        merge->captures[i]->keeps = true;
}

const uint8_t *dp_merge_kept_frames(struct dp_merge *merge, uint32_t n, uint64_t *size)
{
    return dp_kept_frames_take(&merge->kept, n, size);
}

const uint8_t *dp_merge_kept_blocks(struct dp_merge *merge, uint32_t capture, uint64_t *size)
{
    *size = capture < merge->n ? dp_byte_queue_size(&merge->captures[capture]->kept) : 0;
    return *size ? dp_byte_queue_take(&merge->captures[capture]->kept, *size) : NULL;
}

void dp_merge_read_at_once(struct dp_merge *merge, uint32_t frames)
{
    merge->at_once = frames;
    for (uint32_t i = 0; i < merge->n; i++)
        merge->captures[i]->room = frames;
}
