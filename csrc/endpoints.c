/* endpoints.c: what endpoints.h asks of the maps. */
#include "endpoints.h"

#include "prefix.h"

#include <string.h>

/* Where the MACs of a zone begin. */
static uint32_t macs_of(const struct dp_endpoints *e, uint32_t zone)
{
    uint32_t low = e->n_balancer_macs, high = e->n_macs;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (e->macs[middle].zone < zone)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The entry of this MAC in a zone: of its interface, else the virtual one of the address; NULL for none. */
static const struct dp_mac *find_mac(const struct dp_endpoints *e, uint32_t zone, const uint8_t *mac, uint32_t family,
                                     const union dp_address *address)
{
    const struct dp_mac *found = NULL;

    for (uint32_t i = macs_of(e, zone); i < e->n_macs && e->macs[i].zone == zone; i++) {
        const struct dp_mac *known = &e->macs[i];

        if (memcmp(known->mac, mac, 6) != 0)
            continue;
        if (!known->family)
            return known;
        if (known->family == family && dp_prefix_covers(&known->pair, address->byte))
            found = known;
    }
    return found;
}

uint32_t dp_endpoints_by_mac(const struct dp_endpoints *e, uint32_t shared, const uint8_t *mac, uint32_t family,
                             const union dp_address *address)
{
    const struct dp_holder_list *list = &e->lists[shared - DP_SHARED];
    uint32_t found = DP_NO_ZONE, virtual = 0;

    for (uint32_t i = 0; mac && i < list->count; i++) {
        const struct dp_mac *known = find_mac(e, e->listed[list->first + i].zone, mac, family, address);

        if (known && !known->family)
            return known->zone;
        if (known && !virtual++)
            found = known->zone;
    }
    return virtual == 1 ? found : DP_NO_ZONE;
}

bool dp_endpoints_is_others_mac(const struct dp_endpoints *e, uint32_t zone, const uint8_t *mac)
{
    bool others = false;

    for (uint32_t at = dp_interface_slot(e, mac); e->interface_macs[at]; at = (at + 1) & e->interface_mask) {
        const struct dp_mac *known = &e->macs[e->interface_macs[at] - 1];

        if (memcmp(known->mac, mac, 6) != 0)
            continue;
        if (known->zone == zone)
            return false;
        others = true;
    }
    return others;
}

uint32_t dp_endpoints_nth_virtual(const struct dp_endpoints *e, uint32_t zone, const uint8_t *mac, uint32_t nth,
                                  union dp_address *address)
{
    for (uint32_t i = macs_of(e, zone); mac && i < e->n_macs && e->macs[i].zone == zone; i++) {
        const struct dp_mac *known = &e->macs[i];

        if (known->family && known->pair.bits == (known->family == 4 ? 32 : 128) && memcmp(known->mac, mac, 6) == 0 &&
            !nth--) {
            memcpy(address, known->pair.address, sizeof *address);
            return known->family;
        }
    }
    return 0;
}

bool dp_endpoints_is_virtual_mac(const struct dp_endpoints *e, uint32_t zone, const uint8_t *mac, uint32_t family,
                                 const union dp_address *address)
{
    if (!e->has_virtual_macs || !mac)
        return false;
    for (uint32_t i = zone == DP_NO_ZONE ? e->n_balancer_macs : macs_of(e, zone);
         i < e->n_macs && (zone == DP_NO_ZONE || e->macs[i].zone == zone); i++) {
        const struct dp_mac *known = &e->macs[i];

        if (known->family && memcmp(known->mac, mac, 6) == 0 &&
            (!address || (known->family == family && dp_prefix_covers(&known->pair, address->byte))))
            return true;
    }
    return false;
}

bool dp_endpoints_holds(const struct dp_endpoints *e, uint32_t shared, uint32_t zone)
{
    const struct dp_holder_list *list = &e->lists[shared - DP_SHARED];

    for (uint32_t i = 0; i < list->count; i++)
        if (e->listed[list->first + i].zone == zone)
            return true;
    return false;
}

uint32_t dp_endpoints_first(const struct dp_endpoints *e, uint32_t shared)
{
    return e->listed[e->lists[shared - DP_SHARED].first].zone;
}

bool dp_endpoints_has_shared(const struct dp_endpoints *e)
{
    return e && e->n_lists > 0;
}

bool dp_endpoints_is_overlap(const struct dp_endpoints *e, uint32_t shared)
{
    return dp_holders_overlap(e, &e->lists[shared - DP_SHARED]);
}

bool dp_endpoints_overlaps(const struct dp_endpoints *e, uint32_t zone)
{
    return zone < e->n_overlaps && e->overlaps[zone];
}

/* What an address leads to, DP_NO_ZONE for nothing. */
static inline uint32_t look_up(const struct dp_endpoints *e, uint32_t family, const union dp_address *address)
{
    uint32_t value = family == 4 ? dp_single_find4(&e->single, address->word[0]) : dp_single_find6(&e->single, address);

    if (value == DP_NO_ZONE)
        value = dp_trie_lookup(&e->prefixes[family == 6], address->byte);
    return value == DP_HELD_BY_NOBODY ? DP_NO_ZONE : value;
}

uint32_t dp_endpoints_find(const struct dp_endpoints *e, uint32_t family, const union dp_address *address)
{
    return dp_endpoint_zone(look_up(e, family, address));
}

const struct dp_single_addresses *dp_endpoints_single(const struct dp_endpoints *e)
{
    return &e->single;
}

uint32_t dp_endpoints_own(const struct dp_endpoints *e, uint32_t family, const union dp_address *address, uint32_t nth)
{
    uint32_t value = look_up(e, family, address);
    const struct dp_holder_list *list;

    if (value == DP_NO_ZONE)
        return DP_NO_ZONE;
    if (value < DP_SHARED)
        return nth == 0 && !(value & DP_ENDPOINT_VIRTUAL) ? value : DP_NO_ZONE;
    list = &e->lists[value - DP_SHARED];
    return nth < list->count && !e->listed[list->first + nth].virtual_ip ? e->listed[list->first + nth].zone
                                                                         : DP_NO_ZONE;
}

bool dp_endpoints_is_held(const struct dp_endpoints *e, uint32_t zone, uint32_t family, const union dp_address *address)
{
    uint32_t found = dp_endpoints_find(e, family, address);

    return dp_is_shared(found) ? dp_endpoints_holds(e, found, zone) : found == zone;
}

bool dp_endpoints_is_backend(const struct dp_endpoints *e, uint32_t balancer, uint32_t zone)
{
    for (uint32_t i = 0; i < e->n_backends; i++)
        if (e->backends[i].balancer == balancer && e->backends[i].zone == zone)
            return true;
    return false;
}

bool dp_endpoints_has_balancers(const struct dp_endpoints *e)
{
    return e->n_backends != 0;
}

bool dp_endpoints_is_balancer(const struct dp_endpoints *e, uint32_t zone, uint32_t family,
                              const union dp_address *address, const uint8_t *mac, bool portless)
{
    size_t size = family == 4 ? 4 : 16;

    for (uint32_t i = 0; i < e->n_balancers; i++)
        if (e->balancers[i].family == family && !(portless && e->balancers[i].has_port) &&
            memcmp(e->balancers[i].address, address->byte, size) == 0 &&
            dp_endpoints_is_backend(e, e->balancers[i].balancer, zone))
            return true;
    for (uint32_t i = 0; mac && i < e->n_balancer_macs; i++)
        if (!(portless && e->macs[i].has_port) && memcmp(e->macs[i].mac, mac, 6) == 0 &&
            dp_endpoints_is_backend(e, e->macs[i].balancer, zone))
            return true;
    return false;
}

bool dp_endpoints_is_balancer_mac(const struct dp_endpoints *e, const uint8_t *mac)
{
    for (uint32_t i = 0; i < e->n_balancer_macs; i++)
        if (memcmp(e->macs[i].mac, mac, 6) == 0)
            return true;
    return false;
}

uint32_t dp_endpoints_balancer_at_port(const struct dp_endpoints *e, uint32_t family, const union dp_address *address)
{
    for (uint32_t i = 0; i < e->n_balancers; i++)
        if (e->balancers[i].has_port && e->balancers[i].family == family &&
            memcmp(e->balancers[i].address, address->byte, family == 4 ? 4 : 16) == 0)
            return e->balancers[i].balancer;
    return 0;
}
