/* flow_log_live.c: flow_log_live.h in code. */
#include "flow_log_live.h"

#include "memory.h"
#include "table_walk.h"

#include <stdlib.h>

/* Ends that a burst can bring besides those of the entries that there were. */
enum { ENDS_BESIDES = 4096 };
/* Denied flows that are given out at once. */
enum { GIVEN_AT_ONCE = 1024 };
enum { INDEX_MOST = 1 << 24 };

/* ---- life ---- */

static size_t bytes_of_flows(uint32_t room)
{
    return (size_t)room * sizeof(struct dp_logged_flow);
}

static size_t bytes_of_ends(uint32_t room)
{
    return (size_t)room * sizeof(struct dp_logged_end);
}

static uint32_t room_of(uint32_t entries)
{
    return entries + DP_DENIED_FLOWS_MAX + ENDS_BESIDES;
}

int dp_flow_log_begin(struct dp_engine *engine, const struct dp_flow_sink *sink)
{
    struct dp_flow_log *l = calloc(1, sizeof *l);
    uint32_t buckets = 1024;

    if (!l)
        return DP_E_MEMORY;
    l->engine = engine;
    l->pool.secret = &engine->conntrack.table.secret;
    l->pool.fixed = true;
    l->sink = *sink;
    l->most = DP_DENIED_FLOWS_MAX;
    l->early_drops = engine->conntrack.early_drops;
    l->pool.room = room_of(engine->conntrack.table.room);
    l->ended_room = engine->conntrack.table.room + ENDS_BESIDES;
    while (buckets < l->pool.room && buckets < INDEX_MOST)
        buckets *= 2;
    l->pool.flows = dp_reserve(bytes_of_flows(l->pool.room));
    l->ended = dp_reserve(bytes_of_ends(l->ended_room));
    engine->flow_log = l;
    if (!l->pool.flows || !l->ended || !dp_flow_pool_lay_index(&l->pool, buckets) ||
        dp_conntrack_note_openers(&engine->conntrack) < 0) {
        dp_flow_log_end(engine);
        return DP_E_MEMORY;
    }
    return 0;
}

void dp_flow_log_end(struct dp_engine *engine)
{
    struct dp_flow_log *l = engine->flow_log;

    if (!l)
        return;
    dp_unreserve(l->pool.flows, bytes_of_flows(l->pool.room));
    dp_unreserve(l->ended, bytes_of_ends(l->ended_room));
    free(l->pool.buckets);
    free(l);
    engine->flow_log = NULL;
}

int dp_flow_log_resize(struct dp_flow_log *log, uint32_t entries)
{
    uint32_t room = room_of(entries), ends = entries + ENDS_BESIDES;
    void *grown;

    if (room > log->pool.room) {
        grown = dp_reserve_again(log->pool.flows, bytes_of_flows(log->pool.room), bytes_of_flows(room));
        if (!grown)
            return DP_E_MEMORY;
        log->pool.flows = grown;
        log->pool.room = room;
    }
    if (ends > log->ended_room) {
        grown = dp_reserve_again(log->ended, bytes_of_ends(log->ended_room), bytes_of_ends(ends));
        if (!grown)
            return DP_E_MEMORY;
        log->ended = grown;
        log->ended_room = ends;
    }
    return 0;
}

/* ---- entries that come and go ---- */

/* A flow as the first packet of an entry would have it. */
static void flow_of_entry(const struct dp_conntrack *ct, uint32_t entry, struct dp_flow_record *r)
{
    struct dp_connection c;
    bool in;

    dp_connection_of(ct, &ct->table.entries[entry], &c);
    in = c.origin == DP_INBOUND;
    memset(r, 0, sizeof *r);
    memcpy(r->flow.source, in ? c.remote : c.local, 16);
    memcpy(r->flow.destination, in ? c.local : c.remote, 16);
    r->flow.family = c.family;
    r->flow.protocol = c.protocol;
    r->flow.transport = dp_has_ports(c.protocol);
    if (c.protocol == (c.family == 4 ? DP_PROTO_ICMP : DP_PROTO_ICMPV6)) {
        r->flow.icmp = r->flow.transport = 1;
        r->flow.icmp_type = (uint8_t)c.remote_port;
        r->flow.source_port = c.local_port;
    } else {
        r->flow.source_port = in ? c.remote_port : c.local_port;
        r->flow.destination_port = in ? c.local_port : c.remote_port;
    }
    r->direction = in ? DP_INGRESS : DP_EGRESS;
    r->verdict = DP_ALLOW;
    r->reason = DP_REASON_RULE;
    r->zone = c.zone;
    r->rule = c.rule;
    r->origin = c.origin;
    r->state = c.state;
    r->end = DP_FLOW_LIVE;
    r->first_ns = r->last_ns = c.last_ns;
}

