/*
 * flow_match.c: which flows a filter selects.
 *
 * A filter has up to three tests, joined by "and": a prefix that holds the source or the destination address, a port
 * that is the source or the destination port, an IP protocol (a frame without IP, and ARP, has none). Address and port
 * may match on different sides. Only protocols that have ports (SPEC 4.7) match a port; what other protocols keep in
 * these fields is no port. A prefix is compared in its first `bits` bits; what stands behind them is ignored.
 */
#include "../dp_text.h"
#include "../prefix.h"
#include "../wire.h"

#include <limits.h>

enum { ANY = -1 };

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
    const struct dp_prefix *prefix = &filter->address;
    uint32_t found = 0;
    for (uint32_t i = 0; i < n; i++) {
        const struct dp_flow *flow = &flows[i];
        if (filter->protocol != ANY && (flow->family == 0 || flow->arp || flow->protocol != filter->protocol))
            continue;
        if (filter->family && (flow->family != filter->family || (!dp_prefix_covers(prefix, flow->source) &&
                                                                  !dp_prefix_covers(prefix, flow->destination))))
            continue;
        if (filter->port != ANY && (!dp_has_ports(flow->protocol) ||
                                    (flow->source_port != filter->port && flow->destination_port != filter->port)))
            continue;
        indices[found++] = i;
    }
    return (int)found;
}
