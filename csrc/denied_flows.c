/*
 * denied_flows.c: the sketch of denied_flows.h. Buckets are chosen by a plain hash: who floods it makes counts less
 * exact, no more.
 */
#include "denied_flows.h"

#include "memory.h"

#include <string.h>

enum { BUCKETS = DP_DENIED_KEPT / 8, WAYS = 8 };

struct dp_denied_flows {
    struct dp_denied counter[BUCKETS][WAYS];
};

struct dp_denied_flows *dp_denied_new(void)
{
    return dp_reserve(sizeof(struct dp_denied_flows));
}

void dp_denied_populate(struct dp_denied_flows *denied)
{
    dp_populate(denied, sizeof *denied);
}

void dp_denied_free(struct dp_denied_flows *denied)
{
    dp_unreserve(denied, sizeof *denied);
}

/* Whether ports, or an ICMP type, were read. Where the transport header was cut or lies, ports are 0. */
static bool is_transport_read(const struct dp_packet *packet)
{
    if (packet->kind == DP_PACKET_IP || packet->cause == DP_CAUSE_BAD_CHECKSUM)
        return !packet->later_fragment && !packet->tiny_fragment &&
               (dp_has_ports(packet->protocol) ||
                packet->protocol == (packet->family == 4 ? DP_PROTO_ICMP : DP_PROTO_ICMPV6));
    return packet->source_port || packet->destination_port;
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
    flow->transport = is_transport_read(packet);
    flow->vlans = packet->vlans;
    if (packet->kind == DP_PACKET_IP && flow->transport && !dp_has_ports(packet->protocol)) {
        flow->icmp = 1;
        flow->icmp_type = (uint8_t)(packet->selector >> 8);
        flow->icmp_code = (uint8_t)packet->selector;
    }
}

/* One bucket has all directions, reasons and causes of a flow. */
static struct dp_denied *bucket_of(struct dp_denied_flows *denied, uint32_t zone, const struct dp_flow *flow)
{
    uint64_t h = zone * 0x9e3779b97f4a7c15u, word;

    for (size_t i = 0; i < sizeof *flow; i += 8) {
        memcpy(&word, (const uint8_t *)flow + i, 8);
        h = (h ^ word) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    return denied->counter[h % BUCKETS];
}
_Static_assert(sizeof(struct dp_flow) % 8 == 0, "a flow is hashed as words");

static bool same(const struct dp_denied *a, const struct dp_denied *b)
{
    return a->zone == b->zone && a->direction == b->direction && a->reason == b->reason && a->cause == b->cause &&
           memcmp(&a->flow, &b->flow, sizeof a->flow) == 0;
}

/* Whether a packet is denied for the want of a connection, which others may be the cause of. */
static bool unconnected(uint32_t cause)
{
    return cause == DP_CAUSE_TCP_NO_CONNECTION || cause == DP_CAUSE_ICMP_UNSOLICITED;
}

/* The counter of a flow's first packets, the largest where it has several; NULL if there is none. */
static struct dp_denied *first_packets(struct dp_denied_flows *denied, uint32_t zone, uint32_t direction,
                                       const struct dp_flow *flow)
{
    struct dp_denied *bucket = bucket_of(denied, zone, flow), *found = NULL;

    for (int way = 0; way < WAYS; way++) {
        struct dp_denied *d = &bucket[way];

        if (d->count.packets && d->reason != DP_REASON_INVALID && d->zone == zone && d->direction == direction &&
            memcmp(&d->flow, flow, sizeof *flow) == 0 && (!found || found->count.packets < d->count.packets))
            found = d;
    }
    return found;
}

/* The flow that a flow's packets answer. */
static struct dp_flow flow_answered(const struct dp_flow *flow, uint16_t source_port)
{
    struct dp_flow answered = *flow;

    memcpy(answered.source, flow->destination, sizeof answered.source);
    memcpy(answered.destination, flow->source, sizeof answered.destination);
    answered.destination_port = source_port;
    return answered;
}

/* The counter of what a packet without a connection is a consequence of; NULL if there is none. */
static struct dp_denied *cause_of(struct dp_denied_flows *denied, const struct dp_denied *key, uint16_t source_port)
{
    struct dp_denied *cause = first_packets(denied, key->zone, key->direction, &key->flow);
    struct dp_flow answered = flow_answered(&key->flow, source_port);

