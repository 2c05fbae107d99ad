/*
 * plane_walk.c: what is asked of all shards of a plane: numbers that come back, connections, counters.
 *
 * A CURSOR over all shards is the shard's number in the high bits and that engine's own cursor in the low 40.
 */
#include "plane_update.h"
#include "reclaim.h"
#include "shard.h"
#include "table_walk.h"

#include <stdlib.h>

enum { CURSOR_BITS = 40 };

/* ---- numbers that come back ---- */

struct retire_work {
    struct dp_retired *retired;
    uint64_t cursor;
};

static void forget(struct dp_engine *shard, void *argument)
{
    dp_retired_forget(shard, ((const struct retire_work *)argument)->retired);
}

static void keep_some(struct dp_engine *shard, void *argument)
{
    struct retire_work *c = argument;

    dp_retired_keep_some(shard, c->retired, &c->cursor, DP_VISITS);
}

static void clear(struct dp_engine *shard, void *argument)
{
    dp_retired_clear(shard, ((const struct retire_work *)argument)->retired);
}

void dp_plane_retire(struct dp_plane *p, struct dp_retired *retired)
{
    struct retire_work c = {.retired = retired};

    dp_plane_run_all(p, forget, &c);
    for (uint32_t i = 0; i < p->shards; i++)
        for (c.cursor = 0; c.cursor != DP_CURSOR_END;)
            dp_plane_run(p, i, keep_some, &c);
    dp_plane_run_all(p, clear, &c);
}

/* ---- connections ---- */

struct walk_work {
    const struct dp_plane *plane;
    const struct dp_connection_filter *filter;
    struct dp_connection *connections;
    struct dp_saved_connection *saved;
    struct dp_reconsidered *reconsidered;
    uint32_t n;
    uint32_t have;
    uint64_t *by_state;
    uint64_t count;
    uint64_t cursor; /* of one shard */
    struct dp_trial trial;
};

static void list_some(struct dp_engine *shard, void *argument)
{
    struct walk_work *c = argument;

    c->have += dp_connections_some(shard, c->filter, &c->cursor, DP_VISITS, c->connections + c->have, c->n - c->have);
}

static void save_some(struct dp_engine *shard, void *argument)
{
    struct walk_work *c = argument;

    /* Ages are as of now, where no packet came for a while too. */
    dp_plane_advance_shard(c->plane, shard);
    c->have += dp_connections_save_some(shard, c->filter, &c->cursor, DP_VISITS, c->saved + c->have, c->n - c->have);
}

static void count_some(struct dp_engine *shard, void *argument)
{
    struct walk_work *c = argument;

    c->count += dp_connections_count_some(shard, c->filter, &c->cursor, DP_VISITS, c->by_state);
}

static void flush_some(struct dp_engine *shard, void *argument)
{
    struct walk_work *c = argument;

    c->count += dp_connections_flush_some(shard, c->filter, &c->cursor, DP_VISITS, DP_REMOVALS);
}

/* Walks on from *cursor until n are there or all shards have been asked. */
static int walk_on(struct dp_plane *p, dp_shard_work *work, struct walk_work *c, uint64_t *cursor)
{
    const uint64_t low = (UINT64_C(1) << CURSOR_BITS) - 1;

    while (c->have < c->n && *cursor >> CURSOR_BITS < p->shards) {
        c->cursor = *cursor & low;
        dp_plane_run(p, (uint32_t)(*cursor >> CURSOR_BITS), work, c);
        *cursor =
            c->cursor == DP_CURSOR_END ? ((*cursor >> CURSOR_BITS) + 1) << CURSOR_BITS : (*cursor & ~low) | c->cursor;
    }
    return (int)c->have;
}

static uint64_t walk_all(struct dp_plane *p, dp_shard_work *work, struct walk_work *c)
{
    for (uint32_t i = 0; i < p->shards; i++)
        for (c->cursor = 0; c->cursor != DP_CURSOR_END;)
            dp_plane_run(p, i, work, c);
    return c->count;
}

int dp_plane_connections(struct dp_plane *p, const struct dp_connection_filter *filter, uint64_t *cursor,
                         struct dp_connection *connections, uint32_t n)
{
    struct walk_work c = {.filter = filter, .connections = connections, .n = n};

    return walk_on(p, list_some, &c, cursor);
}

