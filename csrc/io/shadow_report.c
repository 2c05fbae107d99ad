/* shadow_report.c: what a shadow (shadow.h) has found, for the control side. */
#include "../table_walk.h"
#include "firewall.h"

struct report_command {
    struct dp_difference_count count;
    struct dp_counters counters;
    struct dp_flow_difference *flows;
    uint64_t n;
    uint64_t have;
    uint64_t cursor;
};

static void add_counts(struct dp_worker *w, void *argument)
{
    struct report_command *c = argument;
    struct dp_difference_count one;
    struct dp_counters counters;

    dp_difference_count(w->shadow.difference, &one);
    c->count.packets_same += one.packets_same;
    c->count.packets_changed += one.packets_changed;
    c->count.packets_not_kept += one.packets_not_kept;
    c->count.flows += one.flows;
    dp_engine_counters(w->shadow.engine, &counters);
    c->counters.entries += counters.entries;
    c->counters.max_entries += counters.max_entries;
    c->counters.table_bytes += counters.table_bytes;
    c->counters.table_full += counters.table_full;
}

static void add_flows(struct dp_worker *w, void *argument)
{
    struct report_command *c = argument;

    c->have += dp_difference_some(w->shadow.difference, &c->cursor, DP_VISITS, c->flows + c->have, c->n - c->have);
}

int dp_firewall_shadow(struct dp_firewall *f, struct dp_difference_count *count, struct dp_counters *counters)
{
    struct report_command c = {.n = 0};

    if (!f->shadow_plane)
        return DP_E_ARGUMENT;
    dp_call_all(f, add_counts, &c);
    *count = c.count;
    *counters = c.counters;
    return 0;
}

int64_t dp_firewall_shadow_flows(struct dp_firewall *f, struct dp_flow_difference *flows, uint64_t n)
{
    struct report_command c = {.flows = flows, .n = n};

    if (!f->shadow_plane)
        return DP_E_ARGUMENT;
    for (uint32_t i = 0; i < f->workers; i++)
        for (c.cursor = 0; c.cursor != DP_CURSOR_END;)
            dp_worker_call(&f->worker[i], add_flows, &c);
    dp_difference_order(flows, c.have);
    return (int64_t)c.have;
}
