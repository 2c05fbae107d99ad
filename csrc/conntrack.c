/*
 * conntrack.c: conntrack.h in code, in this order: what changes mean for one entry; expiry; finding, inserting,
 * keeping; the whole and its memory.
 *
 * INVARIANT of `attached`: as of the last change that the zone has met, it counts the inbound entries of a zone that
 * are neither flagged DP_ENTRY_CUT nor older (`change`) than the zone's last cut.
 */
#include "conntrack.h"

#include "memory.h"

#include <stdlib.h>

static inline uint32_t zone_of(const struct dp_entry *e)
{
    return e->zone_protocol >> 8;
}

static inline enum dp_queue queue_of(const struct dp_entry *e)
{
    return e->flags & DP_ENTRY_TENTATIVE ? DP_QUEUE_TENTATIVE : DP_QUEUE_STEADY;
}

/* Notes in an entry which queue it comes to. */
static inline enum dp_queue queue_for_state(const struct dp_conntrack *ct, struct dp_entry *e)
{
    bool tentative = ct->config.tentative[e->state] != 0;

    e->flags = (uint8_t)((e->flags & ~DP_ENTRY_TENTATIVE) | (tentative ? DP_ENTRY_TENTATIVE : 0));
    return queue_of(e);
}

/* ---- what changes mean for a zone, and for one entry ---- */

void dp_conntrack_meet(struct dp_conntrack *ct, uint32_t z)
{
    struct dp_zone *zone = &ct->zones[z];

    if (zone->met == ct->change)
        return;
    zone->met = ct->change;
    if (!ct->cutting || z >= ct->n_cutting || !ct->cutting[z])
        return;
    /* Whoever has not met an earlier one is not attached. */
    if (zone->attached)
        dp_zone_log(zone)[zone->n_cuts++] = (struct dp_cut){ct->change, ct->cutting_ns};
    zone->last_cut = ct->change;
    zone->cut = zone->attached;
    zone->attached = 0;
    ct->disconnected += zone->cut;
}

/* The first cut in the zone's log after `change`. */
static const struct dp_cut *first_cut(struct dp_zone *zone, uint32_t change)
{
    const struct dp_cut *log = dp_zone_log(zone);
    uint32_t low = 0, high = zone->n_cuts;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (log[middle].change > change)
            high = middle;
        else
            low = middle + 1;
    }
    return low < zone->n_cuts ? &log[low] : NULL;
}

static void disconnect(struct dp_conntrack *ct, struct dp_entry *e, struct dp_cut cut)
{
    struct dp_zone *zone = &ct->zones[zone_of(e)];
    bool alive = cut.time_ns < e->last_ns || cut.time_ns - e->last_ns < ct->config.timeout_ns[e->state];

    if (zone->last_cut <= e->change) {
        zone->attached--;
        ct->disconnected++;
    }
    e->flags |= DP_ENTRY_CUT;
    /* Dead before the cut: it stays dead. */
    if (!alive)
        return;
    if (e->last_ns < cut.time_ns)
        e->last_ns = cut.time_ns;
    if (ct->observe && cut.change > ct->observed_from)
        ct->observe(ct->observer, DP_EVENT_UPDATE, (uint32_t)(e - ct->table.entries));
}

/* Looks at the changes that the entry has not met yet. */
static void settle(struct dp_conntrack *ct, struct dp_entry *e)
{
    struct dp_zone *zone = &ct->zones[zone_of(e)];

    if (zone->met != ct->change)
        dp_conntrack_meet(ct, zone_of(e));
    if ((e->flags & DP_ENTRY_INBOUND) && !(e->flags & DP_ENTRY_CUT)) {
        const struct dp_cut *cut = zone->last_cut > e->change ? first_cut(zone, e->change) : NULL;

        if (cut)
            disconnect(ct, e, *cut);
        else if (ct->last_cut_some == ct->change && ct->is_cut(ct->cutter, e))
            disconnect(ct, e, (struct dp_cut){ct->change, ct->cut_some_ns});
    }
    e->change = ct->change;
}

