/*
 * link.c: link.h in code.
 *
 * 802.3. A type field up to 1,500 is a length (IEEE 802.3, 3.2.6), and LLC follows: IP behind SNAP (RFC 1042), or
 * behind the service access point of IP (RFC 948).
 *
 * NULL and LOOP. Four bytes hold the sender's own number of an address family: 2 for IPv4 everywhere, and for IPv6
 * another with each system. They stand in its byte order, or in network order (LOOP), and writers confuse the two: as
 * the numbers are small, either order can be told.
 *
 * PKTAP and NFLOG carry a header of their own, in the byte order of the machine that wrote it: little-endian for PKTAP,
 * since no other machine has it; for NFLOG, the order in which the lengths fit.
 */
#include "link.h"

#include "bytes.h"

#include <stdbool.h>

enum { LINK_TAGS_MAX = 8 };

/* Up to it the field is a length (IEEE 802.3). */
enum { LENGTH_MAX = 1500 };

enum { COOKED_LLC = 4 };

enum { PPP_IPV4 = 0x0021, PPP_IPV6 = 0x0057, PPP_MPLS = 0x0281, PPP_MPLS_UPSTREAM = 0x0283 };

static uint16_t little16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t little32(const uint8_t *p)
{
    return __builtin_bswap32(dp_get32(p));
}

/* ---- what several link layers carry ---- */

/* MPLS says nothing of what it carries: after the last label, a first nibble of 4 or 6 is taken for IP (RFC 4928, 2).
 */
static enum dp_network walk_mpls(struct dp_reader *r)
{
    for (int labels = 0; labels < LINK_TAGS_MAX; labels++) {
        const uint8_t *p = dp_take(r, 4);

        if (!p)
            break;
        if (p[2] & 1)
            return r->captured > 0 && (r->at[0] >> 4 == 4 || r->at[0] >> 4 == 6) ? DP_NETWORK_IP : DP_NETWORK_OTHER;
    }
    return DP_NETWORK_OTHER;
}

/* A PPP frame from its protocol field on, one byte of which may have been left out (RFC 1661, 6.5). */
static enum dp_network walk_ppp_protocol(struct dp_reader *r)
{
    const uint8_t *p = dp_take(r, 1), *low = p;
    uint16_t protocol;

    if (!p)
        return DP_NETWORK_OTHER;
    if (!(p[0] & 1)) {
        low = dp_take(r, 1);
        if (!low)
            return DP_NETWORK_OTHER;
    }
    protocol = low == p ? p[0] : (uint16_t)(p[0] << 8 | low[0]);
    switch (protocol) {
    case PPP_IPV4:
        return DP_NETWORK_IPV4;
    case PPP_IPV6:
        return DP_NETWORK_IPV6;
    case PPP_MPLS:
    case PPP_MPLS_UPSTREAM:
        return walk_mpls(r);
    default:
        return DP_NETWORK_OTHER;
    }
}

static enum dp_network walk_pppoe(struct dp_reader *r, struct dp_link_header *header)
{
    const uint8_t *p = dp_take(r, 6);
    uint32_t payload;

    if (!p || p[0] != 0x11 || p[1] != 0)
        return DP_NETWORK_OTHER;
    payload = dp_get16(p + 4);
    if (payload > r->length)
        return DP_NETWORK_OTHER;
    header->trailer += r->length - payload;
    dp_limit(r, payload);
    return walk_ppp_protocol(r);
}

static enum dp_network walk_ethertype(struct dp_reader *r, struct dp_link_header *header, uint16_t type);

static enum dp_network walk_llc(struct dp_reader *r, struct dp_link_header *header)
{
    const uint8_t *p = dp_take(r, 3);

    if (!p || p[2] != 3)
        return DP_NETWORK_OTHER;
    if (p[0] == 6 && p[1] == 6)
        return DP_NETWORK_IP;
    if (p[0] != 0xaa || p[1] != 0xaa)
        return DP_NETWORK_OTHER;
    p = dp_take(r, 5);
    if (!p || p[0] || p[1] || p[2] || dp_get16(p + 3) <= LENGTH_MAX)
        return DP_NETWORK_OTHER;
    return walk_ethertype(r, header, dp_get16(p + 3));
}