/* The frame at hand opens a connection; what its record says of it comes with that. */
static void begin(struct dp_flow_log *log, uint32_t entry)
{
    const struct dp_conntrack *ct = &log->engine->conntrack;
    const struct dp_entry *e = &ct->table.entries[entry];
    uint32_t origin = e->flags & DP_ENTRY_INBOUND ? DP_INBOUND : DP_OUTBOUND;
    uint64_t opened_by = log->engine->frames + 1;
    uint32_t i =
        dp_flow_pool_insert(&log->pool, dp_flow_pool_hash(&log->pool, e->zone_protocol >> 8, origin, opened_by));

    if (!i) {
        log->engine->counters.flow_records_lost[DP_FLOW_LOST_NO_ROOM]++;
        return;
    }
    flow_of_entry(ct, entry, &log->pool.flows[i].record);
    log->pool.flows[i].record.first_ns = log->pool.flows[i].record.last_ns = ct->now;
    log->pool.flows[i].record.first_packet = opened_by;
    log->pool.flows[i].opened_by = opened_by;
}

void dp_flow_log_observe(void *owner, enum dp_connection_event event, uint32_t entry)
{
    struct dp_flow_log *log = owner;

    if (event == DP_EVENT_NEW)
        begin(log, entry);
    /* There is room: what has ended since this was looked at last stood in the table then, or came in one burst. */
    else if (event == DP_EVENT_DESTROY && log->n_ended < log->ended_room)
        log->ended[log->n_ended++] = dp_flow_log_ended(log, entry);
}

/* ---- records ---- */

void dp_flow_log_add_one(struct dp_flow_log *log, uint64_t number, const struct dp_record *record,
                         const struct dp_flow *flow)
{
    if (record->verdict != DP_WAITING && !dp_flow_log_add_frame(log, number, record, flow))
        log->engine->counters.flow_records_lost[DP_FLOW_LOST_NO_ROOM]++;
}

void dp_flow_log_add_burst(struct dp_flow_log *log, uint64_t first, const struct dp_record *records,
                           const struct dp_flow *flows, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        dp_flow_log_count_ends(log, first + i);
        dp_flow_log_add_one(log, first + i, &records[i], &flows[i]);
    }
}

void dp_flow_log_catch_up(struct dp_flow_log *log)
{
    if (log->first_ended < log->n_ended)
        dp_flow_log_count_ends(log, UINT64_MAX);
}

void dp_flow_log_pass(struct dp_flow_log *log)
{
    uint64_t now = log->engine->conntrack.now;

    for (int i = 0; i < GIVEN_AT_ONCE && log->pool.oldest; i++) {
        if (now - log->pool.flows[log->pool.oldest].record.first_ns < log->sink.interval_ns)
            return;
        dp_flow_log_give(log, log->pool.oldest);
    }
}

/* ---- what is there ---- */

uint32_t dp_flow_log_rule(const struct dp_flow_log *log, uint32_t entry)
{
    const struct dp_conntrack *ct = &log->engine->conntrack;
    const struct dp_entry *e = &ct->table.entries[entry];
    uint32_t origin = e->flags & DP_ENTRY_INBOUND ? DP_INBOUND : DP_OUTBOUND;

    return log->pool.flows[dp_flow_log_find(log, e->zone_protocol >> 8, origin, ct->openers[entry])].record.rule;
}

static void connection_at(struct dp_flow_log *log, uint32_t entry, struct dp_flow_record *out)
{
    struct dp_logged_end now = dp_flow_log_ended(log, entry);
    uint32_t i = dp_flow_log_find(log, now.zone, now.origin, now.opened_by);

    if (i)
        *out = log->pool.flows[i].record;
    else
        flow_of_entry(&log->engine->conntrack, entry, out);
    out->state = now.state;
    out->end = DP_FLOW_LIVE;
}

/* The cursor goes over the entries first, then over all places behind them. */
uint32_t dp_flow_log_some(struct dp_flow_log *log, uint64_t *cursor, uint64_t visits, struct dp_flow_record *out,
                          uint32_t n)
{
    const uint64_t denied = UINT64_C(1) << 33;
    struct dp_conntrack *ct = &log->engine->conntrack;
    uint32_t have = 0;

    for (; visits && have < n && *cursor < ct->table.high; visits--)
        if (dp_conntrack_status(ct, (uint32_t)++*cursor) != DP_CONN_NONE)
            connection_at(log, (uint32_t)*cursor, &out[have++]);
    if (*cursor >= ct->table.high && *cursor < denied)
        *cursor = denied;
    for (; visits && have < n && *cursor >= denied && *cursor - denied < log->pool.high; visits--) {
        const struct dp_logged_flow *f = &log->pool.flows[++*cursor - denied];

        if (f->used && !f->opened_by)
            out[have++] = f->record;
    }
    if (*cursor >= denied && *cursor - denied >= log->pool.high)
        *cursor = DP_CURSOR_END;
    return have;
}

/* Their queue is short: this takes a few milliseconds, when hundreds of names have gone. */
void dp_flow_log_forget(struct dp_flow_log *log, const struct dp_retired *retired)
{
    for (uint32_t i = log->pool.oldest, next; i; i = next) {
        const struct dp_flow_record *r = &log->pool.flows[i].record;

        next = log->pool.flows[i].newer;
        if ((r->zone < retired->n_zones && retired->zones[r->zone]) ||
            (r->rule < retired->n_rules && retired->rules[r->rule]))
            dp_flow_log_give(log, i);
    }
}
