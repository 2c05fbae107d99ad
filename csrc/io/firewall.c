/*
 * firewall.c: the control side of live traffic: a firewall's life, its policy and its shadow, as dp_live.h promises
 * them. What goes over all shards is the plane's (plane.h); ports are in switch_ports.c, the feed is in feed_reader.c.
 */
#include "firewall.h"

#include "../memory.h"
#include "../table_walk.h"
#include "forward.h"
#include "worker_loop.h"

#include <sys/eventfd.h>
#include <unistd.h>

/* Connections, at most, that have their memory from the start: 400 MB. */
enum { POPULATED = 1 << 22 };

/* ---- the plane's driver ---- */

struct shard_command {
    dp_shard_work *work;
    void *argument;
};

static void do_work(struct dp_worker *w, void *argument)
{
    const struct shard_command *c = argument;

    c->work(w->engine, c->argument);
    dp_forward_resolved(w);
    if (w->engine->flow_log)
        dp_flow_log_catch_up(w->engine->flow_log);
}

static void run(void *owner, uint32_t number, dp_shard_work *work, void *argument)
{
    struct dp_firewall *f = owner;
    struct shard_command c = {work, argument};

    dp_worker_call(&f->worker[number], do_work, &c);
}

static void swapped(void *owner, uint32_t number, const struct dp_policy_update *update)
{
    struct dp_firewall *f = owner;

    dp_worker_set_ports(&f->worker[number], update->ports, update->n_ports);
}

struct dp_plane *dp_firewall_plane(struct dp_firewall *f)
{
    return f->plane;
}

/* ---- the shadow ---- */

/* While connections are taken over, the bound of its table is shared out anew after so many steps. */
enum { BALANCE_EVERY = 32 };

static void begin_shadow(struct dp_worker *w, void *argument)
{
    w->shadow = ((struct dp_shadow *)argument)[w->number];
}

struct take_over {
    uint64_t cursor;
    uint64_t taken;
};

static void take_over(struct dp_worker *w, void *argument)
{
    struct take_over *c = argument;

    c->taken += dp_shadow_take_over(&w->shadow, w->engine, &c->cursor);
}

static void begin_comparing(struct dp_worker *w, void *argument)
{
    (void)argument;
    w->shadow.comparing = true;
}

static void do_shadows_work(struct dp_worker *w, void *argument)
{
    const struct shard_command *c = argument;

    c->work(w->shadow.engine, c->argument);
}

static void run_on_shadow(void *owner, uint32_t number, dp_shard_work *work, void *argument)
{
    struct dp_firewall *f = owner;
    struct shard_command c = {work, argument};

    dp_worker_call(&f->worker[number], do_shadows_work, &c);
}

static void end_shadow(struct dp_worker *w, void *argument)
{
    (void)argument;
    w->shadow = (struct dp_shadow){0};
}

void dp_firewall_end_shadow(struct dp_firewall *f)
{
    struct dp_difference *differences[DP_WORKERS_MAX];

    if (!f->shadow_plane)
        return;
    for (uint32_t i = 0; i < f->workers; i++)
        differences[i] = f->worker[i].shadow.difference;
    dp_call_all(f, end_shadow, NULL);
    for (uint32_t i = 0; i < f->workers; i++)
        dp_difference_free(differences[i]);
    dp_plane_free(f->shadow_plane);
    f->shadow_plane = NULL;
}

int dp_firewall_begin_shadow(struct dp_firewall *f, struct dp_plane *plane, uint64_t *taken_over)
{
    struct dp_shadow shadow[DP_WORKERS_MAX] = {{0}};
    struct take_over c = {0, 0};
    int error = 0;

    if (plane->shards != f->workers)
        return DP_E_ARGUMENT;
    for (uint32_t i = 0; i < f->workers && !error; i++) {
        shadow[i].engine = dp_plane_shard(plane, i);
        if (!shadow[i].engine->policy->endpoints)
            error = DP_E_ARGUMENT;
        else
            error = dp_difference_new(&shadow[i].difference);
    }
    if (error) {
        for (uint32_t i = 0; i < f->workers; i++)
            dp_difference_free(shadow[i].difference);
        return error;
    }
    dp_firewall_end_shadow(f);
    f->shadow_plane = plane;
    f->shadow_driver = (struct dp_plane_driver){.owner = f, .run = run_on_shadow, .now = dp_firewall_now};
    dp_plane_drive(plane, &f->shadow_driver);
    dp_call_all(f, begin_shadow, shadow);
    for (uint32_t i = 0; i < f->workers; i++) {
        c.cursor = 0;
        for (uint32_t step = 0; c.cursor != DP_CURSOR_END; step++) {
            /* A worker that has most of the connections needs most of the shadow's table. */
            if (step % BALANCE_EVERY == 0)
                dp_plane_balance(plane);
            dp_worker_call(&f->worker[i], take_over, &c);
        }
    }
    dp_call_all(f, begin_comparing, NULL);
    *taken_over = c.taken;
    return 0;
}

/* ---- life ---- */

void dp_firewall_wake_feed(const struct dp_firewall *f)
{
    uint64_t one = 1;

    /* The counter of an eventfd is never full: it is read away. */
    if (write(f->feed_wake, &one, sizeof one) < 0)
        return;
}

int dp_firewall_new(const struct dp_conntrack_config *config, const uint64_t *seed, uint32_t workers,
                    struct dp_firewall **firewall)
{
    struct dp_hash_secret secret;
    struct dp_firewall *f;
    size_t size = sizeof *f + workers * sizeof f->worker[0];
    int error;

