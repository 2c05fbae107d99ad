/*
 * plane.c: plane.h in code: life, updates, walks over connections, counters.
 *
 * A CURSOR over all shards is the shard's number in the high bits and that engine's own cursor in the low 40.
 */
#include "plane.h"

#include "reclaim.h"
#include "shard.h"
#include "table_walk.h"

#include <stdlib.h>

enum { CURSOR_BITS = 40 };

/* ---- life ---- */

/* Each shard has as much of the table as the next. */
static uint32_t equal_part(const struct dp_plane *p, uint32_t number)
{
    return p->max_entries / p->shards + (number < p->max_entries % p->shards);
}

int dp_plane_new(const struct dp_conntrack_config *config, const uint64_t *seed, uint32_t shards,
                 struct dp_plane **plane)
{
    struct dp_plane *p;
    int error = 0;

    *plane = NULL;
    if (shards == 0 || shards > DP_SHARDS_MAX)
        return DP_E_ARGUMENT;
    p = calloc(1, sizeof *p);
    if (!p)
        return DP_E_MEMORY;
    p->shards = shards;
    p->max_entries = config->max_entries;
    for (uint32_t i = 0; i < shards && !error; i++) {
        error = dp_engine_new(config, seed, &p->shard[i]);
        if (!error)
            p->shard[i]->conntrack.limit = equal_part(p, i);
    }
    if (error)
        dp_plane_free(p);
    else
        *plane = p;
    return error;
}

void dp_plane_free(struct dp_plane *p)
{
    if (!p)
        return;
    for (uint32_t i = 0; i < p->shards; i++)
        dp_engine_free(p->shard[i]);
    free(p);
}

struct dp_engine *dp_plane_shard(struct dp_plane *p, uint32_t number)
{
    return number < p->shards ? p->shard[number] : NULL;
}

void dp_plane_drive(struct dp_plane *p, const struct dp_plane_driver *driver)
{
    p->driver = driver;
}

static void run(struct dp_plane *p, uint32_t number, dp_shard_work *work, void *argument)
{
    if (p->driver)
        p->driver->run(p->driver->owner, number, work, argument);
    else
        work(p->shard[number], argument);
}

void dp_plane_run_all(struct dp_plane *p, dp_shard_work *work, void *argument)
{
    for (uint32_t i = 0; i < p->shards; i++)
        run(p, i, work, argument);
}

/* Lets a shard's time pass to now, where there is a clock. */
static void advance(const struct dp_plane *p, struct dp_engine *shard)
{
    if (p->driver)
        dp_engine_advance(shard, p->driver->now());
}

/* ---- what frames came to ---- */

uint64_t dp_plane_frames(const struct dp_plane *p)
{
    return dp_engine_frames(p->shard[0]);
}

uint32_t dp_plane_waiting(const struct dp_plane *p)
{
    uint32_t waiting = 0;

    for (uint32_t i = 0; i < p->shards; i++)
        waiting += dp_engine_waiting(p->shard[i]);
    return waiting;
}

bool dp_plane_resolved(struct dp_plane *p, struct dp_resolution *resolution, struct dp_engine **by)
{
    for (uint32_t i = 0; i < p->shards; i++)
        if (dp_engine_resolved(p->shard[i], resolution, 1)) {
            *by = p->shard[i];
            return true;
        }
    return false;
}

void dp_plane_give_up(struct dp_plane *p, uint64_t number)
{
    for (uint32_t i = 0; i < p->shards; i++)
        dp_engine_give_up(p->shard[i], number);
}

int dp_plane_note_openers(struct dp_plane *p)
{
    int error = 0;

    for (uint32_t i = 0; i < p->shards && !error; i++)
        error = dp_engine_note_openers(p->shard[i]);
    return error;
}

void dp_plane_advance(struct dp_plane *p, uint64_t time_ns)
{
    for (uint32_t i = 0; i < p->shards; i++)
        dp_engine_advance(p->shard[i], time_ns);
}

/* ---- the bound of the table ---- */

