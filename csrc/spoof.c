/* spoof.c: spoof.h in code. */
#include "spoof.h"

#include "discovery.h"

#include <string.h>

/* ---- by an instance's port ---- */

static bool is_unspecified(const struct dp_packet *p)
{
    static const union dp_address none;

    return memcmp(&p->source, &none, p->family == 4 ? 4 : 16) == 0;
}

static bool made_from(const uint8_t *address, const uint8_t *mac)
{
    return address[8] == (mac[0] ^ 2) && address[9] == mac[1] && address[10] == mac[2] && address[11] == 0xff &&
           address[12] == 0xfe && address[13] == mac[3] && address[14] == mac[4] && address[15] == mac[5];
}

/*
 * Whether a link-local address that the policy does not list for `zone` is its own. Without a MAC of the policy it is
 * the one made from the frame's, and nobody else's; a virtual MAC does not tell it: by that, VRRP's senders have it.
 */
static bool is_own_link_local(const struct dp_endpoints *endpoints, uint32_t zone, const uint8_t *mac,
                              const struct dp_packet *p, const union dp_address *address)
{
    if (mac)
        return made_from(address->byte, mac);
    if (dp_endpoints_own(endpoints, 6, address, 0) != DP_NO_ZONE)
        return false;
    return !p->source_mac || made_from(address->byte, p->source_mac) ||
           (p->protocol == DP_PROTO_VRRP && dp_endpoints_is_virtual_mac(endpoints, zone, p->source_mac, 0, NULL));
}

static bool holds(const struct dp_endpoints *endpoints, uint32_t zone, const uint8_t *mac, const struct dp_packet *p,
                  uint32_t family, const union dp_address *address)
{
    return dp_endpoints_is_held(endpoints, zone, family, address) ||
           (family == 6 && dp_ipv6_is_link_local(address->byte) && is_own_link_local(endpoints, zone, mac, p, address));
}

/*
 * Who may speak without an address: a DHCP client, a host of its groups, and one that makes sure of an address of its
 * own by ARP or ICMPv6 (RFC 5227, 2.1.1; RFC 4862, 5.4): who asked for another's would deny it to its holder.
 */
static bool may_be_unspecified(const struct dp_endpoints *endpoints, uint32_t zone, const uint8_t *mac,
                               const struct dp_packet *p)
{
    union dp_address target;

    if (p->kind == DP_PACKET_ARP)
        return p->arp_request && holds(endpoints, zone, mac, p, 4, &p->destination);
    if (p->family == 4)
        return p->protocol == DP_PROTO_UDP && p->source_port == DP_DHCP_CLIENT && p->destination_port == DP_DHCP_SERVER;
    if (p->protocol != DP_PROTO_ICMPV6 || p->icmp_class != DP_ICMP_CONTROL)
        return false;
    /* Of one that the snap length has cut, nobody can say. */
    if ((p->selector >> 8 & 0xff) != DP_ND_NEIGHBOUR_SOLICITATION || p->inside_captured < sizeof target)
        return true;
    memcpy(&target, p->inside, sizeof target);
    return holds(endpoints, zone, mac, p, 6, &target);
}

/* The options of a neighbour discovery message: behind the target where there is one. */
static struct dp_nd_options options_of(const struct dp_packet *p)
{
    uint32_t type = p->selector >> 8 & 0xff;
    uint32_t skip = type == DP_ND_NEIGHBOUR_SOLICITATION || type == DP_ND_NEIGHBOUR_ADVERTISEMENT ? 16 : 0;

    return (struct dp_nd_options){p->inside + (skip < p->inside_captured ? skip : p->inside_captured),
                                  p->inside + p->inside_captured};
}

/*
 * Link-layer addresses in the options of a neighbour discovery message that are neither the MAC nor the virtual MAC
 * that goes with the address of which they are told.
 */
static bool names_other_mac(const struct dp_endpoints *endpoints, uint32_t zone, const struct dp_packet *p,
                            const uint8_t *mac, const union dp_address *address)
{
    struct dp_nd_options options = options_of(p);
    const uint8_t *told;
    uint8_t kind;

    while ((told = dp_nd_next_link(&options, &kind)) != NULL)
        if (memcmp(told, mac, 6) != 0 && !dp_endpoints_is_virtual_mac(endpoints, zone, told, 6, address))
            return true;
    return false;
}

