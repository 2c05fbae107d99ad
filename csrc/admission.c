/* admission.c: admission.h in code: what a flood is called, shares, whose entry goes. */
#include "admission.h"

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

bool dp_admission_make_room(struct dp_conntrack *ct, uint32_t zone)
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

uint32_t dp_admission_give_way(struct dp_conntrack *ct, uint32_t n)
{
    uint32_t given = 0;

    while (given < n && (drop_oldest(ct, largest_zone(ct, 0, true), true) ||
                         drop_oldest(ct, largest_zone(ct, fair_share(ct), false), false)))
        given++;
    return given;
}

void dp_admission_refuse(struct dp_conntrack *ct, uint32_t zone, uint8_t protocol, uint8_t state)
{
    struct dp_flood_counter *flood = &ct->flood[flood_of(protocol, state)];

    flood->refused++;
    flood->refused_over_share += ct->zones[zone].entries >= fair_share(ct);
}
