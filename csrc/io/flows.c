/*
 * flows.c: the flows of live traffic on their way from the workers' logs (flow_log_live.h) to the control side: a ring
 * for each worker, which is told what has ended and never waits; a record that finds it full is lost and counted.
 */
#include "../table_walk.h"
#include "feed.h"
#include "firewall.h"

/* 120,000 records, touched as they are used. */
enum { FLOW_RING_BYTES = 16 * 1024 * 1024 };

struct item {
    uint32_t size;
    uint32_t unused;
    struct dp_flow_record record;
};

static void put(void *owner, const struct dp_flow_record *record)
{
    struct dp_worker *w = owner;
    struct item item = {.record = *record};

    if (dp_ring_put(&w->flows, &item, sizeof item, NULL, 0))
        w->engine->counters.flow_records++;
    else
        w->engine->counters.flow_records_lost[DP_FLOW_LOST_QUEUE_FULL]++;
}

int dp_firewall_gather_flows(struct dp_firewall *f, uint64_t interval_ns)
{
    for (uint32_t i = 0; i < f->workers; i++)
        if (f->worker[i].running || f->worker[i].engine->flow_log)
            return DP_E_ARGUMENT;
    for (uint32_t i = 0; i < f->workers; i++) {
        struct dp_worker *w = &f->worker[i];
        struct dp_flow_sink sink = {.put = put, .owner = w, .interval_ns = interval_ns};

        if (dp_ring_init(&w->flows, FLOW_RING_BYTES) < 0 || dp_flow_log_begin(w->engine, &sink) < 0)
            return DP_E_MEMORY;
        dp_conntrack_observe(&w->engine->conntrack, dp_feed_connection, w);
    }
    return 0;
}

/* By a clock that shows a time before 1970, what came before that came then. */
static uint64_t wall_ns(uint64_t time_ns, int64_t offset_ns)
{
    uint64_t before = offset_ns < 0 ? 0 - (uint64_t)offset_ns : 0;

    return time_ns < before ? 0 : time_ns + (uint64_t)offset_ns;
}

static void set_times(struct dp_flow_record *record, int64_t offset_ns)
{
    record->first_ns = wall_ns(record->first_ns, offset_ns);
    record->last_ns = wall_ns(record->last_ns, offset_ns);
}

int dp_firewall_take_flows(struct dp_firewall *f, int64_t offset_ns, struct dp_flow_record *out, uint32_t n)
{
    uint32_t have = 0;

    for (uint32_t i = 0; i < f->workers; i++) {
        struct dp_ring *flows = &f->worker[f->next_flows].flows;
        struct item item;

        while (have < n && dp_ring_next(flows)) {
            dp_ring_take(flows, &item, sizeof item);
            out[have] = item.record;
            set_times(&out[have++], offset_ns);
        }
        /* What is left of one that never ends is taken when the others have had their turn. */
        f->next_flows = (f->next_flows + 1) % f->workers;
    }
    return (int)have;
}

struct list_command {
    uint64_t cursor;
    struct dp_flow_record *out;
    uint32_t n;
    uint32_t have;
};

static void list_some(struct dp_worker *w, void *argument)
{
    struct list_command *c = argument;

    c->have = dp_flow_log_some(w->engine->flow_log, &c->cursor, DP_TOLD, c->out, c->n);
}

/* The cursor is the worker's number in the high bits, and that log's own behind it. */
int dp_firewall_flows(struct dp_firewall *f, uint64_t *cursor, int64_t offset_ns, struct dp_flow_record *out,
                      uint32_t n)
{
    const uint64_t low = (UINT64_C(1) << 40) - 1;
    uint32_t have = 0;

    while (have < n && *cursor >> 40 < f->workers) {
        struct dp_worker *w = &f->worker[*cursor >> 40];
        struct list_command c = {.cursor = *cursor & low, .out = out + have, .n = n - have};

        if (!w->engine->flow_log)
            return DP_E_ARGUMENT;
        dp_worker_call(w, list_some, &c);
        for (uint32_t i = 0; i < c.have; i++)
            set_times(&out[have + i], offset_ns);
        have += c.have;
        *cursor = c.cursor == DP_CURSOR_END ? ((*cursor >> 40) + 1) << 40 : (*cursor & ~low) | c.cursor;
    }
    return (int)have;
}
