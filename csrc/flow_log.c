/* flow_log.c: flow_log.h in code, in this order: what is given out, ends, records, the finish. */
#include "flow_log.h"

#include <stdlib.h>

/* ---- what is given out ---- */

static bool give(struct dp_flow_log *log, const struct dp_flow_record *record)
{
    if (log->sink.put) {
        log->sink.put(log->sink.owner, record);
        return true;
    }
    if (!dp_make_room(&log->given, log->n_given, &log->given_room, sizeof *log->given))
        return false;
    log->given[log->n_given++] = *record;
    return true;
}

bool dp_flow_log_give(struct dp_flow_log *log, uint32_t place)
{
    if (!give(log, &log->pool.flows[place].record))
        return false;
    dp_flow_pool_delete(&log->pool, place);
    return true;
}

/* Puts a flow behind all others of the queue, and gives out the first when there are too many. */
static bool enqueue(struct dp_flow_log *log, uint32_t i)
{
    dp_flow_pool_enqueue(&log->pool, i);
    return log->pool.queued <= log->most || dp_flow_log_give(log, log->pool.oldest);
}

/* A flow was denied once more, or has ended. Live, what has ended is told now, and a denied flow after its interval. */
static bool may_be_given(struct dp_flow_log *log, uint32_t i)
{
    if (!log->sink.put)
        return enqueue(log, i);
    if (log->pool.flows[i].opened_by)
        return dp_flow_log_give(log, i);
    return log->pool.flows[i].queued || enqueue(log, i);
}

uint32_t dp_flow_log_find(const struct dp_flow_log *log, uint32_t zone, uint32_t origin, uint64_t opened_by)
{
    uint32_t hash = dp_flow_pool_hash(&log->pool, zone, origin, opened_by);

    return dp_flow_pool_find(&log->pool, hash, zone, origin, opened_by);
}

/* ---- ends ---- */

/* How an entry that is about to go has ended. */
static enum dp_flow_end end_of(struct dp_flow_log *log, const struct dp_entry *e)
{
    const struct dp_conntrack *ct = &log->engine->conntrack;
    bool evicted = ct->early_drops != log->early_drops;

    log->early_drops = ct->early_drops;
    if (e->state == DP_CONN_TCP_TIME_WAIT)
        return DP_FLOW_CLOSED;
    if (e->state == DP_CONN_TCP_CLOSE)
        return DP_FLOW_RESET;
    if (e->flags & DP_ENTRY_CUT)
        return DP_FLOW_DISCONNECTED;
    if (ct->now - e->last_ns >= ct->config.timeout_ns[e->state])
        return DP_FLOW_EXPIRED;
    if (evicted)
        return DP_FLOW_EVICTED;
    /* A new SYN took its place; or it is taken out with its instance, or by hand. */
    if (ct->zones[e->zone_protocol >> 8].present && ct->config.reopens[e->state])
        return DP_FLOW_CLOSED;
    return DP_FLOW_DISCONNECTED;
}

static struct dp_logged_end ended_as(const struct dp_flow_log *log, uint32_t entry, enum dp_flow_end end)
{
    const struct dp_conntrack *ct = &log->engine->conntrack;
    const struct dp_entry *e = &ct->table.entries[entry];
    uint64_t opened_by = ct->openers[entry];

    return (struct dp_logged_end){.frame = dp_engine_frames(log->engine) - log->before + 1,
                                  .opened_by = opened_by > log->before ? opened_by - log->before : 0,
                                  .zone = e->zone_protocol >> 8,
                                  .origin = e->flags & DP_ENTRY_INBOUND ? DP_INBOUND : DP_OUTBOUND,
                                  .state = e->state,
                                  .end = (uint8_t)end};
}

struct dp_logged_end dp_flow_log_ended(struct dp_flow_log *log, uint32_t entry)
{
    return ended_as(log, entry, end_of(log, &log->engine->conntrack.table.entries[entry]));
}

