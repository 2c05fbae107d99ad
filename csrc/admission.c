/* admission.c: admission.h in code: what a flood is called, shares, whose entry goes. */
#include "admission.h"

static uint32_t largest_zone(const struct dp_conntrack *ct, uint32_t more_than, enum dp_queue queue)
{
    uint32_t found = ct->n_zones;

    if (queue == DP_QUEUE_TENTATIVE && ct->victim < ct->n_zones && ct->zones[ct->victim].entries > more_than &&
        dp_zone_queues_first(&ct->queues, ct->victim, DP_QUEUE_TENTATIVE))
        return ct->victim;
    for (uint32_t z = 0; z < ct->n_zones; z++)
        if (ct->zones[z].entries > more_than && dp_zone_queues_first(&ct->queues, z, queue)) {
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

static bool drop_oldest(struct dp_conntrack *ct, uint32_t zone, enum dp_queue queue)
{
    uint32_t oldest = zone < ct->n_zones ? dp_zone_queues_first(&ct->queues, zone, queue) : 0;
    const struct dp_entry *e = &ct->table.entries[oldest];

    if (!oldest)
        return false;
    ct->flood[flood_of((uint8_t)e->zone_protocol, e->state)].dropped_early++;
    ct->early_drops++;
    dp_conntrack_remove(ct, oldest);
    return true;
}

static bool drop_oldest_of_largest(struct dp_conntrack *ct, uint32_t more_than, enum dp_queue queue)
{
    return drop_oldest(ct, largest_zone(ct, more_than, queue), queue);
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
    dp_zone_queues_settle(&ct->queues);
    own = ct->zones[zone].entries;
    if (own >= share && drop_oldest(ct, zone, DP_QUEUE_TENTATIVE))
        return true;
    most = own > share ? own : share;
    ct->victim = largest_zone(ct, most, DP_QUEUE_TENTATIVE);
    if (drop_oldest(ct, ct->victim, DP_QUEUE_TENTATIVE))
        return true;
    if (own >= share)
        return false;
    return drop_oldest_of_largest(ct, 0, DP_QUEUE_TENTATIVE) || drop_oldest_of_largest(ct, share, DP_QUEUE_STEADY);
}

uint32_t dp_admission_give_way(struct dp_conntrack *ct, uint32_t n)
{
    uint32_t given = 0;

    dp_zone_queues_settle(&ct->queues);
    while (given < n && (drop_oldest_of_largest(ct, 0, DP_QUEUE_TENTATIVE) ||
                         drop_oldest_of_largest(ct, fair_share(ct), DP_QUEUE_STEADY)))
        given++;
    return given;
}

void dp_admission_refuse(struct dp_conntrack *ct, uint32_t zone, uint8_t protocol, uint8_t state)
{
    struct dp_flood_counter *flood = &ct->flood[flood_of(protocol, state)];

    flood->refused++;
    flood->refused_over_share += ct->zones[zone].entries >= fair_share(ct);
}