static enum dp_network walk_ethertype(struct dp_reader *r, struct dp_link_header *header, uint16_t type)
{
    for (int tags = 0; dp_is_vlan_tag(type); tags++) {
        const uint8_t *p = dp_take(r, 4);

        if (!p || tags == LINK_TAGS_MAX)
            return DP_NETWORK_OTHER;
        header->vlans = header->vlans << 12 | (dp_get16(p) & 0xfff);
        type = dp_get16(p + 2);
    }
    switch (type) {
    case DP_ETHERTYPE_IPV4:
        return DP_NETWORK_IPV4;
    case DP_ETHERTYPE_IPV6:
        return DP_NETWORK_IPV6;
    case DP_ETHERTYPE_ARP:
        return DP_NETWORK_ARP;
    case DP_ETHERTYPE_RARP:
        return DP_NETWORK_RARP;
    case DP_ETHERTYPE_MPLS:
    case DP_ETHERTYPE_MPLS_UPSTREAM:
        return walk_mpls(r);
    case DP_ETHERTYPE_PPPOE_SESSION:
        return walk_pppoe(r, header);
    default:
        break;
    }
    if (type > LENGTH_MAX || type > r->length)
        return DP_NETWORK_OTHER;
    header->trailer += r->length - type;
    dp_limit(r, type);
    return walk_llc(r, header);
}

/* ---- the link layers ---- */

static enum dp_network walk_ethernet(struct dp_reader *r, struct dp_link_header *header)
{
    const uint8_t *p = dp_take(r, 14);

    if (!p)
        return DP_NETWORK_OTHER;
    header->destination_mac = p;
    header->source_mac = p + 6;
    return walk_ethertype(r, header, dp_get16(p + 12));
}

static enum dp_network walk_null(struct dp_reader *r)
{
    const uint8_t *p = dp_take(r, 4);
    uint32_t family;

    if (!p)
        return DP_NETWORK_OTHER;
    family = dp_get32(p);
    if (family > 0xffff)
        family = __builtin_bswap32(family);
    switch (family) {
    case 2:
        return DP_NETWORK_IPV4;
    case 10: /* Linux */
    case 23: /* Windows */
    case 24: /* NetBSD, OpenBSD, AIX, Npcap */
    case 26: /* Solaris */
    case 28: /* FreeBSD */
    case 30: /* macOS */
        return DP_NETWORK_IPV6;
    default:
        return DP_NETWORK_OTHER;
    }
}

static enum dp_network walk_cooked(struct dp_reader *r, struct dp_link_header *header, bool version2)
{
    const uint8_t *p = dp_take(r, version2 ? 20 : 16);
    uint16_t hardware, size, type;

    if (!p)
        return DP_NETWORK_OTHER;
    hardware = dp_get16(version2 ? p + 8 : p + 2);
    size = version2 ? p[11] : dp_get16(p + 4);
    type = dp_get16(version2 ? p : p + 14);
    if (hardware == 1 && size == 6)
        header->source_mac = version2 ? p + 12 : p + 6;
    if (type == COOKED_LLC)
        return walk_llc(r, header);
    return type > LENGTH_MAX ? walk_ethertype(r, header, type) : DP_NETWORK_OTHER;
}

/* Cisco's HDLC: an address, a control byte, an Ethernet type. */
static enum dp_network walk_cisco(struct dp_reader *r, struct dp_link_header *header)
{
    const uint8_t *p = dp_take(r, 4);
    uint16_t type;

    if (!p || (p[0] != 0x0f && p[0] != 0x8f))
        return DP_NETWORK_OTHER;
    type = dp_get16(p + 2);
    return type > LENGTH_MAX ? walk_ethertype(r, header, type) : DP_NETWORK_OTHER;
}

/* PPP as it stands, or in HDLC-like framing, whose address some writers replace by a direction or put one before. */
static enum dp_network walk_ppp(struct dp_reader *r, struct dp_link_header *header)
{
    const uint8_t *p = r->at;

    if (r->captured >= 3 && p[0] <= 1 && p[1] == 0xff && p[2] == 3)
        (void)dp_take(r, 3);
    else if (r->captured >= 2 && (p[0] <= 1 || p[0] == 0xff) && p[1] == 3)
        (void)dp_take(r, 2);
    else if (r->captured >= 1 && (p[0] == 0x0f || p[0] == 0x8f))
        return walk_cisco(r, header);
    return walk_ppp_protocol(r);
}

enum { NFLOG_HEADER = 4, NFLOG_ATTRIBUTE = 4, NFLOG_PAYLOAD = 9 };