uint64_t dp_plane_count(struct dp_plane *p, const struct dp_connection_filter *filter, uint64_t *by_state)
{
    struct walk_work c = {.filter = filter, .by_state = by_state};

    if (by_state)
        memset(by_state, 0, DP_CONN_STATES * sizeof *by_state);
    return walk_all(p, count_some, &c);
}

uint64_t dp_plane_flush(struct dp_plane *p, const struct dp_connection_filter *filter)
{
    struct walk_work c = {.filter = filter};

    return walk_all(p, flush_some, &c);
}

int dp_plane_save(struct dp_plane *p, const struct dp_connection_filter *filter, uint64_t *cursor,
                  struct dp_saved_connection *saved, uint32_t n)
{
    struct walk_work c = {.plane = p, .filter = filter, .saved = saved, .n = n};

    return walk_on(p, save_some, &c, cursor);
}

static void reconsider_some(struct dp_engine *shard, void *argument)
{
    struct walk_work *c = argument;

    c->have += dp_connections_reconsider_some(shard, c->trial.policy, c->trial.zones, &c->cursor, DP_VISITS,
                                              c->reconsidered + c->have, c->n - c->have);
}

int dp_plane_reconsider(struct dp_plane *p, const struct dp_policy_update *update, uint64_t *cursor,
                        struct dp_reconsidered *out, uint32_t n)
{
    struct walk_work c = {.n = n, .reconsidered = out};
    int error = dp_trial_begin(update, &c.trial);

    if (error < 0)
        return error;
    walk_on(p, reconsider_some, &c, cursor);
    dp_trial_end(&c.trial);
    return (int)c.have;
}

struct restore_work {
    const struct dp_plane *plane;
    const struct dp_saved_connection *saved;
    uint32_t n;
    uint32_t at;
    uint32_t shard;
    int how;
    uint64_t passed_ns;
    uint64_t outcomes[DP_RESTORED_OUTCOMES];
    int forgotten;
};

static bool belongs_to(const struct restore_work *c, const struct dp_saved_connection *saved)
{
    union dp_address ends[2];

    memcpy(&ends[0], saved->local, 16);
    memcpy(&ends[1], saved->remote, 16);
    return dp_shard_of(c->plane->shards, saved->family, &ends[0], &ends[1]) == c->shard;
}

/* Those of one shard. */
static void restore_some(struct dp_engine *shard, void *argument)
{
    struct restore_work *c = argument;

    dp_plane_advance_shard(c->plane, shard);
    for (uint32_t i = 0; i < DP_REMOVALS && c->at < c->n; i++, c->at++)
        if (belongs_to(c, &c->saved[c->at]))
            c->outcomes[dp_connections_restore(shard, &c->saved[c->at], c->passed_ns, c->how)]++;
}

static void forget_some(struct dp_engine *shard, void *argument)
{
    struct restore_work *c = argument;

    dp_plane_advance_shard(c->plane, shard);
    for (uint32_t i = 0; i < DP_VISITS && c->at < c->n; i++, c->at++)
        if (belongs_to(c, &c->saved[c->at]))
            c->forgotten += dp_connections_forget(shard, &c->saved[c->at]);
}

/* A shard of which there are none is not asked. */
static void on_each_shard(struct dp_plane *p, dp_shard_work *work, struct restore_work *c)
{
    for (; c->shard < p->shards; c->shard++)
        for (c->at = 0; c->at < c->n;)
            if (belongs_to(c, &c->saved[c->at]))
                dp_plane_run(p, c->shard, work, c);
            else
                c->at++;
}

int dp_plane_restore(struct dp_plane *p, const struct dp_saved_connection *saved, uint32_t n, uint64_t passed_ns,
                     int how, uint64_t *outcomes)
{
    struct restore_work c = {.plane = p, .saved = saved, .n = n, .how = how, .passed_ns = passed_ns};

    dp_plane_balance(p);
    on_each_shard(p, restore_some, &c);
    for (int i = 0; outcomes && i < DP_RESTORED_OUTCOMES; i++)
        outcomes[i] += c.outcomes[i];
    return (int)(c.outcomes[DP_RESTORED_TAKEN] + c.outcomes[DP_RESTORED_CUT] + c.outcomes[DP_RESTORED_UPDATED]);
}

int dp_plane_forget(struct dp_plane *p, const struct dp_saved_connection *saved, uint32_t n)
{
    struct restore_work c = {.plane = p, .saved = saved, .n = n};

    on_each_shard(p, forget_some, &c);
    return c.forgotten;
}

