/*
 * conntrack.c: conntrack.h in code, in this order: queues of a zone; what changes mean for one entry; expiry; finding,
 * admitting, keeping; making room; changes.
 *
 * INVARIANT of `attached`: it counts the inbound entries of a zone that are neither flagged DP_ENTRY_CUT nor older
 * (`change`) than the zone's last cut.
 *
 * ONE FILE, though a long one: all of it keeps this invariant and the queues, and calls each other on every packet.
 */
#include "conntrack.h"

#include "memory.h"

#include <stdlib.h>

static inline uint32_t zone_of(const struct dp_entry *e)
{
    return e->zone_protocol >> 8;
}

/* ---- queues ---- */

static void enqueue(struct dp_conntrack *ct, uint32_t index)
{
    struct dp_entry *e = &ct->table.entries[index];
    struct dp_queue *q = &ct->zones[zone_of(e)].queue[ct->config.tentative[e->state] != 0];

    if (ct->config.tentative[e->state])
        e->flags |= DP_ENTRY_TENTATIVE;
    else
        e->flags &= (uint8_t)~DP_ENTRY_TENTATIVE;
    ct->links[index] = (struct dp_zone_link){0, q->last};
    if (q->last)
        ct->links[q->last].next = index;
    else
        q->first = index;
    q->last = index;
}

static void dequeue(struct dp_conntrack *ct, uint32_t index)
{
    const struct dp_entry *e = &ct->table.entries[index];
    struct dp_queue *q = &ct->zones[zone_of(e)].queue[(e->flags & DP_ENTRY_TENTATIVE) != 0];
    struct dp_zone_link link = ct->links[index];

    if (link.prev)
        ct->links[link.prev].next = link.next;
    else
        q->first = link.next;
    if (link.next)
        ct->links[link.next].prev = link.prev;
    else
        q->last = link.prev;
}

/* ---- what changes mean for one entry ---- */

/* The first cut in the zone's log after `change`. */
static const struct dp_cut *first_cut(const struct dp_zone *zone, uint32_t change)
{
    uint32_t low = 0, high = zone->n_cuts;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (zone->cuts[middle].change > change)
            high = middle;
        else
            low = middle + 1;
    }
    return low < zone->n_cuts ? &zone->cuts[low] : NULL;
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
    dequeue(ct, index);
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