static void observe(void *owner, enum dp_connection_event event, uint32_t entry)
{
    struct dp_flow_log *log = owner;
    struct dp_logged_end ended;

    if (event != DP_EVENT_DESTROY)
        return;
    ended = dp_flow_log_ended(log, entry);
    if (!ended.opened_by)
        return;
    if (dp_make_room(&log->ended, log->n_ended, &log->ended_room, sizeof *log->ended))
        log->ended[log->n_ended++] = ended;
    else
        log->out_of_memory = true;
}

/* Notes an end; one of a connection that no record told of is no news. */
static uint32_t note_end(struct dp_flow_log *log, const struct dp_logged_end *ended)
{
    uint32_t i = dp_flow_log_find(log, ended->zone, ended->origin, ended->opened_by);

    if (i) {
        log->pool.flows[i].record.state = ended->state;
        log->pool.flows[i].record.end = ended->end;
    }
    return i;
}

bool dp_flow_log_count_ends(struct dp_flow_log *log, uint64_t frame)
{
    while (log->first_ended < log->n_ended && log->ended[log->first_ended].frame <= frame) {
        uint32_t i = note_end(log, &log->ended[log->first_ended++]);

        if (i && !may_be_given(log, i))
            return false;
    }
    if (log->first_ended == log->n_ended)
        log->first_ended = log->n_ended = 0;
    return true;
}

/* ---- records ---- */

static void begin(struct dp_flow_log *log, uint32_t i, const struct dp_record *record, uint32_t check)
{
    struct dp_logged_flow *f = &log->pool.flows[i];

    f->record.zone = record->check[check].zone;
    f->record.first_ns = f->record.last_ns = record->time_ns;
    f->record.first_packet = log->number;
    f->check = (uint8_t)check;
}

/* What the check that opened a connection, or denied the first packet, says of it. */
static void describe(struct dp_logged_flow *f, const struct dp_check *check, const struct dp_flow *flow)
{
    f->record.flow = *flow;
    f->record.direction = check->direction;
    f->record.verdict = check->verdict;
    f->record.reason = check->reason;
    f->record.rule = check->rule;
}

/* The denied flow that has become connection `i`: its packets are the connection's. */
static void absorb(struct dp_flow_log *log, uint32_t i)
{
    struct dp_logged_flow *f = &log->pool.flows[i];
    const struct dp_logged_flow *was;
    struct dp_flow_key key;
    uint32_t denied;

    dp_logged_flow_key(&f->record.flow, f->record.zone, f->record.direction, &key);
    denied = dp_flow_pool_find_denied(&log->pool, dp_flow_pool_hash_denied(&log->pool, &key), &key);
    if (!denied)
        return;
    was = &log->pool.flows[denied];
    f->record.denied.packets += was->record.denied.packets;
    f->record.denied.bytes += was->record.denied.bytes;
    if (f->record.last_ns < was->record.last_ns)
        f->record.last_ns = was->record.last_ns;
    if (was->record.first_packet < f->record.first_packet) {
        f->record.first_packet = was->record.first_packet;
        f->record.first_ns = was->record.first_ns;
        f->check = was->check;
    }
    dp_flow_pool_delete(&log->pool, denied);
}

static uint32_t connection_of(struct dp_flow_log *log, const struct dp_record *record, uint32_t k,
                              const struct dp_flow *flow)
{
    const struct dp_check *check = &record->check[k];
    uint32_t hash = dp_flow_pool_hash(&log->pool, check->zone, check->origin, check->opened_by);
    uint32_t i = dp_flow_pool_find(&log->pool, hash, check->zone, check->origin, check->opened_by);

    /* Live, those that stand in the table are known, as far as there was room: this one is gone. */
    if (!i && log->sink.put)
        return 0;
    if (!i) {
        i = dp_flow_pool_insert(&log->pool, hash);
        if (!i)
            return 0;
        begin(log, i, record, k);
        log->pool.flows[i].opened_by = check->opened_by;
        log->pool.flows[i].record.origin = check->origin;
        log->pool.flows[i].record.end = DP_FLOW_EXPIRED;
        describe(&log->pool.flows[i], check, flow);
    }
    /* Fragments that had to wait for the packet that opened it come before. */
    if (log->number == check->opened_by) {
        describe(&log->pool.flows[i], check, flow);
        absorb(log, i);
    }
    return i;
}