struct balance_work {
    const struct dp_plane *plane;
    uint64_t room;   /* taken back, to be given */
    uint64_t wanted; /* by shards that have less than an equal part */
    uint32_t left;   /* shards to be given to */
};

/* Who judges meanwhile keeps half of what it has. */
static void give_back(struct dp_engine *shard, void *argument)
{
    struct balance_work *c = argument;
    struct dp_conntrack *ct = &shard->conntrack;
    uint32_t unused = ct->limit > ct->table.count ? ct->limit - ct->table.count : 0;
    uint32_t given = c->plane->driver ? unused - unused / 2 : unused;

    ct->limit -= given;
    c->room += given;
    if (ct->limit < c->plane->max_entries / c->plane->shards)
        c->wanted += ct->wanted;
    ct->wanted = 0;
}

/* Who has more than an equal part gives way to who has less and has found no room. */
static void give_way(struct dp_engine *shard, void *argument)
{
    struct balance_work *c = argument;
    uint32_t part = c->plane->max_entries / c->plane->shards, given;
    struct dp_conntrack *ct = &shard->conntrack;
    uint64_t missing = c->wanted > c->room ? c->wanted - c->room : 0;

    if (!missing || ct->limit <= part)
        return;
    given = dp_conntrack_give_way(ct, missing < ct->limit - part ? (uint32_t)missing : ct->limit - part);
    ct->limit -= given;
    c->room += given;
}

static void take_part(struct dp_engine *shard, void *argument)
{
    struct balance_work *c = argument;
    uint64_t part = (c->room + c->left - 1) / c->left;

    shard->conntrack.limit += (uint32_t)part;
    c->room -= part;
    c->left--;
}

void dp_plane_balance(struct dp_plane *p)
{
    struct balance_work c = {.plane = p, .left = p->shards};

    if (p->shards == 1)
        return;
    dp_plane_run_all(p, give_back, &c);
    dp_plane_run_all(p, give_way, &c);
    dp_plane_run_all(p, take_part, &c);
}

/* ---- updates ---- */

struct update_work {
    struct dp_plane *plane;
    struct dp_policy_update update;
    struct dp_policy *policy;
    struct dp_policy *old;
    uint32_t number; /* of the shard */
    uint32_t limit;  /* its, before */
    bool same_bound; /* of the table */
    uint64_t before; /* connections disconnected when it was swapped */
    uint64_t cursor;
    int error;
};

static void set_time(struct update_work *c)
{
    if (c->plane->driver)
        c->update.time_ns = c->plane->driver->now();
}

static void reserve(struct dp_engine *shard, void *argument)
{
    struct update_work *c = argument;

    set_time(c);
    if (!c->error)
        c->error = dp_engine_reserve(shard, &c->update, c->policy);
}

static void swap(struct dp_engine *shard, void *argument)
{
    struct update_work *c = argument;
    const struct dp_plane_driver *driver = c->plane->driver;

    set_time(c);
    c->limit = shard->conntrack.limit;
    c->old = dp_engine_swap(shard, &c->update, dp_policy_reference(c->policy));
    /* Another bound begins in equal parts. */
    shard->conntrack.limit = c->same_bound ? c->limit : equal_part(c->plane, c->number);
    if (driver && driver->swapped)
        driver->swapped(driver->owner, c->number, &c->update);
    c->before = shard->conntrack.disconnected;
}

static void settle(struct dp_engine *shard, void *argument)
{
    struct update_work *c = argument;

    dp_connections_settle_some(shard, &c->cursor, DP_VISITS);
    if (c->cursor == DP_CURSOR_END)
        c->update.revoked += shard->conntrack.disconnected - c->before;
}