void dp_conntrack_run_timers(struct dp_conntrack *ct)
{
    dp_timer_advance(&ct->wheel, ct->now, due, ct);
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

/* ---- finding, admitting, keeping ---- */

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

static uint32_t largest_zone(const struct dp_conntrack *ct, uint32_t more_than, bool tentative)
{
    uint32_t found = ct->n_zones;

    if (tentative && ct->victim < ct->n_zones && ct->zones[ct->victim].entries > more_than &&
        ct->zones[ct->victim].queue[1].first)
        return ct->victim;
    for (uint32_t z = 0; z < ct->n_zones; z++)
        if (ct->zones[z].entries > more_than && ct->zones[z].queue[tentative].first) {
            more_than = ct->zones[z].entries;
            found = z;
        }
    return found;
}

static enum dp_flood flood_of(uint8_t protocol, uint8_t state)
{
    switch (protocol) {
    case DP_PROTO_TCP:
        return state <= DP_CONN_TCP_SYN_RECEIVED_INITIATOR ? DP_FLOOD_TCP_HALF_OPEN : DP_FLOOD_TCP;
    case DP_PROTO_UDP:
        return DP_FLOOD_UDP;
    case DP_PROTO_ICMP:
    case DP_PROTO_ICMPV6:
        return DP_FLOOD_ICMP;
    default:
        return DP_FLOOD_OTHER;
    }
}

static bool drop_oldest(struct dp_conntrack *ct, uint32_t zone, bool tentative)
{
    const struct dp_entry *e;

    if (zone >= ct->n_zones || !ct->zones[zone].queue[tentative].first)
        return false;
    e = &ct->table.entries[ct->zones[zone].queue[tentative].first];
    ct->flood[flood_of((uint8_t)e->zone_protocol, e->state)].dropped_early++;
    ct->early_drops++;
    dp_conntrack_remove(ct, ct->zones[zone].queue[tentative].first);
    return true;
}

static uint32_t fair_share(const struct dp_conntrack *ct)
{
    uint32_t share = ct->limit / (ct->n_present ? ct->n_present : 1);

    return share ? share : 1;
}

static bool make_room(struct dp_conntrack *ct, uint32_t zone)
{
    uint32_t share = fair_share(ct), own, most;

    dp_conntrack_reap(ct);
    if (ct->table.count < ct->limit)
        return true;
    ct->wanted++;
    own = ct->zones[zone].entries;
    if (own >= share && drop_oldest(ct, zone, true))
        return true;
    most = own > share ? own : share;
    ct->victim = largest_zone(ct, most, true);
    if (drop_oldest(ct, ct->victim, true))
        return true;
    if (own >= share)
        return false;
    return drop_oldest(ct, largest_zone(ct, 0, true), true) || drop_oldest(ct, largest_zone(ct, share, false), false);
}

uint32_t dp_conntrack_give_way(struct dp_conntrack *ct, uint32_t n)
{
    uint32_t given = 0;

    while (given < n && (drop_oldest(ct, largest_zone(ct, 0, true), true) ||
                         drop_oldest(ct, largest_zone(ct, fair_share(ct), false), false)))
        given++;
    return given;
}

uint32_t dp_conntrack_admit(struct dp_conntrack *ct, const struct dp_flow_key *key, uint32_t hash,
                            enum dp_origin origin, uint8_t state, uint32_t rule)
{
    uint32_t zone = key->zone_protocol >> 8, index;
    struct dp_entry *e;

    if (ct->table.count >= ct->limit && !make_room(ct, zone)) {
        struct dp_flood_counter *flood = &ct->flood[flood_of((uint8_t)key->zone_protocol, state)];

        flood->refused++;
        flood->refused_over_share += ct->zones[zone].entries >= fair_share(ct);
        return 0;
    }
    index = dp_flow_table_insert(&ct->table, key, hash);
    if (!index)
        return 0;
    e = &ct->table.entries[index];
    e->last_ns = ct->now;
    e->change = ct->change;
    e->rule = rule;
    e->state = state;
    ct->zones[zone].entries++;
    if (origin == DP_INBOUND) {
        e->flags |= DP_ENTRY_INBOUND;
        ct->zones[zone].attached++;
    }
    enqueue(ct, index);
    arm(ct, index);
    ct->opened++;
    if (ct->observe)
        ct->observe(ct->observer, DP_EVENT_NEW, index);
    return index;
}

static void change_state(struct dp_conntrack *ct, uint32_t index, uint8_t state)
{
    struct dp_entry *e = &ct->table.entries[index];
    uint8_t old = e->state;

    if (ct->config.tentative[old] != ct->config.tentative[state]) {
        dequeue(ct, index);
        e->state = state;
        enqueue(ct, index);
    }
    e->state = state;
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

/* ---- changes ---- */

int dp_conntrack_reserve_zones(struct dp_conntrack *ct, uint32_t n)
{
    struct dp_zone *zones;

    if (n <= ct->n_zones)
        return 0;
    zones = realloc(ct->zones, n * sizeof *zones);
    if (!zones)
        return DP_E_MEMORY;
    memset(zones + ct->n_zones, 0, (n - ct->n_zones) * sizeof *zones);
    ct->zones = zones;
    ct->n_zones = n;
    return 0;
}

static uint64_t longest_timeout(const struct dp_conntrack *ct)
{
    uint64_t longest = 0;

    for (int s = 0; s < DP_CONN_STATES; s++)
        if (ct->config.timeout_ns[s] > longest)
            longest = ct->config.timeout_ns[s];
    return longest;
}

/* Has all entries of a zone meet its cuts, of which none is needed afterwards. */
static void empty_log(struct dp_conntrack *ct, struct dp_zone *zone)
{
    for (int q = 0; q < 2; q++)
        for (uint32_t i = zone->queue[q].first; i; i = ct->links[i].next)
            dp_conntrack_status(ct, i);
    zone->n_cuts = 0;
}

int dp_conntrack_reserve_cut(struct dp_conntrack *ct, uint32_t z)
{
    struct dp_zone *zone = &ct->zones[z];
    uint64_t longest = longest_timeout(ct);
    uint32_t old = 0, room;
    struct dp_cut *cuts;

    /* Whatever these cut is gone by now. */
    while (old < zone->n_cuts && ct->now - zone->cuts[old].time_ns > longest)
        old++;
    if (old) {
        zone->n_cuts -= old;
        memmove(zone->cuts, zone->cuts + old, zone->n_cuts * sizeof *zone->cuts);
    }
    if (zone->n_cuts >= DP_CUTS_KEPT && zone->n_cuts >= zone->entries)
        empty_log(ct, zone);
    for (room = 4; room <= zone->n_cuts; room *= 2)
        ;
    /* One that has become short gives its memory back. */
    if (room > zone->cut_room || zone->cut_room > 4 * room) {
        cuts = realloc(zone->cuts, room * sizeof *cuts);
        if (!cuts)
            return DP_E_MEMORY;
        zone->cuts = cuts;
        zone->cut_room = room;
    }
    return 0;
}

uint32_t dp_conntrack_cut(struct dp_conntrack *ct, uint32_t z)
{
    struct dp_zone *zone = &ct->zones[z];
    uint32_t cut = zone->attached;

    if (zone->last_cut == ct->change)
        return 0;
    /* Whoever has not met an earlier one is not attached. */
    if (cut)
        zone->cuts[zone->n_cuts++] = (struct dp_cut){ct->change, ct->now};
    zone->last_cut = ct->change;
    zone->attached = 0;
    ct->disconnected += cut;
    return cut;
}

void dp_conntrack_cut_some(struct dp_conntrack *ct)
{
    ct->last_cut_some = ct->change;
    ct->cut_some_ns = ct->now;
}

void dp_conntrack_set_present(struct dp_conntrack *ct, uint32_t z, bool present)
{
    struct dp_zone *zone = &ct->zones[z];

    if (zone->present == present)
        return;
    zone->present = present;
    if (present) {
        ct->n_present++;
        return;
    }
    ct->n_present--;
    memset(&zone->control, 0, sizeof zone->control);
    for (int q = 0; q < 2; q++)
        while (zone->queue[q].first)
            dp_conntrack_remove(ct, zone->queue[q].first);
    free(zone->cuts);
    zone->cuts = NULL;
    zone->n_cuts = zone->cut_room = 0;
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
    ct->links = dp_reserve(((size_t)config->max_entries + 1) * sizeof *ct->links);
    if (!ct->links || dp_timer_init(&ct->wheel, config->max_entries + 1, 0) < 0 || dp_resync_init(&ct->resync) < 0) {
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
    dp_unreserve(ct->links, ((size_t)ct->table.room + 1) * sizeof *ct->links);
    if (ct->openers)
        dp_unreserve(ct->openers, ((size_t)ct->openers_room + 1) * sizeof *ct->openers);
    dp_flow_table_release(&ct->table);
}

int dp_conntrack_populate(struct dp_conntrack *ct, uint32_t most)
{
    int error = dp_flow_table_populate(&ct->table, most);

    if (error < 0)
        return error;
    dp_populate(ct->links, ((size_t)ct->table.populated + 1) * sizeof *ct->links);
    dp_timer_populate(&ct->wheel, ct->table.populated + 1);
    return 0;
}

/* Gives links another length; making them shorter does not fail. */
static int resize_links(struct dp_conntrack *ct, uint32_t old_room, uint32_t room)
{
    void *links =
        dp_reserve_again(ct->links, ((size_t)old_room + 1) * sizeof *ct->links, ((size_t)room + 1) * sizeof *ct->links);

    if (!links)
        return DP_E_MEMORY;
    ct->links = links;
    return 0;
}

int dp_conntrack_note_openers(struct dp_conntrack *ct)
{
    if (ct->openers)
        return 0;
    ct->openers = dp_reserve(((size_t)ct->table.room + 1) * sizeof *ct->openers);
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
    if (resize_openers(ct, n) < 0 || resize_links(ct, room, n) < 0)
        return DP_E_MEMORY;
    if (dp_timer_resize(&ct->wheel, room + 1, n + 1) < 0)
        goto back_links;
    if (dp_flow_table_resize(&ct->table, n) < 0)
        goto back_timers;
    return 0;

back_timers:
    dp_timer_resize(&ct->wheel, n + 1, room + 1);
back_links:
    resize_links(ct, n, room);
    return DP_E_MEMORY;
}

void dp_conntrack_configure(struct dp_conntrack *ct, const struct dp_conntrack_config *config)
{
    ct->config = *config;
    ct->limit = config->max_entries;
    ct->reap_from = 0;
}