static uint32_t denied_flow_of(struct dp_flow_log *log, const struct dp_record *record, uint32_t k,
                               const struct dp_flow *flow)
{
    const struct dp_check *check = &record->check[k];
    struct dp_flow_key key;
    uint32_t hash, i;

    dp_logged_flow_key(flow, check->zone, check->direction, &key);
    hash = dp_flow_pool_hash_denied(&log->pool, &key);
    i = dp_flow_pool_find_denied(&log->pool, hash, &key);
    if (!i) {
        i = dp_flow_pool_insert(&log->pool, hash);
        if (!i)
            return 0;
        begin(log, i, record, k);
        log->pool.flows[i].record.origin = check->direction == DP_INGRESS ? DP_INBOUND : DP_OUTBOUND;
        describe(&log->pool.flows[i], check, flow);
    }
    return i;
}

/* False without room for another flow. */
static bool add_check(struct dp_flow_log *log, const struct dp_record *record, uint32_t k, const struct dp_flow *flow)
{
    const struct dp_check *check = &record->check[k];
    struct dp_counter *counter;
    struct dp_flow_record *r;
    uint32_t i;

    /* Passed without a connection, or by one that was opened before. */
    if (check->origin == DP_ORIGIN_NONE ? check->verdict == DP_ALLOW : check->opened_by == 0)
        return true;
    i = check->origin ? connection_of(log, record, k, flow) : denied_flow_of(log, record, k, flow);
    if (!i)
        return check->origin && log->sink.put;
    r = &log->pool.flows[i].record;
    if (r->last_ns < record->time_ns)
        r->last_ns = record->time_ns;
    counter = check->verdict == DP_ALLOW ? &r->passed[check->direction] : &r->denied;
    counter->packets++;
    counter->bytes += record->length;
    return log->pool.flows[i].opened_by || may_be_given(log, i);
}

/* The flow that a check counts in, 0 for none. */
static uint32_t flow_of_check(const struct dp_flow_log *log, const struct dp_check *check, const struct dp_flow *flow)
{
    struct dp_flow_key key;

    if (check->origin)
        return dp_flow_log_find(log, check->zone, check->origin, check->opened_by);
    dp_logged_flow_key(flow, check->zone, check->direction, &key);
    return dp_flow_pool_find_denied(&log->pool, dp_flow_pool_hash_denied(&log->pool, &key), &key);
}

void dp_flow_log_note_shadow(struct dp_flow_log *log, const struct dp_record *before, const struct dp_record *after,
                             const struct dp_flow *flow)
{
    const struct dp_check *last = after->checks ? &after->check[after->checks - 1] : NULL;

    for (uint32_t k = 0; k < before->checks; k++) {
        uint32_t i = flow_of_check(log, &before->check[k], flow);
        struct dp_flow_record *r = &log->pool.flows[i].record;

        if (!i)
            continue;
        if (r->shadow_packets++ == 0) {
            r->shadow_verdict = after->verdict;
            r->shadow_checked = last != NULL;
            r->shadow_reason = last ? last->reason : 0;
            r->shadow_rule = last ? last->rule : 0;
        }
    }
}

bool dp_flow_log_add_frame(struct dp_flow_log *log, uint64_t number, const struct dp_record *record,
                           const struct dp_flow *flow)
{
    bool added = true;

    log->number = number;
    for (uint32_t k = 0; k < record->checks; k++)
        added = add_check(log, record, k, flow) && added;
    return added;
}

int dp_flow_log_add(struct dp_flow_log *log, const struct dp_record *records, const struct dp_flow *flows, uint32_t n)
{
    for (uint32_t i = 0; i < n && !log->out_of_memory; i++)
        if (!dp_flow_log_count_ends(log, log->number + 1) ||
            !dp_flow_log_add_frame(log, log->number + 1, &records[i], &flows[i]))
            log->out_of_memory = true;
    return log->out_of_memory ? DP_E_MEMORY : 0;
}

/* ---- the finish ---- */