static void put_in_force(struct update_work *c, uint64_t *disconnected)
{
    struct dp_plane *p = c->plane;
    struct dp_policy *old[DP_SHARDS_MAX];
    uint64_t before[DP_SHARDS_MAX];

    for (c->number = 0; c->number < p->shards; c->number++) {
        run(p, c->number, swap, c);
        old[c->number] = c->old;
        before[c->number] = c->before;
        for (uint32_t k = 0; k < c->update.n_cut && disconnected; k++)
            disconnected[k] += c->update.disconnected[k];
    }
    for (uint32_t i = 0; i < p->shards && (c->update.n_revocations || c->update.n_arrivals); i++) {
        c->before = before[i];
        for (c->cursor = 0; c->cursor != DP_CURSOR_END;)
            run(p, i, settle, c);
    }
    /* Whoever wanted a table has it by now; freeing large ones takes a while. */
    for (uint32_t i = 0; i < p->shards; i++)
        dp_policy_release(old[i]);
}

int dp_plane_update(struct dp_plane *p, struct dp_policy_update *update)
{
    struct update_work c = {.plane = p, .update = *update};

    if (update->n_ports && !(p->driver && p->driver->swapped))
        return DP_E_ARGUMENT;
    c.update.revoked = 0;
    c.update.disconnected = calloc((size_t)update->n_cut + 1, sizeof *c.update.disconnected);
    if (!c.update.disconnected)
        return DP_E_MEMORY;
    if (update->disconnected)
        memset(update->disconnected, 0, update->n_cut * sizeof *update->disconnected);
    c.error = dp_policy_new(&c.update, &c.policy);
    if (!c.error)
        dp_plane_run_all(p, reserve, &c);
    if (!c.error) {
        c.same_bound = p->max_entries == update->config->max_entries;
        p->max_entries = update->config->max_entries;
        put_in_force(&c, update->disconnected);
        dp_plane_balance(p);
    }
    dp_policy_release(c.policy);
    free(c.update.disconnected);
    update->revoked = c.update.revoked;
    return c.error;
}

/* An update that is only tried: the policy made of it, and what becomes of each zone's inbound connections. */
struct trial {
    struct dp_policy *policy;
    uint8_t *zones; /* enum dp_fate */
};

static void end_trial(struct trial *trial)
{
    dp_policy_release(trial->policy);
    free(trial->zones);
}

static int begin_trial(const struct dp_policy_update *update, struct trial *trial)
{
    int error = dp_policy_new(update, &trial->policy);

    trial->zones = NULL;
    if (error < 0)
        return error;
    trial->zones = malloc((size_t)trial->policy->n_zones + 1);
    if (!trial->zones) {
        end_trial(trial);
        return DP_E_MEMORY;
    }
    memset(trial->zones, DP_FATE_GONE, trial->policy->n_zones);
    for (uint32_t i = 0; i < update->n_zones; i++)
        trial->zones[update->zones[i].zone] = DP_FATE_STAYS;
    for (uint32_t i = 0; i < update->n_cut; i++)
        if (trial->zones[update->cut[i]] == DP_FATE_STAYS)
            trial->zones[update->cut[i]] = DP_FATE_DISCONNECTED;
    return 0;
}

struct rehearse_work {
    const struct dp_plane *plane;
    struct dp_policy_update *update;
    struct trial trial;
    uint64_t cursor;
};

static void count_attached(struct dp_engine *shard, void *argument)
{
    struct rehearse_work *c = argument;

    advance(c->plane, shard);
    for (uint32_t i = 0; i < c->update->n_cut; i++)
        c->update->disconnected[i] += dp_connections_attached(shard, c->update->cut[i]);
}

static void count_revocable(struct dp_engine *shard, void *argument)
{
    struct rehearse_work *c = argument;

    c->update->revoked += dp_connections_revocable_some(shard, c->trial.policy, c->trial.zones, &c->cursor, DP_VISITS);
}

int dp_plane_rehearse(struct dp_plane *p, struct dp_policy_update *update)
{
    struct rehearse_work c = {.plane = p, .update = update};
    bool some = update->n_revocations || update->n_arrivals;
    int error = some ? begin_trial(update, &c.trial) : 0;

    if (error < 0)
        return error;
    if (update->disconnected) {
        memset(update->disconnected, 0, update->n_cut * sizeof *update->disconnected);
        dp_plane_run_all(p, count_attached, &c);
    }
    update->revoked = 0;
    for (uint32_t i = 0; i < p->shards && some; i++)
        for (c.cursor = 0; c.cursor != DP_CURSOR_END;)
            run(p, i, count_revocable, &c);
    end_trial(&c.trial);
    return 0;
}

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
            run(p, i, keep_some, &c);
    dp_plane_run_all(p, clear, &c);
}

