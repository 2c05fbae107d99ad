/*
 * firewall.c: the control side of live traffic: what dp_api.h promises, carried out by the workers.
 *
 * Long walks over the connection table are cut into steps of VISITS entries, each a command of its own, so that a
 * worker is kept from its packets for tens of microseconds at most.
 *
 * A CURSOR over all workers is the worker's number in the high bits and that engine's own cursor in the low 40.
 */
#include "../connections.h"
#include "worker.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { VISITS = 4096, CURSOR_BITS = 40 };
/* Added to the clock, so that times before the machine's start have a number too. */
#define CLOCK_OFFSET_NS 2592000000000000u

struct dp_firewall {
    uint32_t workers;
    int feed_wake;
    bool used[DP_PORTS_MAX];
    struct dp_switch stations;
    struct dp_worker worker[];
};

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
    f = aligned_alloc(64, (size + 63) & ~(size_t)63);
    if (!f)
        return DP_E_MEMORY;
    memset(f, 0, size);
    f->workers = workers;
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
    free(f);
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

/* Calls all workers, one after the other. */
static void call_all(struct dp_firewall *f, dp_command *command, void *argument)
{
    for (uint32_t i = 0; i < f->workers; i++)
        dp_worker_call(&f->worker[i], command, argument);
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

static void set_port(struct dp_worker *w, void *argument)
{
    const struct port_command *c = argument;

    w->port[c->number].port = *c->port;
}

static void remove_port(struct dp_worker *w, void *argument)
{
    dp_worker_remove_port(w, ((const struct port_command *)argument)->number);
}

static void fix_station(struct dp_firewall *f, uint32_t number, const struct dp_port *port)
{
    if (port->has_mac)
        dp_switch_fix(&f->stations, port->mac, number);
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
    call_all(f, add_port, &c);
    if (c.error) {
        call_all(f, remove_port, &c);
        return c.error;
    }
    f->used[c.number] = true;
    fix_station(f, c.number, port);
    return (int)c.number;
}

int dp_firewall_set_port(struct dp_firewall *f, uint32_t number, const struct dp_port *port)
{
    struct port_command c = {.number = number, .port = port};
    const struct dp_port *before;

    if (number >= DP_PORTS_MAX || !f->used[number] || !is_port(port))
        return DP_E_ARGUMENT;
    before = &f->worker[0].port[number].port;
    /* Who stays where they are must be found all the time: what is forgotten meanwhile is lost. */
    if (before->has_mac && (!port->has_mac || memcmp(before->mac, port->mac, sizeof port->mac) != 0))
        dp_switch_forget(&f->stations, number);
    call_all(f, set_port, &c);
    fix_station(f, number, port);
    return 0;
}

int dp_firewall_remove_port(struct dp_firewall *f, uint32_t number)
{
    struct port_command c = {.number = number};

    if (number >= DP_PORTS_MAX || !f->used[number])
        return DP_E_ARGUMENT;
    call_all(f, remove_port, &c);
    dp_switch_forget(&f->stations, number);
    f->used[number] = false;
    return 0;
}

struct port_counters_command {
    uint32_t number;
    struct dp_port_counters *counters;
};

static void add_port_counters(struct dp_worker *w, void *argument)
{
    const struct port_counters_command *c = argument;
    struct dp_port_counters *one = &w->port_counters[c->number];

    one->drop[DP_DROP_MISSED] += dp_port_missed(w->port[c->number].fd, w->port[c->number].port.kind);
    for (size_t k = 0; k < offsetof(struct dp_port_counters, error) / sizeof(uint64_t); k++)
        ((uint64_t *)c->counters)[k] += ((const uint64_t *)one)[k];
    if (one->error)
        c->counters->error = one->error;
}

int dp_firewall_port_counters(struct dp_firewall *f, uint32_t number, struct dp_port_counters *counters)
{
    struct port_counters_command c = {number, counters};

    if (number >= DP_PORTS_MAX || !f->used[number])
        return DP_E_ARGUMENT;
    memset(counters, 0, sizeof *counters);
    call_all(f, add_port_counters, &c);
    return 0;
}
_Static_assert(offsetof(struct dp_port_counters, error) % sizeof(uint64_t) == 0,
               "counters before it are summed as words");

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

int dp_firewall_stations(struct dp_firewall *f, struct dp_station *stations, uint32_t n)
{
    return (int)dp_switch_list(&f->stations, (uint32_t)(dp_firewall_now() / 1000000000u), stations, n);
}

/* ---- policy ---- */

struct update_command {
    struct dp_policy_update update;
    struct dp_policy *old[DP_WORKERS_MAX];
    uint64_t before; /* connections disconnected when the walk began, by this worker */
    uint64_t *disconnected;
    uint64_t cursor;
    int error;
};

static void swap(struct dp_worker *w, void *argument)
{
    struct update_command *c = argument;
    int error;

    c->update.time_ns = dp_firewall_now();
    error = dp_engine_swap(w->engine, &c->update, &c->old[w->number]);
    c->before = w->engine->conntrack.disconnected;
    if (error < 0)
        c->error = error;
}

static void settle(struct dp_worker *w, void *argument)
{
    struct update_command *c = argument;

    dp_connections_settle_some(w->engine, &c->cursor, VISITS);
    if (c->cursor == DP_CURSOR_END)
        c->update.revoked += w->engine->conntrack.disconnected - c->before;
}

int dp_firewall_update(struct dp_firewall *f, struct dp_policy_update *update)
{
    uint64_t *cut = calloc((size_t)update->n_cut + 1, sizeof *cut);
    struct dp_conntrack_config share = share_of(f, update->config);
    struct update_command c = {.update = *update};

    if (!cut)
        return DP_E_MEMORY;
    c.update.config = &share;
    c.update.disconnected = cut;
    c.update.count_revoked = 0;
    c.disconnected = update->disconnected;
    if (c.disconnected)
        memset(c.disconnected, 0, update->n_cut * sizeof *c.disconnected);
    update->revoked = 0;
    for (uint32_t i = 0; i < f->workers && !c.error; i++) {
        dp_worker_call(&f->worker[i], swap, &c);
        for (uint32_t k = 0; k < update->n_cut && c.disconnected && !c.error; k++)
            c.disconnected[k] += cut[k];
        c.update.revoked = 0;
        c.cursor = 0;
        while (!c.error && update->n_revocations && update->count_revoked && c.cursor != DP_CURSOR_END)
            dp_worker_call(&f->worker[i], settle, &c);
        update->revoked += c.update.revoked;
    }
    /* Whoever wanted a table has it by now; freeing large ones takes a while. */
    for (uint32_t i = 0; i < f->workers; i++)
        dp_policy_release(c.old[i]);
    free(cut);
    return c.error;
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
    uint64_t visits = VISITS / (1 + (c->update.n_cut + c->update.n_revocations) / 64) + 1;

    c->update.revoked += dp_connections_revocable_some(w->engine, &c->update, &c->cursor, visits);
}

int dp_firewall_rehearse(struct dp_firewall *f, struct dp_policy_update *update)
{
    struct update_command c = {.update = *update, .disconnected = update->disconnected};

    if (c.disconnected) {
        memset(c.disconnected, 0, update->n_cut * sizeof *c.disconnected);
        call_all(f, count_attached, &c);
    }
    c.update.revoked = 0;
    for (uint32_t i = 0; i < f->workers; i++) {
        c.cursor = 0;
        while (update->n_revocations && c.cursor != DP_CURSOR_END)
            dp_worker_call(&f->worker[i], count_revocable, &c);
    }
    update->revoked = c.update.revoked;
    return 0;
}

/* ---- connections ---- */

struct walk_command {
    const struct dp_connection_filter *filter;
    struct dp_connection *connections;
    struct dp_saved_connection *saved;
    uint32_t n;
    uint32_t have;
    uint64_t *by_state;
    uint64_t count;
    uint64_t cursor; /* of one worker's engine */
};

static void list_some(struct dp_worker *w, void *argument)
{
    struct walk_command *c = argument;

    c->have += dp_connections_some(w->engine, c->filter, &c->cursor, VISITS, c->connections + c->have, c->n - c->have);
}

static void save_some(struct dp_worker *w, void *argument)
{
    struct walk_command *c = argument;

    c->have += dp_connections_save_some(w->engine, &c->cursor, VISITS, c->saved + c->have, c->n - c->have);
}

static void count_some(struct dp_worker *w, void *argument)
{
    struct walk_command *c = argument;

    c->count += dp_connections_count_some(w->engine, c->filter, &c->cursor, VISITS, c->by_state);
}

static void flush_some(struct dp_worker *w, void *argument)
{
    struct walk_command *c = argument;

    c->count += dp_connections_flush_some(w->engine, c->filter, &c->cursor, VISITS);
}

/* Walks on from *cursor until n are there or all workers have been asked. */
static int walk_on(struct dp_firewall *f, dp_command *command, struct walk_command *c, uint64_t *cursor)
{
    const uint64_t low = (UINT64_C(1) << CURSOR_BITS) - 1;

    while (c->have < c->n && *cursor >> CURSOR_BITS < f->workers) {
        c->cursor = *cursor & low;
        dp_worker_call(&f->worker[*cursor >> CURSOR_BITS], command, c);
        *cursor =
            c->cursor == DP_CURSOR_END ? ((*cursor >> CURSOR_BITS) + 1) << CURSOR_BITS : (*cursor & ~low) | c->cursor;
    }
    return (int)c->have;
}

static uint64_t walk_all(struct dp_firewall *f, dp_command *command, struct walk_command *c)
{
    for (uint32_t i = 0; i < f->workers; i++)
        for (c->cursor = 0; c->cursor != DP_CURSOR_END;)
            dp_worker_call(&f->worker[i], command, c);
    return c->count;
}

int dp_firewall_connections(struct dp_firewall *f, const struct dp_connection_filter *filter, uint64_t *cursor,
                            struct dp_connection *connections, uint32_t n)
{
    struct walk_command c = {.filter = filter, .connections = connections, .n = n};

    return walk_on(f, list_some, &c, cursor);
}

uint64_t dp_firewall_count(struct dp_firewall *f, const struct dp_connection_filter *filter, uint64_t *by_state)
{
    struct walk_command c = {.filter = filter, .by_state = by_state};

    if (by_state)
        memset(by_state, 0, DP_CONN_STATES * sizeof *by_state);
    return walk_all(f, count_some, &c);
}

uint64_t dp_firewall_flush(struct dp_firewall *f, const struct dp_connection_filter *filter)
{
    struct walk_command c = {.filter = filter};

    return walk_all(f, flush_some, &c);
}

int dp_firewall_save(struct dp_firewall *f, uint64_t *cursor, struct dp_saved_connection *saved, uint32_t n)
{
    struct walk_command c = {.saved = saved, .n = n};

    return walk_on(f, save_some, &c, cursor);
}

struct restore_command {
    const struct dp_saved_connection *saved;
    uint64_t passed_ns;
    bool taken;
};

static void restore(struct dp_worker *w, void *argument)
{
    struct restore_command *c = argument;

    dp_engine_advance(w->engine, w->now_ns);
    c->taken = dp_connections_restore(w->engine, c->saved, c->passed_ns);
}

int dp_firewall_restore(struct dp_firewall *f, const struct dp_saved_connection *saved, uint32_t n, uint64_t passed_ns)
{
    int taken = 0;

    for (uint32_t i = 0; i < n; i++) {
        struct restore_command c = {&saved[i], passed_ns, false};
        union dp_address ends[2];

        memcpy(&ends[0], saved[i].local, 16);
        memcpy(&ends[1], saved[i].remote, 16);
        dp_worker_call(&f->worker[dp_worker_of(f->workers, saved[i].family, &ends[0], &ends[1])], restore, &c);
        taken += c.taken;
    }
    return taken;
}

/* ---- counters ---- */

struct counters_command {
    struct dp_counters *counters;
    struct dp_rule_counter *rules;
    struct dp_denied *denied;
    uint32_t n;
    uint32_t have;
};

static void add_counters(struct dp_worker *w, void *argument)
{
    struct counters_command *c = argument;
    struct dp_counters one;

    dp_engine_counters(w->engine, &one);
    for (size_t i = 0; i < sizeof one / sizeof(uint64_t); i++)
        ((uint64_t *)c->counters)[i] += ((const uint64_t *)&one)[i];
}
_Static_assert(sizeof(struct dp_counters) % sizeof(uint64_t) == 0, "counters are summed as words");

void dp_firewall_counters(struct dp_firewall *f, struct dp_counters *counters)
{
    struct counters_command c = {.counters = counters};

    memset(counters, 0, sizeof *counters);
    call_all(f, add_counters, &c);
}

static void copy_rule_counters(struct dp_worker *w, void *argument)
{
    struct counters_command *c = argument;

    dp_engine_rule_counters(w->engine, c->rules, c->n);
}

void dp_firewall_rule_counters(struct dp_firewall *f, struct dp_rule_counter *counters, uint32_t n)
{
    struct counters_command c = {.rules = malloc(((size_t)n + 1) * sizeof *counters), .n = n};

    memset(counters, 0, n * sizeof *counters);
    for (uint32_t i = 0; i < f->workers && c.rules; i++) {
        dp_worker_call(&f->worker[i], copy_rule_counters, &c);
        for (uint32_t k = 0; k < n; k++) {
            counters[k].hits += c.rules[k].hits;
            counters[k].traffic.packets += c.rules[k].traffic.packets;
            counters[k].traffic.bytes += c.rules[k].traffic.bytes;
        }
    }
    free(c.rules);
}

static void copy_denied(struct dp_worker *w, void *argument)
{
    struct counters_command *c = argument;

    c->have += (uint32_t)dp_engine_denied(w->engine, c->denied + c->have, c->n);
}

static int by_packets(const void *a, const void *b)
{
    uint64_t x = ((const struct dp_denied *)a)->count.packets, y = ((const struct dp_denied *)b)->count.packets;

    return (x < y) - (x > y);
}

int dp_firewall_denied(struct dp_firewall *f, struct dp_denied *denied, uint32_t n)
{
    struct counters_command c = {.denied = malloc(((size_t)n * f->workers + 1) * sizeof *denied), .n = n};

    if (!c.denied)
        return DP_E_MEMORY;
    call_all(f, copy_denied, &c);
    qsort(c.denied, c.have, sizeof *c.denied, by_packets);
    if (c.have > n)
        c.have = n;
    memcpy(denied, c.denied, c.have * sizeof *denied);
    free(c.denied);
    return (int)c.have;
}

/* ---- feed ---- */

struct watch_command {
    uint32_t kinds;
    int32_t port;
};

static void watch(struct dp_worker *w, void *argument)
{
    const struct watch_command *c = argument;
    bool connections = c->kinds & DP_FEED_CONNECTIONS;

    atomic_store(&w->watched_port, c->port);
    atomic_store(&w->watched, c->kinds);
    w->engine->conntrack.observer = w;
    w->engine->conntrack.observe = connections ? dp_feed_connection : NULL;
}

void dp_firewall_watch(struct dp_firewall *f, uint32_t kinds, int32_t port)
{
    struct watch_command c = {kinds, port};

    call_all(f, watch, &c);
}

int64_t dp_firewall_feed(struct dp_firewall *f, void *out, uint64_t size)
{
    uint64_t used = 0, count;

    if (read(f->feed_wake, &count, sizeof count) < 0)
        count = 0;
    for (uint32_t i = 0; i < f->workers; i++) {
        uint32_t next;

        while ((next = dp_ring_next(&f->worker[i].feed)) != 0 && next <= size - used) {
            dp_ring_take(&f->worker[i].feed, (uint8_t *)out + used, next);
            used += next;
        }
        /* What did not fit is still to be had. */
        count = 1;
        if (next && write(f->feed_wake, &count, sizeof count) < 0)
            break;
    }
    return (int64_t)used;
}

int dp_firewall_feed_fd(const struct dp_firewall *f)
{
    return f->feed_wake;
}
