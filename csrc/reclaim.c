/* reclaim.c: reclaim.h in code. */
#include "reclaim.h"

#include "flow_log_live.h"
#include "table_walk.h"

void dp_retired_forget(struct dp_engine *e, const struct dp_retired *retired)
{
    dp_fragments_forget(e->fragments, retired);
    dp_denied_forget(e->denied, retired);
    if (e->denied_waiting)
        dp_denied_forget(e->denied_waiting, retired);
    dp_owners_forget(e->owners, retired);
    if (e->flow_log)
        dp_flow_log_forget(e->flow_log, retired);
}

void dp_retired_keep_some(const struct dp_engine *e, struct dp_retired *retired, uint64_t *cursor, uint64_t visits)
{
    const struct dp_flow_table *table = &e->conntrack.table;

    /* The dead too: the observer is told of them when they are taken out. */
    for (; *cursor < table->high && visits; visits--) {
        const struct dp_entry *entry = &table->entries[++*cursor];
        uint32_t logged;

        if (entry->state == DP_CONN_INVALID)
            continue;
        if (entry->rule < retired->n_rules)
            retired->rules[entry->rule] = 0;
        /* One that was kept under other rules is told under the one that admitted it. */
        logged = e->flow_log ? dp_flow_log_rule(e->flow_log, (uint32_t)*cursor) : 0;
        if (logged < retired->n_rules)
            retired->rules[logged] = 0;
    }
    if (*cursor >= table->high)
        *cursor = DP_CURSOR_END;
}

void dp_retired_clear(struct dp_engine *e, const struct dp_retired *retired)
{
    for (uint32_t rule = 0; rule < retired->n_rules && rule < e->n_rule_counters; rule++)
        if (retired->rules[rule])
            e->rule_counters[rule] = (struct dp_rule_counter){0};
}
