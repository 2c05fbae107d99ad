/*
 * flow_match.c: which flows a filter selects.
 *
 * A filter has up to three tests, joined by "and": a prefix that holds the source or the destination address, a port
 * that is the source or the destination port, an IP protocol (a frame without IP, and ARP, has none). Address and port
 * may match on different sides. Only protocols that have ports (SPEC 4.7) match a port; what other protocols keep in
 * these fields is no port. A prefix is compared in its first `bits` bits; what stands behind them is ignored.
 */
#include "../dp_api.h"

#include <limits.h>
#include <stdbool.h>
#include <string.h>

enum { ANY = -1 };

/* An address or a mask as two words in memory order: good for comparing bits in place, for nothing else. */
struct bits128 {
    uint64_t part[2];
};

static struct bits128 load_bits(const uint8_t *bytes)
{
    struct bits128 bits;
    memcpy(&bits, bytes, sizeof bits);
    return bits;
}

static struct bits128 mask_of(uint32_t prefix_bits)
{
    uint8_t bytes[16] = {0};
    for (uint32_t i = 0; i < prefix_bits; i++)
        bytes[i / 8] |= (uint8_t)(0x80 >> i % 8);
    return load_bits(bytes);
}

static bool in_prefix(const uint8_t *address, const struct bits128 *prefix, const struct bits128 *mask)
{
    struct bits128 bits = load_bits(address);
    return (((bits.part[0] ^ prefix->part[0]) & mask->part[0]) | ((bits.part[1] ^ prefix->part[1]) & mask->part[1])) ==
           0;
}

static bool has_ports(uint8_t protocol)
{
    switch (protocol) {
    case 6:   /* TCP */
    case 17:  /* UDP */
    case 33:  /* DCCP */
    case 132: /* SCTP */
    case 136: /* UDP-Lite */
        return true;
    default:
        return false;
    }
}

static bool filter_valid(const struct dp_flow_filter *filter)
{
    uint32_t widest = filter->family == 4 ? 32 : filter->family == 6 ? 128 : UINT32_MAX;
    bool family = filter->family == 0 || filter->family == 4 || filter->family == 6;
    return family && filter->address.bits <= widest && filter->port >= ANY && filter->port <= UINT16_MAX &&
           filter->protocol >= ANY && filter->protocol <= UINT8_MAX;
}

int dp_flows_match(const struct dp_flow *flows, uint32_t n, const struct dp_flow_filter *filter, uint32_t *indices)
{
    if (!filter || n > INT_MAX || (n && (!flows || !indices)) || !filter_valid(filter))
        return DP_E_ARGUMENT;
    struct bits128 mask = mask_of(filter->family ? filter->address.bits : 0);
    struct bits128 prefix = load_bits(filter->address.address);
    uint32_t found = 0;
    for (uint32_t i = 0; i < n; i++) {
        const struct dp_flow *flow = &flows[i];
        if (filter->protocol != ANY && (flow->family == 0 || flow->arp || flow->protocol != filter->protocol))
            continue;
        if (filter->family && (flow->family != filter->family || (!in_prefix(flow->source, &prefix, &mask) &&
                                                                  !in_prefix(flow->destination, &prefix, &mask))))
            continue;
        if (filter->port != ANY && (!has_ports(flow->protocol) ||
                                    (flow->source_port != filter->port && flow->destination_port != filter->port)))
            continue;
        indices[found++] = i;
    }
    return (int)found;
}