static inline enum dp_conn_status status(struct dp_conntrack *ct, struct dp_entry *e)
{
    if (e->change != ct->change)
        settle(ct, e);
    if (ct->now - e->last_ns >= ct->config.timeout_ns[e->state])
        return DP_CONN_NONE;
    return e->flags & DP_ENTRY_CUT ? DP_CONN_DISCONNECTED : DP_CONN_LIVE;
}

enum dp_conn_status dp_conntrack_status(struct dp_conntrack *ct, uint32_t index)
{
    struct dp_entry *e = &ct->table.entries[index];

    return e->state == DP_CONN_INVALID ? DP_CONN_NONE : status(ct, e);
}

/* ---- expiry ---- */

static uint64_t deadline_of(const struct dp_conntrack *ct, const struct dp_entry *e)
{
    uint64_t timeout = ct->config.timeout_ns[e->state];

    return e->last_ns > UINT64_MAX - timeout ? UINT64_MAX : e->last_ns + timeout;
}

/* Takes an entry out that no timer points to any more. */
static void forget(struct dp_conntrack *ct, uint32_t index)
{
    struct dp_entry *e = &ct->table.entries[index];
    struct dp_zone *zone = &ct->zones[zone_of(e)];

    if (e->change != ct->change)
        settle(ct, e);
    if (ct->observe)
        ct->observe(ct->observer, DP_EVENT_DESTROY, index);
    if ((e->flags & (DP_ENTRY_INBOUND | DP_ENTRY_CUT)) == DP_ENTRY_INBOUND)
        zone->attached--;
    zone->entries--;
    dp_zone_queues_take(&ct->queues, zone_of(e), queue_of(e), index);
    dp_flow_table_remove(&ct->table, index);
}

static uint64_t due(void *owner, uint32_t index)
{
    struct dp_conntrack *ct = owner;
    struct dp_entry *e = &ct->table.entries[index];
    uint64_t deadline;

    if (status(ct, e) == DP_CONN_NONE) {
        forget(ct, index);
        ct->expired++;
        return 0;
    }
    deadline = deadline_of(ct, e);
    if (deadline < ct->reap_from)
        ct->reap_from = deadline;
    return deadline;
}

/* More where they have come up late for a second: whoever is at a pace must not fall behind for good. */
static uint32_t pace_of(const struct dp_conntrack *ct)
{
    uint64_t times = 1 + dp_timer_ticks_behind(&ct->wheel, ct->now) / 16;

    return times < UINT32_MAX / ct->pace ? (uint32_t)times * ct->pace : UINT32_MAX;
}

void dp_conntrack_run_timers(struct dp_conntrack *ct)
{
    dp_timer_advance(&ct->wheel, ct->now, due, ct, ct->pace ? pace_of(ct) : UINT32_MAX);
}

void dp_conntrack_reap(struct dp_conntrack *ct)
{
    if (ct->now < ct->reap_from)
        return;
    /* Timers of later ticks are not looked at: none of them can be dead before its tick begins. */
    ct->reap_from = ((ct->now >> DP_TIMER_SHIFT) + 1) << DP_TIMER_SHIFT;
    dp_timer_reap(&ct->wheel, ct->now, due, ct);
}

static void arm(struct dp_conntrack *ct, uint32_t index)
{
    uint64_t deadline = deadline_of(ct, &ct->table.entries[index]);

    if (deadline < ct->reap_from)
        ct->reap_from = deadline;
    dp_timer_arm(&ct->wheel, index, deadline);
}

void dp_conntrack_remove(struct dp_conntrack *ct, uint32_t index)
{
    dp_timer_disarm(&ct->wheel, index);
    forget(ct, index);
}

