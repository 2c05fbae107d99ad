/* top_talkers.c: counters of addresses, in buckets chosen by a plain hash. */
#include "top_talkers.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 128, WAYS = 8 };

struct dp_busiest {
    struct dp_busy_address counter[BUCKETS][WAYS];
};

int dp_busiest_new(struct dp_busiest **busiest)
{
    if (!busiest)
        return DP_E_ARGUMENT;
    *busiest = calloc(1, sizeof **busiest);
    return *busiest ? 0 : DP_E_MEMORY;
}

void dp_busiest_free(struct dp_busiest *busiest)
{
    free(busiest);
}

/* An address that a host can have: not the unspecified one, broadcast or multicast. */
static bool is_of_a_host(const uint8_t *address, uint32_t family)
{
    static const uint8_t none[16];

    if (family == 6)
        return address[0] != 0xff && memcmp(address, none, 16) != 0;
    return family == 4 && address[0] < 224 && memcmp(address, none, 4) != 0;
}

static void count(struct dp_busiest *busiest, const uint8_t *address, uint32_t family)
{
    struct dp_busy_address *bucket, *least;
    uint64_t high, low;

    if (!is_of_a_host(address, family))
        return;
    memcpy(&high, address, 8);
    memcpy(&low, address + 8, 8);
    high = (high ^ family ^ low * 0x9e3779b97f4a7c15u) * 0xff51afd7ed558ccdu;
    bucket = busiest->counter[(high >> 32) % BUCKETS];
    least = bucket;
    for (int way = 0; way < WAYS; way++) {
        if (bucket[way].family == family && memcmp(bucket[way].address, address, 16) == 0) {
            bucket[way].packets++;
            return;
        }
        if (bucket[way].packets < least->packets)
            least = &bucket[way];
    }
    least->overcount = least->packets++;
    least->family = family;
    memcpy(least->address, address, 16);
}

int dp_busiest_count(struct dp_busiest *busiest, const struct dp_record *records, const struct dp_flow *flows,
                     uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const struct dp_flow *flow = &flows[i];

        if (records[i].verdict != DP_BYPASS)
            return 1;
        count(busiest, flow->source, flow->family);
        if (memcmp(flow->source, flow->destination, sizeof flow->source) != 0)
            count(busiest, flow->destination, flow->family);
    }
    return 0;
}

int dp_busiest_largest(const struct dp_busiest *busiest, struct dp_busy_address *out, uint32_t n)
{
    uint32_t have = 0;

    for (uint32_t i = 0; i < BUCKETS * WAYS && n > 0; i++) {
        const struct dp_busy_address *busy = &busiest->counter[i / WAYS][i % WAYS];
        uint32_t at;

        if (busy->packets == 0 || (have == n && busy->packets <= out[n - 1].packets))
            continue;
        if (have < n)
            have++;
        for (at = have - 1; at > 0 && out[at - 1].packets < busy->packets; at--)
            out[at] = out[at - 1];
        out[at] = *busy;
    }
    return (int)have;
}