/* ---- counters ---- */

static void add_counters(struct dp_engine *shard, void *argument)
{
    struct dp_counters one;

    dp_engine_counters(shard, &one);
    for (size_t i = 0; i < sizeof one / sizeof(uint64_t); i++)
        ((uint64_t *)argument)[i] += ((const uint64_t *)&one)[i];
}
_Static_assert(sizeof(struct dp_counters) % sizeof(uint64_t) == 0, "counters are summed as words");

void dp_plane_counters(struct dp_plane *p, struct dp_counters *counters)
{
    memset(counters, 0, sizeof *counters);
    dp_plane_run_all(p, add_counters, counters);
}

struct list_work {
    struct dp_rule_counter *rules;
    struct dp_denied *denied;
    uint32_t n;
    uint32_t have;
};

static void add_rule_counters(struct dp_engine *shard, void *argument)
{
    struct list_work *c = argument;

    dp_engine_add_rule_counters(shard, c->rules + c->have, c->have, c->have + c->n);
}

void dp_plane_rule_counters(struct dp_plane *p, struct dp_rule_counter *counters, uint32_t n)
{
    struct list_work c = {.rules = counters};

    memset(counters, 0, n * sizeof *counters);
    for (c.have = 0; c.have < n; c.have += c.n) {
        c.n = n - c.have < DP_RULES ? n - c.have : DP_RULES;
        dp_plane_run_all(p, add_rule_counters, &c);
    }
}

static void copy_largest(struct dp_engine *shard, void *argument)
{
    struct list_work *c = argument;

    c->have = (uint32_t)dp_denied_largest(shard->denied, c->denied, c->n);
}

static void copy_denied(struct dp_engine *shard, void *argument)
{
    struct list_work *c = argument;

    c->have += dp_denied_all(shard->denied, c->denied + c->have);
    if (shard->denied_waiting)
        c->have += dp_denied_all(shard->denied_waiting, c->denied + c->have);
}

/* What several shards counted of one flow, as of an error from a router about connections of several, is one. */
static uint32_t merged(struct dp_denied *denied, uint32_t n)
{
    uint32_t kept = 0;

    qsort(denied, n, sizeof *denied, dp_denied_order_by_flow);
    for (uint32_t i = 0; i < n; i++)
        if (kept && dp_denied_order_by_flow(&denied[kept - 1], &denied[i]) == 0) {
            denied[kept - 1].count.packets += denied[i].count.packets;
            denied[kept - 1].count.bytes += denied[i].count.bytes;
            denied[kept - 1].consequences.packets += denied[i].consequences.packets;
            denied[kept - 1].consequences.bytes += denied[i].consequences.bytes;
            denied[kept - 1].overcount += denied[i].overcount;
        } else {
            denied[kept++] = denied[i];
        }
    return kept;
}

int dp_plane_denied(struct dp_plane *p, struct dp_denied *denied, uint32_t n)
{
    struct list_work c = {.denied = denied, .n = n};

    if (p->shards == 1) {
        dp_plane_run(p, 0, copy_largest, &c);
        return (int)c.have;
    }
    c.denied = malloc((size_t)2 * DP_DENIED_KEPT * p->shards * sizeof *denied);
    if (!c.denied)
        return DP_E_MEMORY;
    dp_plane_run_all(p, copy_denied, &c);
    c.have = merged(c.denied, c.have);
    qsort(c.denied, c.have, sizeof *c.denied, dp_denied_order);
    if (c.have > n)
        c.have = n;
    memcpy(denied, c.denied, c.have * sizeof *denied);
    free(c.denied);
    return (int)c.have;
}

void dp_plane_count_denied(struct dp_plane *p, const struct dp_record *records, const struct dp_flow *flows, uint32_t n)
{
    struct dp_engine *engine = p->shard[0];

    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; records[i].verdict == DP_DENY && k < records[i].checks; k++) {
            const struct dp_check *check = &records[i].check[k];

            if (check->verdict == DP_DENY && check->cause < DP_CAUSES)
                engine->counters.consequences[check->cause] +=
                    dp_denied_count_flow(engine->denied, &flows[i], check, records[i].length);
        }
}

uint64_t dp_plane_most_entries(struct dp_plane *p)
{
    uint64_t most = 0;

    for (uint32_t i = 0; i < p->shards; i++)
        most += p->shard[i]->conntrack.table.high;
    return most;
}