void dp_conntrack_remove_many(struct dp_conntrack *ct, const uint32_t *entries, uint32_t n)
{
    dp_zone_queues_settle(&ct->queues);
    for (uint32_t i = 0; i < n; i++) {
        dp_flow_table_prefetch_slot(&ct->table, ct->table.hashes[entries[i]]);
        dp_zone_queues_prefetch(&ct->queues, entries[i]);
        dp_timer_prefetch(&ct->wheel, entries[i]);
    }
    for (uint32_t i = 0; i < n; i++)
        dp_flow_table_prefetch_cluster(&ct->table, ct->table.hashes[entries[i]]);
    for (uint32_t i = 0; i < n; i++)
        dp_conntrack_remove(ct, entries[i]);
}

/* ---- finding, inserting, keeping ---- */

enum dp_conn_status dp_conntrack_find(struct dp_conntrack *ct, const struct dp_flow_key *key, uint32_t hash,
                                      uint32_t *entry)
{
    uint32_t index = dp_flow_table_find(&ct->table, key, hash);
    enum dp_conn_status found;

    if (!index)
        return DP_CONN_NONE;
    found = status(ct, &ct->table.entries[index]);
    if (found == DP_CONN_NONE) {
        dp_conntrack_remove(ct, index);
        ct->expired++;
    }
    *entry = index;
    return found;
}

uint32_t dp_conntrack_insert(struct dp_conntrack *ct, const struct dp_flow_key *key, uint32_t hash,
                             enum dp_origin origin, uint8_t state, uint32_t rule)
{
    uint32_t zone = key->zone_protocol >> 8, index = dp_flow_table_insert(&ct->table, key, hash);
    struct dp_entry *e;

    if (!index)
        return 0;
    e = &ct->table.entries[index];
    e->last_ns = ct->now;
    e->change = ct->change;
    e->rule = rule;
    e->state = state;
    if (ct->zones[zone].met != ct->change)
        dp_conntrack_meet(ct, zone);
    ct->zones[zone].entries++;
    if (origin == DP_INBOUND) {
        e->flags |= DP_ENTRY_INBOUND;
        ct->zones[zone].attached++;
    }
    dp_zone_queues_put(&ct->queues, zone, queue_for_state(ct, e), index);
    arm(ct, index);
    ct->opened++;
    if (ct->observe)
        ct->observe(ct->observer, DP_EVENT_NEW, index);
    return index;
}

static void change_state(struct dp_conntrack *ct, uint32_t index, uint8_t state)
{
    struct dp_entry *e = &ct->table.entries[index];
    enum dp_queue was = queue_of(e), to;
    uint8_t old = e->state;

    e->state = state;
    to = queue_for_state(ct, e);
    if (to != was)
        dp_zone_queues_move(&ct->queues, zone_of(e), to, index);
    if (ct->config.timeout_ns[state] < ct->config.timeout_ns[old]) {
        dp_timer_disarm(&ct->wheel, index);
        arm(ct, index);
    }
}

void dp_conntrack_keep(struct dp_conntrack *ct, uint32_t index, uint8_t state)
{
    struct dp_entry *e = &ct->table.entries[index];

    e->last_ns = ct->now;
    if (e->state != state) {
        change_state(ct, index, state);
        if (ct->observe)
            ct->observe(ct->observer, DP_EVENT_UPDATE, index);
    }
}

void dp_conntrack_age(struct dp_conntrack *ct, uint32_t index, uint64_t age_ns, bool cut)
{
    struct dp_entry *e = &ct->table.entries[index];

    e->last_ns = ct->now - age_ns;
    dp_timer_disarm(&ct->wheel, index);
    arm(ct, index);
    if (cut && (e->flags & DP_ENTRY_INBOUND)) {
        e->flags |= DP_ENTRY_CUT;
        ct->zones[zone_of(e)].attached--;
    }
}

void dp_conntrack_reattach(struct dp_conntrack *ct, uint32_t index, uint32_t rule)
{
    struct dp_entry *e = &ct->table.entries[index];

    e->flags &= (uint8_t)~DP_ENTRY_CUT;
    e->rule = rule;
    e->last_ns = ct->now;
    ct->zones[zone_of(e)].attached++;
    if (ct->observe)
        ct->observe(ct->observer, DP_EVENT_UPDATE, index);
}

