/* plane.c: plane.h in code: life, frames, the bound of the table; but for updates (plane_update.c) and what is asked of
 * all shards (plane_walk.c). */
#include "plane.h"

#include "admission.h"

#include <stdlib.h>

/* ---- life ---- */

uint32_t dp_plane_equal_part(const struct dp_plane *p, uint32_t number)
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
            p->shard[i]->conntrack.limit = dp_plane_equal_part(p, i);
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
    for (uint32_t i = 0; i < p->shards; i++)
        p->shard[i]->conntrack.pace = driver ? DP_TIMERS : 0;
}

void dp_plane_run(struct dp_plane *p, uint32_t number, dp_shard_work *work, void *argument)
{
    if (p->driver)
        p->driver->run(p->driver->owner, number, work, argument);
    else
        work(p->shard[number], argument);
}

void dp_plane_run_all(struct dp_plane *p, dp_shard_work *work, void *argument)
{
    for (uint32_t i = 0; i < p->shards; i++)
        dp_plane_run(p, i, work, argument);
}

void dp_plane_advance_shard(const struct dp_plane *p, struct dp_engine *shard)
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

int dp_plane_populate(struct dp_plane *p, uint32_t most)
{
    int error = 0;

    for (uint32_t i = 0; i < p->shards && !error; i++)
        error = dp_engine_populate(p->shard[i], most / p->shards);
    return error;
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
    given = dp_admission_give_way(ct, missing < ct->limit - part ? (uint32_t)missing : ct->limit - part);
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
