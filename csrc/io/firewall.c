/*
 * firewall.c: the control side of live traffic: a firewall's life, its ports and its policy, as dp_api.h promises them.
 * What only asks the workers, or walks over their connections, is in survey.c.
 */
#include "firewall.h"
#include "../connections.h"
#include "../memory.h"
#include "../retired.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* Added to the clock, so that times before the machine's start have a number too. */
#define CLOCK_OFFSET_NS 2592000000000000u

uint64_t dp_firewall_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return CLOCK_OFFSET_NS + (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- life ---- */

/* A worker's part of the connection table. */
static struct dp_conntrack_config share_of(const struct dp_firewall *f, const struct dp_conntrack_config *config)
{
    struct dp_conntrack_config share = *config;

    share.max_entries = (config->max_entries + f->workers - 1) / f->workers;
    return share;
}

int dp_firewall_new(const struct dp_conntrack_config *config, const uint64_t *seed, uint32_t workers,
                    struct dp_firewall **firewall)
{
    struct dp_conntrack_config share;
    struct dp_firewall *f;
    size_t size = sizeof *f + workers * sizeof f->worker[0];
    int error = 0;

    *firewall = NULL;
    if (workers == 0 || workers > DP_WORKERS_MAX)
        return DP_E_ARGUMENT;
    /* The rings' two ends stand in cache lines of their own. */
    f = dp_reserve(size);
    if (!f)
        return DP_E_MEMORY;
    f->workers = f->telling = workers;
    f->feed_wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    share = share_of(f, config);
    for (uint32_t i = 0; i < workers; i++)
        f->worker[i].epoll = f->worker[i].wake = -1;
    for (uint32_t i = 0; i < workers && !error; i++)
        error = dp_worker_init(&f->worker[i], i, workers, f->worker, &f->stations, f->feed_wake, &share, seed);
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
    for (uint32_t i = 0; i < f->workers; i++)
        dp_worker_release(&f->worker[i]);
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

/* ---- ports ---- */

struct port_command {
    uint32_t number;
    const struct dp_port *port;
    const int *fd;
    int error;
};

static void add_port(struct dp_worker *w, void *argument)
{
    struct port_command *c = argument;
    int error = dp_worker_add_port(w, c->number, c->port, c->fd[w->number]);

    if (error < 0)
        c->error = error;
}

static void remove_port(struct dp_worker *w, void *argument)
{
    dp_worker_remove_port(w, ((const struct port_command *)argument)->number);
}

static bool is_port(const struct dp_port *port)
{
    return port->zone >= DP_ZONE_NONE && port->zone < DP_ZONES_MAX && port->kind <= DP_PORT_PACKET;
}

int dp_firewall_add_port(struct dp_firewall *f, const struct dp_port *port, const int *fd)
{
    struct port_command c = {.port = port, .fd = fd};

    if (!is_port(port))
        return DP_E_ARGUMENT;
    while (c.number < DP_PORTS_MAX && f->used[c.number])
        c.number++;
    if (c.number == DP_PORTS_MAX)
        return DP_E_LIMIT;
    dp_call_all(f, add_port, &c);
    if (c.error) {
        dp_call_all(f, remove_port, &c);
        return c.error;
    }
    f->used[c.number] = true;
    return (int)c.number;
}

int dp_firewall_remove_port(struct dp_firewall *f, uint32_t number)
{
    struct port_command c = {.number = number};

    if (number >= DP_PORTS_MAX || !f->used[number])
        return DP_E_ARGUMENT;
    dp_call_all(f, remove_port, &c);
    dp_switch_forget(&f->stations, number);
    f->used[number] = false;
    return 0;
}

/* ---- policy ---- */

/* Whether all are ports, as they are but for what stands behind them. */
static bool are_ports(const struct dp_firewall *f, const struct dp_port_update *ports, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (ports[i].number >= DP_PORTS_MAX || !f->used[ports[i].number] || !is_port(&ports[i].port) ||
            ports[i].port.kind != f->worker[0].port[ports[i].number].port.kind)
            return false;
    return true;
}

struct update_command {
    struct dp_policy_update update;
    struct dp_policy *policy[DP_WORKERS_MAX]; /* the new ones, then those of before */
    uint64_t before[DP_WORKERS_MAX];          /* connections disconnected when the walk began */
    uint64_t *disconnected;
    uint64_t cursor;
    bool forgotten[DP_PORTS_MAX]; /* by port: its stations are */
    int error;
};

static void reserve(struct dp_worker *w, void *argument)
{
    struct update_command *c = argument;

    c->update.time_ns = dp_firewall_now();
    if (!c->error)
        c->error = dp_engine_reserve(w->engine, &c->update, c->policy[w->number]);
}

static void swap(struct dp_worker *w, void *argument)
{
    struct update_command *c = argument;

    c->update.time_ns = dp_firewall_now();
    c->policy[w->number] = dp_engine_swap(w->engine, &c->update, c->policy[w->number]);
    dp_worker_set_ports(w, c->update.ports, c->update.n_ports);
    c->before[w->number] = w->engine->conntrack.disconnected;
}

static void settle(struct dp_worker *w, void *argument)
{
    struct update_command *c = argument;

    dp_connections_settle_some(w->engine, &c->cursor, DP_VISITS);
    if (c->cursor == DP_CURSOR_END)
        c->update.revoked += w->engine->conntrack.disconnected - c->before[w->number];
}

/* Has all workers make room, so that afterwards none of them can fail alone. */
static int prepare(struct dp_firewall *f, struct update_command *c)
{
    for (uint32_t i = 0; i < f->workers && !c->error; i++)
        c->error = dp_policy_new(&c->update, &c->policy[i]);
    if (!c->error)
        dp_call_all(f, reserve, c);
    return c->error;
}

static void put_in_force(struct dp_firewall *f, struct update_command *c)
{
    for (uint32_t i = 0; i < c->update.n_ports; i++) {
        const struct dp_port_update *port = &c->update.ports[i];

        c->forgotten[port->number] = dp_port_forgets(&f->worker[0].port[port->number].port, &port->port);
    }
    for (uint32_t i = 0; i < f->workers; i++) {
        dp_worker_call(&f->worker[i], swap, c);
        for (uint32_t k = 0; k < c->update.n_cut && c->disconnected; k++)
            c->disconnected[k] += c->update.disconnected[k];
    }
    for (uint32_t number = 0; number < DP_PORTS_MAX; number++)
        if (c->forgotten[number])
            dp_switch_forget(&f->stations, number);
}

int dp_firewall_update(struct dp_firewall *f, struct dp_policy_update *update)
{
    uint64_t *cut = calloc((size_t)update->n_cut + 1, sizeof *cut);
    struct update_command c = {.update = *update, .disconnected = update->disconnected};
    struct dp_conntrack_config share;
    bool looks;

    if (!cut)
        return DP_E_MEMORY;
    if (!are_ports(f, update->ports, update->n_ports)) {
        free(cut);
        return DP_E_ARGUMENT;
    }
    if (update->config) {
        share = share_of(f, update->config);
        c.update.config = &share;
    }
    c.update.disconnected = cut;
    c.update.count_revoked = 0;
    if (c.disconnected)
        memset(c.disconnected, 0, update->n_cut * sizeof *c.disconnected);
    if (prepare(f, &c) == 0)
        put_in_force(f, &c);
    c.update.revoked = 0;
    /* What revocations and arrivals cut must be settled before the next change. */
    looks = update->n_arrivals || update->n_revocations;
    for (uint32_t i = 0; i < f->workers && !c.error && looks; i++)
        for (c.cursor = 0; c.cursor != DP_CURSOR_END;)
            dp_worker_call(&f->worker[i], settle, &c);
    update->revoked = c.update.revoked;
    if (!c.error && (f->watched & DP_FEED_CONNECTIONS) &&
        (update->n_cut || update->n_revocations || update->n_arrivals)) {
        f->telling = 0;
        f->told = 0;
        dp_firewall_wake_feed(f);
    }
    /* Whoever wanted a table has it by now; freeing large ones takes a while. */
    for (uint32_t i = 0; i < f->workers; i++)
        dp_policy_release(c.policy[i]);
    free(cut);
    return c.error;
}

/* ---- numbers that come back ---- */

struct retire_command {
    struct dp_retired *retired;
    uint64_t cursor;
};

static void forget(struct dp_worker *w, void *argument)
{
    dp_retired_forget(w->engine, ((const struct retire_command *)argument)->retired);
    dp_forward_resolved(w);
}

static void keep_some(struct dp_worker *w, void *argument)
{
    struct retire_command *c = argument;

    dp_retired_keep_some(w->engine, c->retired, &c->cursor, DP_VISITS);
}

static void clear(struct dp_worker *w, void *argument)
{
    dp_retired_clear(w->engine, ((const struct retire_command *)argument)->retired);
}

void dp_firewall_retire(struct dp_firewall *f, struct dp_retired *retired)
{
    struct retire_command c = {.retired = retired};

    dp_call_all(f, forget, &c);
    for (uint32_t i = 0; i < f->workers; i++)
        for (c.cursor = 0; c.cursor != DP_CURSOR_END;)
            dp_worker_call(&f->worker[i], keep_some, &c);
    dp_call_all(f, clear, &c);
}

static void count_attached(struct dp_worker *w, void *argument)
{
    struct update_command *c = argument;

    dp_engine_advance(w->engine, w->now_ns);
    for (uint32_t i = 0; i < c->update.n_cut; i++)
        c->disconnected[i] += dp_connections_attached(w->engine, c->update.cut[i]);
}

static void count_revocable(struct dp_worker *w, void *argument)
{
    struct update_command *c = argument;
    uint64_t visits = DP_VISITS / (1 + (c->update.n_cut + c->update.n_revocations) / 64) + 1;

    c->update.revoked += dp_connections_revocable_some(w->engine, &c->update, c->policy[0], &c->cursor, visits);
}

int dp_firewall_rehearse(struct dp_firewall *f, struct dp_policy_update *update)
{
    struct update_command c = {.update = *update, .disconnected = update->disconnected};

    if (update->n_arrivals) {
        c.error = dp_policy_new(update, &c.policy[0]);
        if (c.error < 0)
            return c.error;
    }
    if (c.disconnected) {
        memset(c.disconnected, 0, update->n_cut * sizeof *c.disconnected);
        dp_call_all(f, count_attached, &c);
    }
    c.update.revoked = 0;
    for (uint32_t i = 0; i < f->workers; i++) {
        c.cursor = 0;
        while ((update->n_revocations || update->n_arrivals) && c.cursor != DP_CURSOR_END)
            dp_worker_call(&f->worker[i], count_revocable, &c);
    }
    dp_policy_release(c.policy[0]);
    update->revoked = c.update.revoked;
    return 0;
}