    *firewall = NULL;
    if (workers == 0 || workers > DP_WORKERS_MAX)
        return DP_E_ARGUMENT;
    /* The rings' two ends stand in cache lines of their own. */
    f = dp_reserve(size);
    if (!f)
        return DP_E_MEMORY;
    f->workers = f->telling = workers;
    dp_hash_secret_init(&secret, seed);
    dp_mac_table_init(&f->stations, secret.multiplier);
    f->feed_wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    f->driver = (struct dp_plane_driver){.owner = f, .run = run, .now = dp_firewall_now, .swapped = swapped};
    for (uint32_t i = 0; i < workers; i++)
        f->worker[i].epoll = f->worker[i].wake = -1;
    error = dp_plane_new(config, seed, workers, &f->plane);
    /* A flood of new connections, of all things, must not have every packet wait for memory. */
    if (!error)
        error = dp_plane_populate(f->plane, POPULATED);
    for (uint32_t i = 0; i < workers && !error; i++)
        error = dp_worker_init(&f->worker[i], i, workers, f->worker, &f->stations, f->feed_wake,
                               dp_plane_shard(f->plane, i));
    if (!error)
        dp_plane_drive(f->plane, &f->driver);
    if (error) {
        dp_firewall_free(f);
        return error;
    }
    *firewall = f;
    return 0;
}

void dp_firewall_free(struct dp_firewall *f)
{
    if (!f)
        return;
    dp_firewall_stop(f);
    dp_firewall_end_shadow(f);
    for (uint32_t i = 0; i < f->workers; i++)
        dp_worker_release(&f->worker[i]);
    dp_plane_free(f->plane);
    if (f->feed_wake >= 0)
        close(f->feed_wake);
    dp_unreserve(f, sizeof *f + f->workers * sizeof f->worker[0]);
}

void dp_firewall_want_uring(struct dp_firewall *f, int wanted)
{
    for (uint32_t i = 0; i < f->workers; i++)
        f->worker[i].wants_uring = wanted != 0;
}

void dp_firewall_busy_poll(struct dp_firewall *f, uint32_t ns)
{
    for (uint32_t i = 0; i < f->workers; i++)
        f->worker[i].busy_poll_ns = ns;
}

int dp_firewall_start(struct dp_firewall *f)
{
    int error = 0;

    /* Without a policy nothing is known of who may do what. */
    for (uint32_t i = 0; i < f->workers; i++)
        if (!f->worker[i].engine->policy->endpoints)
            return DP_E_ARGUMENT;
    for (uint32_t i = 0; i < f->workers && !error; i++)
        error = f->worker[i].running ? 0 : dp_worker_start(&f->worker[i]);
    if (error)
        dp_firewall_stop(f);
    return error;
}

void dp_firewall_stop(struct dp_firewall *f)
{
    for (uint32_t i = 0; i < f->workers; i++)
        dp_worker_stop(&f->worker[i]);
}

/* ---- policy ---- */

/* Whether all are ports, as they are but for what stands behind them. */
static bool are_ports(const struct dp_firewall *f, const struct dp_port_update *ports, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (ports[i].number >= DP_PORTS_MAX || !f->used[ports[i].number] || !dp_is_port(&ports[i].port) ||
            ports[i].port.kind != f->worker[0].port[ports[i].number].port.kind)
            return false;
    return true;
}

struct room_command {
    uint32_t entries;
    int error;
};

static void make_room_for_flows(struct dp_worker *w, void *argument)
{
    struct room_command *c = argument;

    if (!c->error && w->engine->flow_log)
        c->error = dp_flow_log_resize(w->engine->flow_log, c->entries);
}

int dp_firewall_update(struct dp_firewall *f, struct dp_policy_update *update)
{
    struct room_command room = {0};
    bool forgotten[DP_PORTS_MAX] = {false};
    int error;

    if (!are_ports(f, update->ports, update->n_ports))
        return DP_E_ARGUMENT;
    for (uint32_t i = 0; i < update->n_ports; i++)
        forgotten[update->ports[i].number] =
            dp_port_forgets(&f->worker[0].port[update->ports[i].number].port, &update->ports[i].port);
    if (update->config && f->worker[0].engine->flow_log) {
        room.entries = update->config->max_entries;
        dp_call_all(f, make_room_for_flows, &room);
    }
    error = room.error;
    if (!error)
        error = dp_plane_update(f->plane, update);
    if (error)
        return error;
    for (uint32_t number = 0; number < DP_PORTS_MAX; number++)
        if (forgotten[number])
            dp_mac_table_forget(&f->stations, number);
    if ((f->watched & DP_FEED_CONNECTIONS) && (update->n_cut || update->n_revocations || update->n_arrivals)) {
        f->telling = 0;
        f->told = 0;
        dp_firewall_wake_feed(f);
    }
    return 0;
}

/* ---- counters ---- */

static void copy_worker_counters(struct dp_worker *w, void *argument)
{
    *(struct dp_worker_counters *)argument = w->counters;
}

int dp_firewall_worker_counters(struct dp_firewall *f, uint32_t worker, struct dp_worker_counters *counters)
{
    if (worker >= f->workers)
        return DP_E_ARGUMENT;
    dp_worker_call(&f->worker[worker], copy_worker_counters, counters);
    return 0;
}

static void ask_uring(struct dp_worker *w, void *argument)
{
    int *answer = argument;

    if (*answer >= 0)
        *answer = w->uring.error ? -w->uring.error : dp_uring_is_open(&w->uring);
}

int dp_firewall_uring(struct dp_firewall *f)
{
    int answer = 0;

    dp_call_all(f, ask_uring, &answer);
    return answer;
}