/* Moves a reader that stands on the attributes of an NFLOG packet to its payload; false when there is none. */
static bool find_payload(struct dp_reader *r, bool big)
{
    for (;;) {
        const uint8_t *p = dp_take(r, NFLOG_ATTRIBUTE);
        uint32_t size, type, padded;

        if (!p)
            return false;
        size = big ? dp_get16(p) : little16(p);
        type = (big ? dp_get16(p + 2) : little16(p + 2)) & 0x7fff;
        if (size < NFLOG_ATTRIBUTE || size - NFLOG_ATTRIBUTE > r->length)
            return false;
        if (type == NFLOG_PAYLOAD) {
            dp_limit(r, size - NFLOG_ATTRIBUTE);
            return true;
        }
        padded = (size + 3) & ~3u;
        if (!dp_take(r, padded - NFLOG_ATTRIBUTE))
            return false;
    }
}

static enum dp_network walk_nflog(struct dp_reader *r)
{
    const uint8_t *p = dp_take(r, NFLOG_HEADER);
    struct dp_reader little = *r;

    if (!p || p[1] != 0)
        return DP_NETWORK_OTHER;
    if (find_payload(&little, false))
        *r = little;
    else if (!find_payload(r, true))
        return DP_NETWORK_OTHER;
    switch (p[0]) {
    case 2:
        return DP_NETWORK_IPV4;
    case 10:
        return DP_NETWORK_IPV6;
    default: /* families of several protocols: inet, netdev, bridge */
        return r->captured > 0 && (r->at[0] >> 4 == 4 || r->at[0] >> 4 == 6) ? DP_NETWORK_IP : DP_NETWORK_OTHER;
    }
}

enum { PKTAP_HEADER_MIN = 108, PKTAP_HEADER_MAX = 1024, PKTAP_PACKET = 1 };

static enum dp_network walk(uint32_t link, struct dp_reader *r, struct dp_link_header *header)
{
    switch (link) {
    case DP_LINK_ETHERNET:
        return walk_ethernet(r, header);
    case DP_LINK_RAW:
        return DP_NETWORK_IP;
    case DP_LINK_NULL:
    case DP_LINK_LOOP:
        return walk_null(r);
    case DP_LINK_SLL:
    case DP_LINK_SLL2:
        return walk_cooked(r, header, link == DP_LINK_SLL2);
    case DP_LINK_PPP:
        return walk_ppp(r, header);
    case DP_LINK_PPPOE:
        return walk_pppoe(r, header);
    case DP_LINK_CISCO_HDLC:
        return walk_cisco(r, header);
    case DP_LINK_NFLOG:
        return walk_nflog(r);
    default:
        return DP_NETWORK_OTHER;
    }
}

/* Apple's header names the link type of what follows it. */
static enum dp_network walk_pktap(struct dp_reader *r, struct dp_link_header *header)
{
    const uint8_t *p = r->at;
    uint32_t size;

    if (r->captured < PKTAP_HEADER_MIN)
        return DP_NETWORK_OTHER;
    size = little32(p);
    if (size < PKTAP_HEADER_MIN || size > PKTAP_HEADER_MAX || little32(p + 4) != PKTAP_PACKET || !dp_take(r, size))
        return DP_NETWORK_OTHER;
    return walk(dp_link_of(little32(p + 8)), r, header);
}

enum dp_network dp_link_walk(uint32_t link, struct dp_reader *r, struct dp_link_header *header)
{
    return link == DP_LINK_PKTAP ? walk_pktap(r, header) : walk(link, r, header);
}

uint32_t dp_link_of(uint32_t link_type)
{
    switch (link_type) {
    case 1:
        return DP_LINK_ETHERNET;
    case 12: /* DLT_RAW of most systems, and of OpenBSD the next, written raw by old programs. */
    case 14:
    case 101:
    case 228:
    case 229:
        return DP_LINK_RAW;
    case 0:
        return DP_LINK_NULL;
    case 108:
        return DP_LINK_LOOP;
    case 113:
        return DP_LINK_SLL;
    case 276:
        return DP_LINK_SLL2;
    case 9:
    case 50:
    case 166:
    case 204:
        return DP_LINK_PPP;
    case 51:
        return DP_LINK_PPPOE;
    case 104:
        return DP_LINK_CISCO_HDLC;
    case 239:
        return DP_LINK_NFLOG;
    case 149: /* what macOS writes for PKTAP; everywhere else a user's own, which has no such header */
    case 258:
        return DP_LINK_PKTAP;
    default:
        return DP_LINKS;
    }
}
