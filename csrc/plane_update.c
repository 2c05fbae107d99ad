/* plane_update.c: updates of a plane (plane.h), and updates that are only tried. */
#include "plane_update.h"

#include "conntrack_changes.h"
#include "table_walk.h"

#include <stdlib.h>

struct update_work {
    struct dp_plane *plane;
    struct dp_policy_update update;
    struct dp_policy *policy;
    struct dp_policy *old;
    uint32_t number; /* of the shard */
    uint32_t limit;  /* its, before */
    bool same_bound; /* of the table */
    uint64_t before; /* connections disconnected when it was swapped, and since then as all of a zone */
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
    shard->conntrack.limit = c->same_bound ? c->limit : dp_plane_equal_part(c->plane, c->number);
    if (driver && driver->swapped)
        driver->swapped(driver->owner, c->number, &c->update);
    c->before = shard->conntrack.disconnected;
}

/* A few zones at a time meet the change; those that packets came to have. */
static void count_cuts(struct dp_engine *shard, void *argument)
{
    struct update_work *c = argument;
    struct dp_conntrack *ct = &shard->conntrack;
    uint64_t end = c->cursor + DP_CUTS < c->update.n_cut ? c->cursor + DP_CUTS : c->update.n_cut;

    for (; c->cursor < end; c->cursor++) {
        uint32_t cut = dp_conntrack_count_cut(ct, c->update.cut[c->cursor]);

        c->update.disconnected[c->cursor] += cut;
        c->before += cut;
    }
    if (end == c->update.n_cut)
        dp_conntrack_all_cut(ct);
}

static bool is_listed(const struct dp_policy *policy, uint64_t zone)
{
    return zone < policy->n_zones && policy->zones[zone] & DP_ZONE_LISTED;
}

/* No packet finds the connections of zones that went; some of them at a time are taken out. */
static void empty_zones(struct dp_engine *shard, void *argument)
{
    struct update_work *c = argument;
    uint32_t removals = DP_REMOVALS, visits = DP_VISITS;

    for (; c->cursor < c->old->n_zones && visits; c->cursor++, visits--)
        if (is_listed(c->old, c->cursor) && !is_listed(c->policy, c->cursor) &&
            !dp_conntrack_empty_some(&shard->conntrack, (uint32_t)c->cursor, &removals))
            return;
}

/* Whether the policy before has zones that this one has no more. */
static bool lacks_zones(const struct update_work *c)
{
    for (uint32_t z = 0; z < c->old->n_zones; z++)
        if (is_listed(c->old, z) && !is_listed(c->policy, z))
            return true;
    return false;
}

static void settle(struct dp_engine *shard, void *argument)
{
    struct update_work *c = argument;

    dp_connections_settle_some(shard, &c->cursor, DP_VISITS);
    if (c->cursor == DP_CURSOR_END)
        c->update.revoked += shard->conntrack.disconnected - c->before;
}

static void put_in_force(struct update_work *c)
{
    struct dp_plane *p = c->plane;
    struct dp_policy *old[DP_SHARDS_MAX];
    uint64_t before[DP_SHARDS_MAX];

    for (c->number = 0; c->number < p->shards; c->number++) {
        dp_plane_run(p, c->number, swap, c);
        old[c->number] = c->old;
        before[c->number] = c->before;
    }
    for (uint32_t i = 0; i < p->shards && c->update.n_cut; i++) {
        c->before = before[i];
        for (c->cursor = 0; c->cursor < c->update.n_cut;)
            dp_plane_run(p, i, count_cuts, c);
        before[i] = c->before;
    }
    for (uint32_t i = 0; i < p->shards; i++) {
        c->old = old[i];
        if (lacks_zones(c))
            for (c->cursor = 0; c->cursor < c->old->n_zones;)
                dp_plane_run(p, i, empty_zones, c);
    }
    for (uint32_t i = 0; i < p->shards && (c->update.n_revocations || c->update.n_arrivals); i++) {
        c->before = before[i];
        for (c->cursor = 0; c->cursor != DP_CURSOR_END;)
            dp_plane_run(p, i, settle, c);
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
    c.error = dp_policy_new(&c.update, &c.policy);
    if (!c.error)
        dp_plane_run_all(p, reserve, &c);
    if (!c.error) {
        c.same_bound = p->max_entries == update->config->max_entries;
        p->max_entries = update->config->max_entries;
        put_in_force(&c);
        if (update->disconnected)
            memcpy(update->disconnected, c.update.disconnected, update->n_cut * sizeof *update->disconnected);
        dp_plane_balance(p);
    }
    dp_policy_release(c.policy);
    free(c.update.disconnected);
    update->revoked = c.update.revoked;
    return c.error;
}

/* ---- updates that are only tried ---- */

void dp_trial_end(struct dp_trial *trial)
{
    dp_policy_release(trial->policy);
    free(trial->zones);
}

int dp_trial_begin(const struct dp_policy_update *update, struct dp_trial *trial)
{
    int error = dp_policy_new(update, &trial->policy);

    trial->zones = NULL;
    if (error < 0)
        return error;
    trial->zones = malloc((size_t)trial->policy->n_zones + 1);
    if (!trial->zones) {
        dp_trial_end(trial);
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
    struct dp_trial trial;
    uint64_t cursor;
};

static void count_attached(struct dp_engine *shard, void *argument)
{
    struct rehearse_work *c = argument;
    uint64_t end = c->cursor + DP_VISITS < c->update->n_cut ? c->cursor + DP_VISITS : c->update->n_cut;

    if (c->cursor == 0) {
        dp_plane_advance_shard(c->plane, shard);
        dp_conntrack_reap(&shard->conntrack);
    }
    for (; c->cursor < end; c->cursor++)
        c->update->disconnected[c->cursor] += dp_connections_attached(shard, c->update->cut[c->cursor]);
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
    int error = some ? dp_trial_begin(update, &c.trial) : 0;

    if (error < 0)
        return error;
    if (update->disconnected) {
        memset(update->disconnected, 0, update->n_cut * sizeof *update->disconnected);
        for (uint32_t i = 0; i < p->shards; i++)
            for (c.cursor = 0; c.cursor < update->n_cut;)
                dp_plane_run(p, i, count_attached, &c);
    }
    update->revoked = 0;
    for (uint32_t i = 0; i < p->shards && some; i++)
        for (c.cursor = 0; c.cursor != DP_CURSOR_END;)
            dp_plane_run(p, i, count_revocable, &c);
    dp_trial_end(&c.trial);
    return 0;
}
