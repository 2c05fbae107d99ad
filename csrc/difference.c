/* difference.c: difference.h in code. */
#include "difference.h"

#include "memory.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { PLACES = DP_DIFFERENCE_BUCKETS * DP_DIFFERENCE_WAYS };

/* One side of a flow; ICMP has no ports, and its identifier is of a query, not of the flow. */
struct end {
    const uint8_t *address;
    uint16_t port;
};

static struct end source_of(const struct dp_flow *flow)
{
    return (struct end){flow->source, flow->icmp ? 0 : flow->source_port};
}

static struct end destination_of(const struct dp_flow *flow)
{
    return (struct end){flow->destination, flow->icmp ? 0 : flow->destination_port};
}

static bool same_end(struct end a, struct end b)
{
    return a.port == b.port && memcmp(a.address, b.address, 16) == 0;
}

static bool same_flow(const struct dp_flow *a, const struct dp_flow *b)
{
    if (a->family != b->family || a->protocol != b->protocol || a->arp != b->arp)
        return false;
    return (same_end(source_of(a), source_of(b)) && same_end(destination_of(a), destination_of(b))) ||
           (same_end(source_of(a), destination_of(b)) && same_end(destination_of(a), source_of(b)));
}

static uint64_t mixed(struct end end)
{
    uint64_t h = end.port, word;

    for (size_t i = 0; i < 16; i += 8) {
        memcpy(&word, end.address + i, 8);
        h = (h ^ word) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    return h;
}

/* The same for both directions. */
static uint32_t bucket_of(const struct dp_flow *flow)
{
    uint64_t h = mixed(source_of(flow)) + mixed(destination_of(flow));

    h = (h ^ (uint64_t)flow->protocol << 8 ^ flow->family) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(h >> 32) % DP_DIFFERENCE_BUCKETS;
}

/* The check that decided: the one that denied, else the last. */
static struct dp_judgement judgement_of(const struct dp_record *record)
{
    struct dp_judgement judgement = {.verdict = record->verdict, .checked = record->checks > 0};

    if (record->checks > 0) {
        judgement.reason = record->check[record->checks - 1].reason;
        judgement.rule = record->check[record->checks - 1].rule;
    }
    return judgement;
}

static void count_flow(struct dp_difference *d, const struct dp_record *before, const struct dp_record *after,
                       const struct dp_flow *flow, uint64_t packet)
{
    struct dp_flow_difference *place = &d->flows[(size_t)bucket_of(flow) * DP_DIFFERENCE_WAYS];

    for (int way = 0; way < DP_DIFFERENCE_WAYS; way++, place++) {
        if (place->packets == 0) {
            place->flow = *flow;
            place->first_packet = packet;
            place->before = judgement_of(before);
            place->after = judgement_of(after);
            d->count.flows++;
        } else if (!same_flow(&place->flow, flow)) {
            continue;
        }
        place->packets++;
        return;
    }
    d->count.packets_not_kept++;
}

int dp_difference_new(struct dp_difference **difference)
{
    struct dp_difference *made = calloc(1, sizeof *made);

    *difference = NULL;
    if (!made)
        return DP_E_MEMORY;
    made->flows = dp_reserve_huge(PLACES * sizeof *made->flows);
    if (!made->flows) {
        free(made);
        return DP_E_MEMORY;
    }
    *difference = made;
    return 0;
}

void dp_difference_free(struct dp_difference *difference)
{
    if (!difference)
        return;
    dp_unreserve(difference->flows, PLACES * sizeof *difference->flows);
    free(difference);
}

void dp_difference_add(struct dp_difference *difference, const uint64_t *numbers, const struct dp_record *before,
                       const struct dp_record *after, const struct dp_flow *flows, uint32_t n)
{
    struct dp_difference_count *count = &difference->count;

    for (uint32_t i = 0; i < n; i++) {
        if (before[i].verdict == after[i].verdict) {
            count->packets_same++;
            continue;
        }
        count->packets_changed++;
        count_flow(difference, &before[i], &after[i], &flows[i],
                   numbers ? numbers[i] : count->packets_same + count->packets_changed);
    }
}

void dp_difference_count(const struct dp_difference *difference, struct dp_difference_count *count)
{
    *count = difference->count;
}

static int by_packets(const void *left, const void *right)
{
    const struct dp_flow_difference *a = left, *b = right;

    if (a->packets != b->packets)
        return a->packets < b->packets ? 1 : -1;
    return a->first_packet < b->first_packet ? -1 : a->first_packet > b->first_packet;
}

uint64_t dp_difference_some(const struct dp_difference *difference, uint64_t *cursor, uint64_t visits,
                            struct dp_flow_difference *flows, uint64_t n)
{
    uint64_t have = 0;

    for (; visits && *cursor < PLACES && have < n; visits--, ++*cursor)
        if (difference->flows[*cursor].packets)
            flows[have++] = difference->flows[*cursor];
    if (*cursor >= PLACES || have == n)
        *cursor = UINT64_MAX;
    return have;
}

void dp_difference_order(struct dp_flow_difference *flows, uint64_t n)
{
    qsort(flows, n, sizeof *flows, by_packets);
}

uint64_t dp_difference_flows(const struct dp_difference *difference, struct dp_flow_difference *flows, uint64_t n)
{
    uint64_t cursor = 0, have = dp_difference_some(difference, &cursor, PLACES, flows, n);

    dp_difference_order(flows, have);
    return have;
}