/* ---- connections ---- */

struct walk_work {
    const struct dp_connection_filter *filter;
    struct dp_connection *connections;
    struct dp_saved_connection *saved;
    struct dp_reconsidered *reconsidered;
    uint32_t n;
    uint32_t have;
    uint64_t *by_state;
    uint64_t count;
    uint64_t cursor; /* of one shard */
    struct trial trial;
};

static void list_some(struct dp_engine *shard, void *argument)
{
    struct walk_work *c = argument;

    c->have += dp_connections_some(shard, c->filter, &c->cursor, DP_VISITS, c->connections + c->have, c->n - c->have);
}

static void save_some(struct dp_engine *shard, void *argument)
{
    struct walk_work *c = argument;

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

    c->count += dp_connections_flush_some(shard, c->filter, &c->cursor, DP_VISITS);
}

/* Walks on from *cursor until n are there or all shards have been asked. */
static int walk_on(struct dp_plane *p, dp_shard_work *work, struct walk_work *c, uint64_t *cursor)
{
    const uint64_t low = (UINT64_C(1) << CURSOR_BITS) - 1;

    while (c->have < c->n && *cursor >> CURSOR_BITS < p->shards) {
        c->cursor = *cursor & low;
        run(p, (uint32_t)(*cursor >> CURSOR_BITS), work, c);
        *cursor =
            c->cursor == DP_CURSOR_END ? ((*cursor >> CURSOR_BITS) + 1) << CURSOR_BITS : (*cursor & ~low) | c->cursor;
    }
    return (int)c->have;
}

static uint64_t walk_all(struct dp_plane *p, dp_shard_work *work, struct walk_work *c)
{
    for (uint32_t i = 0; i < p->shards; i++)
        for (c->cursor = 0; c->cursor != DP_CURSOR_END;)
            run(p, i, work, c);
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
    struct walk_work c = {.filter = filter, .saved = saved, .n = n};

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
    int error = begin_trial(update, &c.trial);

    if (error < 0)
        return error;
    walk_on(p, reconsider_some, &c, cursor);
    end_trial(&c.trial);
    return (int)c.have;
}

struct restore_work {
    const struct dp_plane *plane;
    const struct dp_saved_connection *saved;
    uint64_t passed_ns;
    bool taken;
};

static void restore(struct dp_engine *shard, void *argument)
{
    struct restore_work *c = argument;

    advance(c->plane, shard);
    c->taken = dp_connections_restore(shard, c->saved, c->passed_ns, false);
}

int dp_plane_restore(struct dp_plane *p, const struct dp_saved_connection *saved, uint32_t n, uint64_t passed_ns)
{
    int taken = 0;

    dp_plane_balance(p);
    for (uint32_t i = 0; i < n; i++) {
        struct restore_work c = {p, &saved[i], passed_ns, false};
        union dp_address ends[2];

        memcpy(&ends[0], saved[i].local, 16);
        memcpy(&ends[1], saved[i].remote, 16);
        run(p, dp_shard_of(p->shards, saved[i].family, &ends[0], &ends[1]), restore, &c);
        taken += c.taken;
    }
    return taken;
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

    dp_engine_add_rule_counters(shard, c->rules, c->n);
}

void dp_plane_rule_counters(struct dp_plane *p, struct dp_rule_counter *counters, uint32_t n)
{
    struct list_work c = {.rules = counters, .n = n};

    memset(counters, 0, n * sizeof *counters);
    dp_plane_run_all(p, add_rule_counters, &c);
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
        run(p, 0, copy_largest, &c);
        return (int)c.have;
    }
    c.denied = malloc((size_t)DP_DENIED_KEPT * p->shards * sizeof *denied);
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