/* Neighbour discovery or MLD. */
static bool is_discovery(const struct dp_packet *p)
{
    return p->protocol == DP_PROTO_ICMPV6 && p->icmp_class == DP_ICMP_CONTROL;
}

static bool discovery_spoofed(const struct dp_endpoints *endpoints, uint32_t zone, const uint8_t *mac,
                              const struct dp_packet *p)
{
    const uint8_t *own = mac ? mac : p->source_mac;
    uint32_t type = p->selector >> 8 & 0xff;
    union dp_address target;

    if (type < DP_ND_ROUTER_SOLICITATION || type > DP_ND_NEIGHBOUR_ADVERTISEMENT)
        return false;
    if (type == DP_ND_NEIGHBOUR_ADVERTISEMENT) {
        if (p->inside_captured < 16)
            return true;
        memcpy(&target, p->inside, 16);
        if (!holds(endpoints, zone, mac, p, 6, &target))
            return true;
    }
    return own && p->inside &&
           names_other_mac(endpoints, zone, p, own, type == DP_ND_NEIGHBOUR_ADVERTISEMENT ? &target : &p->source);
}

static bool by_instance(const struct dp_endpoints *endpoints, uint32_t zone, const uint8_t *mac,
                        const struct dp_packet *p)
{
    const uint8_t *own = mac ? mac : p->source_mac;

    if (p->kind == DP_PACKET_MALFORMED)
        return false;
    if (p->rarp_request) {
        return own && memcmp(p->inside, own, 6) != 0 &&
               !dp_endpoints_is_virtual_mac(endpoints, zone, p->inside, 0, NULL);
    }
    if (!p->family)
        return p->kind == DP_PACKET_ARP; /* names no address that an instance could hold */
    if (p->kind == DP_PACKET_ARP) {
        if (own && memcmp(p->inside, own, 6) != 0 &&
            !dp_endpoints_is_virtual_mac(endpoints, zone, p->inside, 4, &p->source))
            return true;
        return is_unspecified(p) ? !may_be_unspecified(endpoints, zone, mac, p)
                                 : !dp_endpoints_is_held(endpoints, zone, 4, &p->source);
    }
    if (is_unspecified(p) ? !may_be_unspecified(endpoints, zone, mac, p)
                          : !holds(endpoints, zone, mac, p, p->family, &p->source))
        return true;
    return is_discovery(p) && discovery_spoofed(endpoints, zone, mac, p);
}

/*
 * By a virtual MAC comes what has the virtual IP that it goes with: as the source, or for ARP and neighbour discovery
 * as what they tell (`by_instance` looks at that); and advertisements of VRRP, whose source is the holder's own address
 * (RFC 9568, 5.1.1.2).
 */
static bool by_virtual_mac(const struct dp_endpoints *endpoints, uint32_t zone, const struct dp_packet *p)
{
    if (p->kind != DP_PACKET_IP || p->protocol == DP_PROTO_VRRP || is_discovery(p))
        return p->kind == DP_PACKET_ARP && !dp_endpoints_is_virtual_mac(endpoints, zone, p->source_mac, 4, &p->source);
    return !dp_endpoints_is_virtual_mac(endpoints, zone, p->source_mac, p->family, &p->source);
}

/* ---- who is behind another port ---- */

/* Who has the MAC behind another port than the one that the frame came by. */
static const struct dp_bound_mac *holder(const struct dp_place *place, const uint8_t *mac)
{
    const struct dp_bound_mac *found = place->served && mac ? dp_bindings_find(place->served, mac) : NULL;

    if (found && (uint32_t)found->zone == place->zone[DP_EGRESS] && found->balancer == place->balancer[DP_INGRESS])
        return NULL;
    return found;
}

/* Whether the frame's MAC may not be the sender's. */
static bool from_other_mac(const struct dp_endpoints *endpoints, const struct dp_place *place,
                           const struct dp_packet *p)
{
    uint32_t zone = place->zone[DP_EGRESS];

    if (!p->source_mac || (place->mac && memcmp(p->source_mac, place->mac, 6) == 0))
        return false;
    if (dp_endpoints_is_virtual_mac(endpoints, zone, p->source_mac, 0, NULL))
        return by_virtual_mac(endpoints, zone, p);
    return place->mac || place->mac_taken || p->source_mac[0] & 1 || holder(place, p->source_mac) ||
           (place->served && dp_endpoints_is_others_mac(endpoints, zone, p->source_mac)) ||
           dp_endpoints_is_balancer_mac(endpoints, p->source_mac) ||
           dp_endpoints_is_virtual_mac(endpoints, DP_NO_ZONE, p->source_mac, 0, NULL);
}