/* What stands in the table is live, or has ended where it stands. */
static void look_at_table(struct dp_flow_log *log)
{
    struct dp_conntrack *ct = &log->engine->conntrack;

    for (uint32_t entry = 1; entry <= ct->table.high; entry++) {
        const struct dp_entry *e = &ct->table.entries[entry];
        enum dp_conn_status status = dp_conntrack_status(ct, entry);
        struct dp_logged_end ended;

        if (e->state == DP_CONN_INVALID)
            continue;
        ended = ended_as(log, entry, status == DP_CONN_NONE ? DP_FLOW_EXPIRED : DP_FLOW_LIVE);
        if (e->state == DP_CONN_TCP_TIME_WAIT)
            ended.end = DP_FLOW_CLOSED;
        else if (e->state == DP_CONN_TCP_CLOSE)
            ended.end = DP_FLOW_RESET;
        else if (e->flags & DP_ENTRY_CUT)
            ended.end = DP_FLOW_DISCONNECTED;
        if (ended.opened_by)
            (void)note_end(log, &ended);
    }
}

struct placed {
    uint64_t first_packet;
    uint32_t check;
    uint32_t flow;
};

static int compare_places(const void *a, const void *b)
{
    const struct placed *x = a, *y = b;

    if (x->first_packet != y->first_packet)
        return x->first_packet < y->first_packet ? -1 : 1;
    return (x->check > y->check) - (x->check < y->check);
}

int dp_flow_log_finish(struct dp_flow_log *log)
{
    struct placed *places;
    uint32_t n = 0;

    if (log->finished)
        return 0;
    if (log->out_of_memory || !dp_flow_log_count_ends(log, UINT64_MAX))
        return DP_E_MEMORY;
    places = malloc((log->pool.count ? log->pool.count : 1) * sizeof *places);
    if (!places)
        return DP_E_MEMORY;
    look_at_table(log);
    for (uint32_t b = 0; b <= log->pool.bucket_mask; b++)
        for (uint32_t i = log->pool.buckets[b]; i; i = log->pool.flows[i].next)
            places[n++] = (struct placed){log->pool.flows[i].record.first_packet, log->pool.flows[i].check, i};
    qsort(places, n, sizeof *places, compare_places);
    for (uint32_t k = 0; k < n && !log->out_of_memory; k++)
        log->out_of_memory = !give(log, &log->pool.flows[places[k].flow].record);
    free(places);
    log->finished = true;
    return log->out_of_memory ? DP_E_MEMORY : 0;
}

int dp_flow_log_take(struct dp_flow_log *log, struct dp_flow_record *out, uint32_t n)
{
    uint32_t have = log->n_given - log->first_given;

    n = n < have ? n : have;
    n = n < INT32_MAX ? n : INT32_MAX;
    if (n)
        memcpy(out, log->given + log->first_given, n * sizeof *out);
    log->first_given += n;
    if (log->first_given == log->n_given)
        log->first_given = log->n_given = 0;
    return (int)n;
}

int dp_flow_log_new(struct dp_engine *engine, uint32_t most, struct dp_flow_log **log)
{
    struct dp_flow_log *l;

    *log = NULL;
    if (engine->conntrack.observe)
        return DP_E_ARGUMENT;
    l = calloc(1, sizeof *l);
    if (!l)
        return DP_E_MEMORY;
    l->engine = engine;
    l->pool.secret = &engine->conntrack.table.secret;
    l->before = dp_engine_frames(engine);
    l->early_drops = engine->conntrack.early_drops;
    l->most = most;
    if (!dp_flow_pool_lay_index(&l->pool, 1024) || dp_conntrack_note_openers(&engine->conntrack) < 0) {
        free(l->pool.buckets);
        free(l);
        return DP_E_MEMORY;
    }
    dp_conntrack_observe(&engine->conntrack, observe, l);
    *log = l;
    return 0;
}

void dp_flow_log_free(struct dp_flow_log *log)
{
    if (!log)
        return;
    dp_conntrack_observe(&log->engine->conntrack, NULL, NULL);
    free(log->pool.flows);
    free(log->pool.buckets);
    free(log->ended);
    free(log->given);
    free(log);
}
