/* history.c: history.h in code. */
#include "history.h"

#include <stdlib.h>

static void note(const struct dp_history *history, struct dp_history_of *of, enum dp_connection_event event)
{
    const struct dp_conntrack *ct = &history->engine->conntrack;
    struct dp_history_event *e;

    if (of->n_events == DP_HISTORY_EVENTS) {
        of->lost++;
        return;
    }
    e = &of->events[of->n_events++];
    memset(e, 0, sizeof *e);
    e->frame = history->engine->frames + 1;
    e->time_ns = ct->now;
    e->event = event;
    dp_connection_of(ct, &ct->table.entries[of->entry], &e->connection);
}

static void observe(void *owner, enum dp_connection_event event, uint32_t entry)
{
    struct dp_history *history = owner;
    const struct dp_engine *engine = history->engine;
    const struct dp_entry *e = &engine->conntrack.table.entries[entry];
    uint32_t zone = e->zone_protocol >> 8, origin = e->flags & DP_ENTRY_INBOUND ? DP_INBOUND : DP_OUTBOUND;

    for (uint32_t i = 0; i < history->n; i++) {
        struct dp_history_of *of = &history->of[i];

        if (event == DP_EVENT_NEW && zone == of->watched.zone && origin == of->watched.origin &&
            engine->frames + 1 == of->watched.opened_by)
            of->entry = entry;
        if (of->entry != entry)
            continue;
        note(history, of, event);
        if (event == DP_EVENT_DESTROY)
            of->entry = 0;
    }
}

int dp_history_new(struct dp_engine *engine, const struct dp_watched *watched, uint32_t n, struct dp_history **history)
{
    struct dp_history *made;

    *history = NULL;
    if (n > DP_DIRECTIONS)
        return DP_E_ARGUMENT;
    made = calloc(1, sizeof *made + n * sizeof made->of[0]);
    if (!made)
        return DP_E_MEMORY;
    made->engine = engine;
    made->n = n;
    for (uint32_t i = 0; i < n; i++)
        made->of[i].watched = watched[i];
    dp_conntrack_observe(&engine->conntrack, observe, made);
    *history = made;
    return 0;
}

void dp_history_free(struct dp_history *history)
{
    if (!history)
        return;
    dp_conntrack_observe(&history->engine->conntrack, NULL, NULL);
    free(history);
}

void dp_history_look(struct dp_history *history)
{
    for (uint32_t i = 0; i < history->n; i++)
        if (history->of[i].entry)
            dp_conntrack_status(&history->engine->conntrack, history->of[i].entry);
}

uint32_t dp_history_events(const struct dp_history *history, uint32_t which, struct dp_history_event *events,
                           uint32_t n, uint64_t *lost)
{
    const struct dp_history_of *of;

    *lost = 0;
    if (which >= history->n)
        return 0;
    of = &history->of[which];
    n = n < of->n_events ? n : of->n_events;
    memcpy(events, of->events, n * sizeof *events);
    *lost = of->lost;
    return n;
}
