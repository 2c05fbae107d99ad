/* conntrack_changes.c: conntrack_changes.h in code: zones and the logs of their cuts. */
#include "conntrack_changes.h"

#include <stdlib.h>

int dp_conntrack_reserve_zones(struct dp_conntrack *ct, uint32_t n)
{
    struct dp_zone *zones;

    if (n <= ct->n_zones)
        return 0;
    zones = realloc(ct->zones, n * sizeof *zones);
    if (!zones)
        return DP_E_MEMORY;
    ct->zones = zones;
    if (dp_zone_queues_reserve(&ct->queues, ct->n_zones, n) < 0)
        return DP_E_MEMORY;
    memset(zones + ct->n_zones, 0, (n - ct->n_zones) * sizeof *zones);
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
    uint32_t z = (uint32_t)(zone - ct->zones);

    dp_zone_queues_settle(&ct->queues);
    for (int q = 0; q < DP_QUEUES; q++)
        for (uint32_t i = dp_zone_queues_first(&ct->queues, z, q); i; i = dp_zone_queues_next(&ct->queues, i))
            dp_conntrack_status(ct, i);
    zone->n_cuts = 0;
}

/* Makes room in the log for one cut more. */
static void make_room(struct dp_conntrack *ct, struct dp_zone *zone)
{
    uint64_t longest = zone->n_cuts ? longest_timeout(ct) : 0;
    struct dp_cut *log = dp_zone_log(zone), *cuts;
    uint32_t old = 0, room;

    /* Whatever these cut is gone by now. */
    while (old < zone->n_cuts && ct->now - log[old].time_ns > longest)
        old++;
    if (old) {
        zone->n_cuts -= old;
        memmove(log, log + old, zone->n_cuts * sizeof *log);
    }
    if (zone->n_cuts >= DP_CUTS_KEPT && zone->n_cuts >= zone->entries)
        empty_log(ct, zone);
    if (zone->n_cuts < DP_CUTS_AT_HAND && !zone->cuts)
        return;
    for (room = 4; room <= zone->n_cuts; room *= 2)
        ;
    /* One that has become short gives its memory back. */
    if (room <= zone->cut_room && zone->cut_room <= 4 * room)
        return;
    cuts = realloc(zone->cuts, room * sizeof *cuts);
    if (!cuts) {
        empty_log(ct, zone);
        return;
    }
    if (!zone->cuts)
        memcpy(cuts, zone->few_cuts, sizeof zone->few_cuts);
    zone->cuts = cuts;
    zone->cut_room = room;
}

void dp_conntrack_cut(struct dp_conntrack *ct, const uint8_t *zones, uint32_t n)
{
    ct->cutting = zones;
    ct->n_cutting = n;
    ct->cutting_ns = ct->now;
}

uint32_t dp_conntrack_count_cut(struct dp_conntrack *ct, uint32_t z)
{
    struct dp_zone *zone = &ct->zones[z];
    uint32_t cut;

    dp_conntrack_meet(ct, z);
    cut = zone->cut;
    zone->cut = 0;
    make_room(ct, zone);
    return cut;
}

void dp_conntrack_all_cut(struct dp_conntrack *ct)
{
    ct->cutting = NULL;
    ct->n_cutting = 0;
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
}

bool dp_conntrack_empty_some(struct dp_conntrack *ct, uint32_t z, uint32_t *removals)
{
    struct dp_zone *zone = &ct->zones[z];
    uint32_t first;

    dp_zone_queues_settle(&ct->queues);
    for (int q = 0; q < DP_QUEUES; q++)
        while ((first = dp_zone_queues_first(&ct->queues, z, q))) {
            if (*removals == 0)
                return false;
            --*removals;
            dp_conntrack_remove(ct, first);
        }
    free(zone->cuts);
    zone->cuts = NULL;
    zone->n_cuts = zone->cut_room = 0;
    return true;
}
