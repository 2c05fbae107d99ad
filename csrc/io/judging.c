/* judging.c: judging.h in code. */
#include "judging.h"

#include "replay_at_port.h"

#include <stdlib.h>

struct dp_judging {
    struct dp_plane *plane;
    struct dp_merge *merge;
    struct dp_reorder *queue;
    uint32_t which;
    uint64_t waited;          /* frames whose answer came later */
    uint64_t before;          /* frames that the plane had judged before the replay's first */
    struct dp_at_port *ports; /* NULL until there are any */
    struct dp_judges *judges; /* of a plane of several shards */
};

/* Frames that are being judged, and the number of the first. */
struct judged {
    const struct dp_frame *frames;
    uint64_t number;
    struct dp_record *records;
    struct dp_flow *flows;
};

struct dp_judging *dp_judging_new(struct dp_plane *plane, struct dp_merge *merge, struct dp_reorder *queue,
                                  uint32_t which)
{
    struct dp_judging *made = calloc(1, sizeof *made);

    if (made)
        *made = (struct dp_judging){.plane = plane, .merge = merge, .queue = queue, .which = which};
    return made;
}

void dp_judging_free(struct dp_judging *judging)
{
    if (!judging)
        return;
    dp_at_port_free(judging->ports);
    dp_judges_free(judging->judges);
    free(judging);
}

int dp_judging_set_ports(struct dp_judging *judging, const struct dp_named_port *ports, uint32_t n, int32_t at)
{
    if (!judging->ports)
        judging->ports = dp_at_port_new();
    return judging->ports ? dp_at_port_set(judging->ports, ports, n, at) : DP_E_MEMORY;
}

int dp_judging_begin(struct dp_judging *judging)
{
    judging->before = dp_plane_frames(judging->plane);
    return judging->plane->shards > 1 ? dp_judges_new(judging->plane, &judging->judges) : 0;
}

bool dp_judging_on_threads(const struct dp_judging *judging)
{
    return judging->judges != NULL;
}

/* Takes the plane's resolutions: for the first `n` of the records, or for those that are in the queue. */
static void resolve(struct dp_judging *judging, const struct judged *judged, uint32_t n)
{
    struct dp_resolution resolution;
    struct dp_engine *by;

    while (dp_plane_resolved(judging->plane, &resolution, &by)) {
        uint64_t number = resolution.number - judging->before;

        judging->waited++;
        if (judging->ports)
            dp_at_port_resolved(judging->ports, by, &resolution);
        if (!dp_reorder_resolve(judging->queue, judging->which, number, &resolution.record) &&
            number - judged->number < n)
            judged->records[number - judged->number] = resolution.record;
    }
}

/* Judges the frames from `first` up to `end` by their addresses, on one shard or on all of them. */
static int judge_by_address(struct dp_judging *judging, const struct judged *judged, uint32_t first, uint32_t end)
{
    const struct dp_frame *frames = judged->frames + first;
    struct dp_record *records = judged->records + first;
    struct dp_flow *flows = judged->flows ? judged->flows + first : NULL;

    if (!judging->judges)
        return dp_engine_process(judging->plane->shard[0], frames, end - first, records, flows);
    dp_judges_process(judging->judges, frames, end - first, records, flows);
    return 0;
}

static void judge_at_port(struct dp_judging *judging, const struct judged *judged, uint32_t at, uint32_t interface)
{
    const struct dp_frame *frame = &judged->frames[at];
    struct dp_engine *engine = judging->judges ? dp_judges_alone(judging->judges, frame) : judging->plane->shard[0];

    dp_at_port_judge(judging->ports, engine, frame, interface, &judged->records[at],
                     judged->flows ? &judged->flows[at] : NULL);
    if (judging->judges)
        dp_judges_follow(judging->judges, engine);
}

/* What is not by port is judged together, before the next that is. */
static int judge_by_port(struct dp_judging *judging, const struct judged *judged, uint32_t n)
{
    uint32_t by_address = 0;

    for (uint32_t done = 0; done < n; done++) {
        const struct dp_frame *frame = &judged->frames[done];
        uint32_t interface;
        int error = dp_merge_number(judging->merge, frame, &interface), concerned = 0;

        if (!error)
            error = concerned =
                dp_at_port_concerns(judging->ports, frame, dp_merge_interface_of(judging->merge, frame), interface);
        if (error < 0)
            return error;
        if (!concerned)
            continue;
        error = judge_by_address(judging, judged, by_address, done);
        if (error < 0)
            return error;
        judge_at_port(judging, judged, done, interface);
        by_address = done + 1;
        if (dp_plane_waiting(judging->plane))
            resolve(judging, judged, done + 1);
    }
    return judge_by_address(judging, judged, by_address, n);
}

int dp_judging_run(struct dp_judging *judging, const struct dp_frame *frames, uint32_t n, uint64_t number,
                   struct dp_record *records, struct dp_flow *flows)
{
    const struct judged judged = {frames, number, records, flows};
    int error = judging->ports ? judge_by_port(judging, &judged, n) : judge_by_address(judging, &judged, 0, n);

    if (!error && dp_plane_waiting(judging->plane))
        resolve(judging, &judged, n);
    return error;
}

bool dp_judging_streams(const struct dp_judging *judging)
{
    return judging->judges && !judging->ports;
}

uint32_t dp_judging_stream(struct dp_judging *judging, const struct dp_bringer *bringer, uint64_t number,
                           struct dp_record *records, struct dp_flow *flows)
{
    const struct judged judged = {NULL, number, records, flows};
    uint32_t n = dp_judges_stream(judging->judges, bringer, records, flows);

    if (dp_plane_waiting(judging->plane))
        resolve(judging, &judged, n);
    return n;
}

bool dp_judging_waits(const struct dp_judging *judging)
{
    return dp_plane_waiting(judging->plane) > 0;
}

bool dp_judging_stream_waits(const struct dp_judging *judging)
{
    return dp_judges_wait(judging->judges);
}

void dp_judging_give_up(struct dp_judging *judging, uint64_t number)
{
    const struct judged nothing = {.frames = NULL};

    dp_plane_give_up(judging->plane, number == UINT64_MAX ? number : judging->before + number);
    resolve(judging, &nothing, 0);
}

uint64_t dp_judging_waited(const struct dp_judging *judging)
{
    return judging->waited;
}

void dp_judging_count_openers(const struct dp_judging *judging, struct dp_record *records, uint32_t n)
{
    bool noted = judging->plane->shard[0]->conntrack.openers != NULL;

    for (uint32_t i = 0; noted && judging->before && i < n; i++)
        for (uint32_t k = 0; k < records[i].checks; k++) {
            uint64_t *by = &records[i].check[k].opened_by;

            *by = *by > judging->before ? *by - judging->before : 0;
        }
}
