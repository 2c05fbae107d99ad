/*
 * survey.c: what a firewall's workers know, taken together: counters, connections (listed, counted, saved, and removed
 * or restored in the same walks) and the feed of events.
 *
 * A CURSOR over all workers is the worker's number in the high bits and that engine's own cursor in the low 40.
 */
#include "../connections.h"
#include "../denied.h"
#include "firewall.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CURSOR_BITS = 40 };

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

    c->have +=
        dp_connections_some(w->engine, c->filter, &c->cursor, DP_VISITS, c->connections + c->have, c->n - c->have);
}

static void save_some(struct dp_worker *w, void *argument)
{
    struct walk_command *c = argument;

    c->have += dp_connections_save_some(w->engine, &c->cursor, DP_VISITS, c->saved + c->have, c->n - c->have);
}

static void count_some(struct dp_worker *w, void *argument)
{
    struct walk_command *c = argument;

    c->count += dp_connections_count_some(w->engine, c->filter, &c->cursor, DP_VISITS, c->by_state);
}

static void flush_some(struct dp_worker *w, void *argument)
{
    struct walk_command *c = argument;

    c->count += dp_connections_flush_some(w->engine, c->filter, &c->cursor, DP_VISITS);
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
    dp_call_all(f, add_port_counters, &c);
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

int dp_firewall_stations(struct dp_firewall *f, struct dp_station *stations, uint32_t n)
{
    uint32_t now_s = (uint32_t)(dp_firewall_now() / 1000000000u), have = 0, kept;

    /* What is behind the ports of one worker is what is behind those of all, and nobody but this thread changes it. */
    for (uint32_t number = 0; number < DP_PORTS_MAX && have < n; number++) {
        const struct dp_worker_port *p = &f->worker[0].port[number];

        if (!p->active || !p->port.has_mac)
            continue;
        stations[have] = (struct dp_station){.port = (uint16_t)number, .fixed = 1};
        memcpy(stations[have++].mac, p->port.mac, sizeof p->port.mac);
    }
    kept = have;
    n = have + dp_switch_list(&f->stations, now_s, stations + have, n - have);
    for (; have < n; have++)
        if (!dp_served_find(&f->worker[0].served, stations[have].mac))
            stations[kept++] = stations[have];
    return (int)kept;
}

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
    dp_call_all(f, add_counters, &c);
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

int dp_firewall_denied(struct dp_firewall *f, struct dp_denied *denied, uint32_t n)
{
    struct counters_command c = {.denied = malloc(((size_t)n * f->workers + 1) * sizeof *denied), .n = n};

    if (!c.denied)
        return DP_E_MEMORY;
    dp_call_all(f, copy_denied, &c);
    qsort(c.denied, c.have, sizeof *c.denied, dp_denied_order);
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
    dp_conntrack_observe(&w->engine->conntrack, connections ? dp_feed_connection : NULL, w);
}

void dp_firewall_watch(struct dp_firewall *f, uint32_t kinds, int32_t port)
{
    struct watch_command c = {kinds, port};

    dp_call_all(f, watch, &c);
    f->watched = kinds;
    if (!(kinds & DP_FEED_CONNECTIONS))
        f->telling = f->workers;
}

static void settle_some(struct dp_worker *w, void *argument)
{
    dp_connections_settle_some(w->engine, argument, DP_TOLD);
}

/* Has some entries more looked at, so that their worker tells what the last change disconnected; false at the end. */
static bool tell_some(struct dp_firewall *f)
{
    if (f->telling >= f->workers)
        return false;
    dp_worker_call(&f->worker[f->telling], settle_some, &f->told);
    if (f->told == DP_CURSOR_END) {
        f->telling++;
        f->told = 0;
    }
    return true;
}

void dp_firewall_wake_feed(const struct dp_firewall *f)
{
    uint64_t one = 1;

    /* The counter of an eventfd is never full: it is read away. */
    if (write(f->feed_wake, &one, sizeof one) < 0)
        return;
}

/* Takes what fits from all workers; true when that was all. */
static bool take_items(struct dp_firewall *f, uint8_t *out, uint64_t size, uint64_t *used)
{
    uint32_t next = 0;

    for (uint32_t i = 0; i < f->workers && !next; i++) {
        struct dp_ring *feed = &f->worker[f->next_feed].feed;

        while ((next = dp_ring_next(feed)) != 0 && next <= size - *used) {
            dp_ring_take(feed, out + *used, next);
            *used += next;
        }
        /* Also of one that never ends the others have their turn. */
        f->next_feed = (f->next_feed + 1) % f->workers;
    }
    return next == 0;
}

int64_t dp_firewall_feed(struct dp_firewall *f, void *out, uint64_t size)
{
    uint64_t used = 0, count;
    bool all;

    if (read(f->feed_wake, &count, sizeof count) < 0)
        count = 0;
    all = take_items(f, out, size, &used);
    for (int step = 0; step < DP_VISITS / DP_TOLD && all && tell_some(f); step++)
        all = take_items(f, out, size, &used);
    if (!all || f->telling < f->workers)
        dp_firewall_wake_feed(f);
    return (int64_t)used;
}

void dp_firewall_feed_mark(const struct dp_firewall *f, uint64_t *marks)
{
    for (uint32_t i = 0; i < f->workers; i++)
        marks[i] = atomic_load(&f->worker[i].feed.put);
}

int dp_firewall_feed_is_past(const struct dp_firewall *f, const uint64_t *marks)
{
    for (uint32_t i = 0; i < f->workers; i++)
        if (atomic_load(&f->worker[i].feed.taken) < marks[i])
            return 0;
    return 1;
}

int dp_firewall_feed_fd(const struct dp_firewall *f)
{
    return f->feed_wake;
}