void dp_conntrack_observe(struct dp_conntrack *ct, dp_entry_observer *observe, void *observer)
{
    if (!ct->observe)
        ct->observed_from = ct->change;
    ct->observe = observe;
    ct->observer = observer;
}

/* ---- the whole ---- */

int dp_conntrack_init(struct dp_conntrack *ct, const struct dp_conntrack_config *config, const uint64_t *seed)
{
    memset(ct, 0, sizeof *ct);
    if (config->max_entries == 0 || config->max_entries >= 1u << 31)
        return DP_E_ARGUMENT;
    ct->config = *config;
    ct->limit = config->max_entries;
    if (dp_flow_table_init(&ct->table, config->max_entries, seed) < 0)
        return DP_E_MEMORY;
    if (dp_zone_queues_init(&ct->queues, config->max_entries + 1) < 0 ||
        dp_timer_init(&ct->wheel, config->max_entries + 1, 0) < 0 || dp_resync_init(&ct->resync) < 0) {
        dp_conntrack_release(ct);
        return DP_E_MEMORY;
    }
    return 0;
}

void dp_conntrack_release(struct dp_conntrack *ct)
{
    for (uint32_t z = 0; z < ct->n_zones; z++)
        free(ct->zones[z].cuts);
    free(ct->zones);
    dp_resync_release(&ct->resync);
    dp_timer_release(&ct->wheel, ct->table.room + 1);
    dp_zone_queues_release(&ct->queues, ct->table.room + 1);
    if (ct->openers)
        dp_unreserve(ct->openers, ((size_t)ct->openers_room + 1) * sizeof *ct->openers);
    dp_flow_table_release(&ct->table);
}

int dp_conntrack_populate(struct dp_conntrack *ct, uint32_t most)
{
    int error = dp_flow_table_populate(&ct->table, most);

    if (error < 0)
        return error;
    dp_zone_queues_populate(&ct->queues, ct->table.populated + 1);
    dp_timer_populate(&ct->wheel, ct->table.populated + 1);
    return 0;
}

int dp_conntrack_note_openers(struct dp_conntrack *ct)
{
    if (ct->openers)
        return 0;
    ct->openers = dp_reserve_huge(((size_t)ct->table.room + 1) * sizeof *ct->openers);
    ct->openers_room = ct->table.room;
    return ct->openers ? 0 : DP_E_MEMORY;
}

/* More room than the table has does no harm, should the table not grow. */
static int resize_openers(struct dp_conntrack *ct, uint32_t n)
{
    uint64_t *openers;

    if (!ct->openers || n <= ct->openers_room)
        return 0;
    openers = dp_reserve_again(ct->openers, ((size_t)ct->openers_room + 1) * sizeof *openers,
                               ((size_t)n + 1) * sizeof *openers);
    if (!openers)
        return DP_E_MEMORY;
    ct->openers = openers;
    ct->openers_room = n;
    return 0;
}

int dp_conntrack_reserve_entries(struct dp_conntrack *ct, uint32_t n)
{
    uint32_t room = ct->table.room;

    if (n == 0 || n >= 1u << 31)
        return DP_E_ARGUMENT;
    if (n <= room)
        return 0;
    if (resize_openers(ct, n) < 0 || dp_zone_queues_resize(&ct->queues, room + 1, n + 1) < 0)
        return DP_E_MEMORY;
    if (dp_timer_resize(&ct->wheel, room + 1, n + 1) < 0)
        goto back_queues;
    if (dp_flow_table_resize(&ct->table, n) < 0)
        goto back_timers;
    return 0;

back_timers:
    dp_timer_resize(&ct->wheel, n + 1, room + 1);
back_queues:
    dp_zone_queues_resize(&ct->queues, n + 1, room + 1);
    return DP_E_MEMORY;
}

void dp_conntrack_configure(struct dp_conntrack *ct, const struct dp_conntrack_config *config)
{
    ct->config = *config;
    ct->limit = config->max_entries;
    ct->reap_from = 0;
}
