/*
 * feed_reader.c: the control side of the feed: what is watched, what the workers have told, and looking at entries so
 * that what a change disconnected is told (firewall.h).
 */
#include "../table_walk.h"
#include "feed.h"
#include "firewall.h"

#include <unistd.h>

struct watch_command {
    uint32_t kinds;
    int32_t port;
};

static void watch(struct dp_worker *w, void *argument)
{
    const struct watch_command *c = argument;
    bool before = atomic_load(&w->watched) & DP_FEED_CONNECTIONS, connections = c->kinds & DP_FEED_CONNECTIONS;

    atomic_store(&w->watched_port, c->port);
    atomic_store(&w->watched, c->kinds);
    /* What was disconnected before is no news to who begins to watch. */
    if (!before || !connections)
        dp_conntrack_observe(&w->engine->conntrack, NULL, NULL);
    if (connections || w->engine->flow_log)
        dp_conntrack_observe(&w->engine->conntrack, dp_feed_connection, w);
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
    for (uint32_t i = 0; i < f->workers; i++) {
        marks[i] = atomic_load(&f->worker[i].feed.put);
        marks[DP_WORKERS_MAX + i] = atomic_load(&f->worker[i].flows.put);
    }
}

int dp_firewall_feed_is_past(const struct dp_firewall *f, const uint64_t *marks)
{
    for (uint32_t i = 0; i < f->workers; i++)
        if (atomic_load(&f->worker[i].feed.taken) < marks[i] ||
            atomic_load(&f->worker[i].flows.taken) < marks[DP_WORKERS_MAX + i])
            return 0;
    return 1;
}

int dp_firewall_feed_fd(const struct dp_firewall *f)
{
    return f->feed_wake;
}
