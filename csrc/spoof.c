/* spoof.c: spoof.h in code. */
#include "spoof.h"

#include <string.h>

enum { OPTION_SOURCE_LINK = 1, OPTION_TARGET_LINK = 2, ND_SOLICIT = 135, ND_ADVERT = 136 };

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

static bool holds(const struct dp_endpoints *endpoints, uint32_t zone, const uint8_t *mac, uint32_t family,
                  const union dp_address *address)
{
    if (dp_endpoints_is_held(endpoints, zone, family, address))
        return true;
    return family == 6 && address->byte[0] == 0xfe && (address->byte[1] & 0xc0) == 0x80 &&
           (!mac || made_from(address->byte, mac));
}

/* Who may speak without an address: a DHCP client, and a host that makes sure of its address by ARP or ICMPv6. */
static bool may_be_unspecified(const struct dp_packet *p)
{
    if (p->kind == DP_PACKET_ARP)
        return p->arp_request;
    return p->family == 4 ? p->protocol == DP_PROTO_UDP && p->source_port == 68 && p->destination_port == 67
                          : p->protocol == DP_PROTO_ICMPV6 && p->icmp_class == DP_ICMP_CONTROL;
}

/* Link-layer addresses in the options of a neighbour discovery message, whose first `skip` bytes are no options. */
static bool names_other_mac(const struct dp_packet *p, uint32_t skip, const uint8_t *mac)
{
    uint32_t at = skip;

    while (at + 8 <= p->inside_captured && p->inside[at + 1]) {
        const uint8_t *option = p->inside + at;

        if ((option[0] == OPTION_SOURCE_LINK || option[0] == OPTION_TARGET_LINK) && memcmp(option + 2, mac, 6) != 0)
            return true;
        at += option[1] * 8u;
    }
    return false;
}

static bool discovery_spoofed(const struct dp_endpoints *endpoints, uint32_t zone, const uint8_t *mac,
                              const struct dp_packet *p)
{
    uint32_t type = p->selector >> 8 & 0xff;
    union dp_address target;

    if (type < 133 || type > ND_ADVERT)
        return false;
    if (type == ND_ADVERT) {
        if (p->inside_captured < 16)
            return true;
        memcpy(&target, p->inside, 16);
        if (!holds(endpoints, zone, mac, 6, &target))
            return true;
    }
    return mac && names_other_mac(p, type == ND_SOLICIT || type == ND_ADVERT ? 16 : 0, mac);
}

bool dp_is_spoofed(const struct dp_endpoints *endpoints, uint32_t zone, const uint8_t *mac, const struct dp_packet *p)
{
    if (mac && p->source_mac && memcmp(p->source_mac, mac, 6) != 0)
        return true;
    if (!p->family)
        return p->kind == DP_PACKET_ARP; /* names no address that an instance could hold */
    if (p->kind == DP_PACKET_ARP) {
        if (mac && memcmp(p->inside, mac, 6) != 0)
            return true;
        return is_unspecified(p) ? !may_be_unspecified(p) : !dp_endpoints_is_held(endpoints, zone, 4, &p->source);
    }
    if (is_unspecified(p) ? !may_be_unspecified(p) : !holds(endpoints, zone, mac, p->family, &p->source))
        return true;
    return p->protocol == DP_PROTO_ICMPV6 && p->icmp_class == DP_ICMP_CONTROL &&
           discovery_spoofed(endpoints, zone, mac, p);
}