static bool is_served_mac(const struct dp_place *place, const uint8_t *mac, uint32_t *whose)
{
    const struct dp_bound_mac *found = holder(place, mac);

    if (found)
        *whose = (uint32_t)found->zone;
    return found != NULL;
}

static bool is_balancers(const struct dp_endpoints *endpoints, const struct dp_place *place, uint32_t family,
                         const union dp_address *address)
{
    uint32_t balancer = dp_endpoints_balancer_at_port(endpoints, family, address);

    return balancer && balancer != place->balancer[DP_INGRESS];
}

static bool is_served(const struct dp_endpoints *endpoints, const struct dp_place *place, uint32_t family,
                      const union dp_address *address, uint32_t *whose)
{
    uint32_t zone, nth = 0;

    if (!place->served)
        return false;
    if (is_balancers(endpoints, place, family, address))
        return true;
    if (family == 6 && dp_ipv6_is_link_local(address->byte) && address->byte[11] == 0xff && address->byte[12] == 0xfe) {
        const uint8_t *a = address->byte;
        uint8_t mac[6] = {a[8] ^ 2, a[9], a[10], a[13], a[14], a[15]};

        if (is_served_mac(place, mac, whose))
            return true;
    }
    for (; (zone = dp_endpoints_own(endpoints, family, address, nth)) != DP_NO_ZONE; nth++) {
        if (!dp_bindings_has_zone(place->served, zone))
            return false;
        *whose = nth ? *whose : zone;
    }
    return nth > 0;
}

/* The options of a neighbour discovery message, as far as they name link-layer addresses. */
static bool names_served_mac(const struct dp_place *place, const struct dp_packet *p, uint32_t *whose)
{
    struct dp_nd_options options = options_of(p);
    const uint8_t *told;
    uint8_t kind;

    while ((told = dp_nd_next_link(&options, &kind)) != NULL)
        if (is_served_mac(place, told, whose))
            return true;
    return false;
}

static bool by_uplink(const struct dp_endpoints *endpoints, const struct dp_place *place, const struct dp_packet *p,
                      uint32_t *whose)
{
    uint32_t type = p->selector >> 8 & 0xff;
    union dp_address target;

    if (place->mac_taken || is_served_mac(place, p->source_mac, whose))
        return true;
    if (p->kind == DP_PACKET_MALFORMED || !p->family)
        return false;
    if (p->kind == DP_PACKET_ARP && is_served_mac(place, p->inside, whose))
        return true;
    if ((place->guard == DP_GUARD_OUTSIDE || p->kind == DP_PACKET_ARP || is_discovery(p)) &&
        is_served(endpoints, place, p->family, &p->source, whose))
        return true;
    if (!is_discovery(p))
        return false;
    if (type == DP_ND_NEIGHBOUR_ADVERTISEMENT && p->inside_captured >= sizeof target) {
        memcpy(&target, p->inside, sizeof target);
        if (is_served(endpoints, place, 6, &target, whose))
            return true;
    }
    return p->inside && names_served_mac(place, p, whose);
}

static bool as_balancer(const struct dp_endpoints *endpoints, const struct dp_place *place, const struct dp_packet *p)
{
    const struct dp_bound_mac *found = holder(place, p->source_mac);

    if (found && found->balancer)
        return true;
    return place->served && p->family && p->kind != DP_PACKET_MALFORMED &&
           is_balancers(endpoints, place, p->family, &p->source) &&
           !dp_endpoints_is_held(endpoints, place->zone[DP_EGRESS], p->family, &p->source);
}

bool dp_is_spoofed(const struct dp_endpoints *endpoints, const struct dp_place *place, const struct dp_packet *p,
                   uint32_t *whose)
{
    *whose = DP_NO_ZONE;
    switch (place->guard) {
    case DP_GUARD_INSTANCE:
        if (from_other_mac(endpoints, place, p))
            return true;
        return by_instance(endpoints, place->zone[DP_EGRESS], place->mac, p);
    case DP_GUARD_OPEN:
        return as_balancer(endpoints, place, p);
    case DP_GUARD_OUTSIDE:
    case DP_GUARD_BALANCER:
        return by_uplink(endpoints, place, p, whose);
    default:
        return false;
    }
}