    if (cause)
        return cause;
    return first_packets(denied, key->zone, key->direction == DP_INGRESS ? DP_EGRESS : DP_INGRESS, &answered);
}

static void add(struct dp_counter *counter, uint32_t length)
{
    counter->packets++;
    counter->bytes += length;
}

/* Of a connection that a change has cut; an ICMP error about it is none of its packets. */
static bool is_answer_of_disconnected(const struct dp_flow *flow, const struct dp_check *check)
{
    return check->reason == DP_REASON_DISCONNECTED && check->origin == DP_INBOUND && check->direction == DP_EGRESS &&
           flow->transport && dp_has_ports(flow->protocol);
}

bool dp_denied_count(struct dp_denied_flows *denied, const struct dp_packet *packet, const struct dp_check *check,
                     uint32_t length)
{
    struct dp_flow flow;

    dp_flow_of(packet, &flow);
    return dp_denied_count_flow(denied, &flow, check, length);
}

bool dp_denied_count_flow(struct dp_denied_flows *denied, const struct dp_flow *flow, const struct dp_check *check,
                          uint32_t length)
{
    struct dp_denied key = {
        .zone = check->zone, .direction = check->direction, .reason = check->reason, .cause = check->cause};
    struct dp_denied *bucket, *least;

    key.flow = *flow;
    key.flow.source_port = 0;
    key.flow.icmp = key.flow.icmp_type = key.flow.icmp_code = 0;
    key.flow.vlans = 0;
    if (is_answer_of_disconnected(flow, check)) {
        key.flow = flow_answered(&key.flow, flow->source_port);
        key.direction = DP_INGRESS;
    }
    if (unconnected(key.cause) && flow->transport) {
        /* An ICMP query's identifier is no port. */
        struct dp_denied *cause = cause_of(denied, &key, flow->protocol == DP_PROTO_TCP ? flow->source_port : 0);

        if (cause) {
            add(&cause->consequences, length);
            return true;
        }
    }
    bucket = bucket_of(denied, key.zone, &key.flow);
    least = bucket;
    for (int way = 0; way < WAYS; way++) {
        if (bucket[way].count.packets && same(&bucket[way], &key)) {
            add(&bucket[way].count, length);
            return false;
        }
        if (bucket[way].count.packets < least->count.packets)
            least = &bucket[way];
    }
    key.overcount = least->count.packets;
    key.count.packets = least->count.packets + 1;
    key.count.bytes = least->count.bytes + length;
    *least = key;
    return false;
}

int dp_denied_order(const void *a, const void *b)
{
    const struct dp_denied *x = a, *y = b;
    uint64_t packets_x = x->count.packets + x->consequences.packets;
    uint64_t packets_y = y->count.packets + y->consequences.packets;
    bool last_x = unconnected(x->cause), last_y = unconnected(y->cause);

    if (last_x != last_y)
        return last_x - last_y;
    if (packets_x != packets_y)
        return packets_x < packets_y ? 1 : -1;
    return dp_denied_order_by_flow(a, b);
}

int dp_denied_order_by_flow(const void *a, const void *b)
{
    return memcmp(a, b, offsetof(struct dp_denied, count));
}

void dp_denied_forget(struct dp_denied_flows *denied, const struct dp_retired *retired)
{
    for (uint32_t i = 0; i < BUCKETS * WAYS; i++) {
        struct dp_denied *d = &denied->counter[i / WAYS][i % WAYS];

        if (d->count.packets && d->zone < retired->n_zones && retired->zones[d->zone])
            *d = (struct dp_denied){0};
    }
}

uint32_t dp_denied_all(const struct dp_denied_flows *denied, struct dp_denied *out)
{
    uint32_t have = 0;

    for (uint32_t i = 0; i < BUCKETS * WAYS; i++)
        if (denied->counter[i / WAYS][i % WAYS].count.packets)
            out[have++] = denied->counter[i / WAYS][i % WAYS];
    return have;
}

int dp_denied_largest(const struct dp_denied_flows *denied, struct dp_denied *out, uint32_t n)
{
    uint32_t have = 0;

    for (uint32_t i = 0; i < BUCKETS * WAYS && n > 0; i++) {
        const struct dp_denied *d = &denied->counter[i / WAYS][i % WAYS];
        uint32_t at;

        if (d->count.packets == 0 || (have == n && dp_denied_order(d, &out[n - 1]) >= 0))
            continue;
        if (have < n)
            have++;
        for (at = have - 1; at > 0 && dp_denied_order(d, &out[at - 1]) < 0; at--)
            out[at] = out[at - 1];
        out[at] = *d;
    }
    return (int)have;
}
