/* denied.c: the sketch of denied.h. Buckets are chosen by a plain hash: who floods it makes counts less exact, no more.
 */
#include "denied.h"

#include "memory.h"

#include <string.h>

enum { BUCKETS = 1024, WAYS = 8 };

struct dp_denied_flows {
    struct dp_denied counter[BUCKETS][WAYS];
};

struct dp_denied_flows *dp_denied_new(void)
{
    return dp_reserve(sizeof(struct dp_denied_flows));
}

void dp_denied_free(struct dp_denied_flows *denied)
{
    dp_unreserve(denied, sizeof *denied);
}

void dp_flow_of(const struct dp_packet *packet, struct dp_flow *flow)
{
    size_t size = packet->family == 6 ? 16 : packet->family == 4 ? 4 : 0;

    memset(flow, 0, sizeof *flow);
    memcpy(flow->source, packet->source.byte, size);
    memcpy(flow->destination, packet->destination.byte, size);
    flow->source_port = packet->source_port;
    flow->destination_port = packet->destination_port;
    flow->family = packet->family;
    flow->protocol = packet->protocol;
    flow->arp = packet->kind == DP_PACKET_ARP;
    flow->vlans = packet->vlans;
    if (packet->kind == DP_PACKET_IP && !packet->later_fragment &&
        packet->protocol == (packet->family == 4 ? DP_PROTO_ICMP : DP_PROTO_ICMPV6)) {
        flow->icmp = 1;
        flow->icmp_type = (uint8_t)(packet->selector >> 8);
        flow->icmp_code = (uint8_t)packet->selector;
    }
}

static uint32_t bucket_of(const struct dp_denied *d)
{
    uint64_t h = d->zone * 0x9e3779b97f4a7c15u + d->reason, word;

    for (size_t i = 0; i < sizeof d->flow; i += 8) {
        memcpy(&word, (const uint8_t *)&d->flow + i, 8);
        h = (h ^ word) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    return (uint32_t)(h % BUCKETS);
}

static bool same(const struct dp_denied *a, const struct dp_denied *b)
{
    return a->zone == b->zone && a->direction == b->direction && a->reason == b->reason &&
           memcmp(&a->flow, &b->flow, sizeof a->flow) == 0;
}

void dp_denied_count(struct dp_denied_flows *denied, const struct dp_packet *packet, const struct dp_check *check,
                     uint32_t length)
{
    struct dp_denied key = {.zone = check->zone, .direction = check->direction, .reason = check->reason};
    struct dp_denied *bucket, *least;

    dp_flow_of(packet, &key.flow);
    key.flow.source_port = 0;
    key.flow.icmp = key.flow.icmp_type = key.flow.icmp_code = 0;
    key.flow.vlans = 0;
    bucket = denied->counter[bucket_of(&key)];
    least = bucket;
    for (int way = 0; way < WAYS; way++) {
        if (bucket[way].count.packets && same(&bucket[way], &key)) {
            bucket[way].count.packets++;
            bucket[way].count.bytes += length;
            return;
        }
        if (bucket[way].count.packets < least->count.packets)
            least = &bucket[way];
    }
    key.overcount = least->count.packets;
    key.count.packets = least->count.packets + 1;
    key.count.bytes = least->count.bytes + length;
    *least = key;
}

void dp_denied_forget(struct dp_denied_flows *denied, const struct dp_retired *retired)
{
    for (uint32_t i = 0; i < BUCKETS * WAYS; i++) {
        struct dp_denied *d = &denied->counter[i / WAYS][i % WAYS];

        if (d->count.packets && d->zone < retired->n_zones && retired->zones[d->zone])
            *d = (struct dp_denied){0};
    }
}

int dp_denied_largest(const struct dp_denied_flows *denied, struct dp_denied *out, uint32_t n)
{
    uint32_t have = 0;

    for (uint32_t i = 0; i < BUCKETS * WAYS && n > 0; i++) {
        const struct dp_denied *d = &denied->counter[i / WAYS][i % WAYS];
        uint32_t at;

        if (d->count.packets == 0 || (have == n && d->count.packets <= out[n - 1].count.packets))
            continue;
        if (have < n)
            have++;
        for (at = have - 1; at > 0 && out[at - 1].count.packets < d->count.packets; at--)
            out[at] = out[at - 1];
        out[at] = *d;
    }
    return (int)have;
}
