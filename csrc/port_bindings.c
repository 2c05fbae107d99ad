/* port_bindings.c: port_bindings.h in code: two tables with open addressing, never more than half full. */
#include "port_bindings.h"

#include <string.h>

enum { BITS = 11 };

_Static_assert(1 << BITS == DP_BINDINGS_SLOTS, "the hash yields a slot");
_Static_assert(sizeof(struct dp_bindings) == 20 * DP_BINDINGS_SLOTS, "40 KB");

static uint32_t slot_of(const uint8_t *mac)
{
    uint64_t key = 0;

    memcpy(&key, mac, 6);
    return (uint32_t)(key * 0x9e3779b97f4a7c15u >> (64 - BITS));
}

static uint32_t slot_of_zone(uint32_t zone)
{
    return zone * 0x9e3779b1u >> (32 - BITS);
}

void dp_bindings_add(struct dp_bindings *served, uint32_t number, const struct dp_port *port)
{
    uint32_t at;

    if (port->has_mac) {
        for (at = slot_of(port->mac); served->mac[at].port; at = (at + 1) % DP_BINDINGS_SLOTS)
            ;
        served->mac[at] =
            (struct dp_bound_mac){.port = (uint16_t)(number + 1), .zone = port->zone, .balancer = port->balancer};
        memcpy(served->mac[at].mac, port->mac, sizeof port->mac);
    }
    if (port->zone != DP_ZONE_NONE) {
        for (at = slot_of_zone((uint32_t)port->zone); served->zone[at]; at = (at + 1) % DP_BINDINGS_SLOTS)
            ;
        served->zone[at] = (uint32_t)port->zone + 1;
    }
}

const struct dp_bound_mac *dp_bindings_find(const struct dp_bindings *served, const uint8_t *mac)
{
    for (uint32_t at = slot_of(mac); served->mac[at].port; at = (at + 1) % DP_BINDINGS_SLOTS)
        if (memcmp(served->mac[at].mac, mac, sizeof served->mac[at].mac) == 0)
            return &served->mac[at];
    return NULL;
}

bool dp_bindings_has_zone(const struct dp_bindings *served, uint32_t zone)
{
    for (uint32_t at = slot_of_zone(zone); served->zone[at]; at = (at + 1) % DP_BINDINGS_SLOTS)
        if (served->zone[at] == zone + 1)
            return true;
    return false;
}

static enum dp_guard guard_of(const struct dp_port *port)
{
    if (port->zone != DP_ZONE_NONE)
        return port->guarded ? DP_GUARD_INSTANCE : DP_GUARD_OPEN;
    return port->balancer ? DP_GUARD_BALANCER : DP_GUARD_OUTSIDE;
}

void dp_place_make(struct dp_place *place, const struct dp_bindings *served, const struct dp_port *in,
                   const struct dp_port *out)
{
    *place = (struct dp_place){
        .zone = {[DP_EGRESS] = (uint32_t)in->zone, [DP_INGRESS] = (uint32_t)(out ? out->zone : DP_ZONE_NONE)},
        .balancer = {[DP_EGRESS] = out ? out->balancer : 0, [DP_INGRESS] = in->balancer},
        .served = served,
        .mac = in->has_mac && in->zone != DP_ZONE_NONE ? in->mac : NULL,
        .guard = (uint8_t)guard_of(in),
    };
}
