/*
 * packet.h: what one frame says, read once.
 *
 * dp_packet_parse() walks the link header, VLAN tags, MPLS labels or PPPoE, the IP header with its options or
 * extension headers, and the transport header. It allocates nothing and reads only bytes that were captured; a header
 * that the capture cut, or whose own lengths do not fit, makes the packet malformed with a cause. A struct dp_packet
 * points into the frame and lives no longer than it.
 */
#ifndef DP_PACKET_H
#define DP_PACKET_H

#include "dp_api.h"
#include "icmp.h"
#include "tcp_segment.h"
#include "wire.h"

#include <stdbool.h>

enum dp_packet_kind {
    DP_PACKET_OTHER,    /* no IP and no ARP */
    DP_PACKET_ARP,      /* addresses are the sender's and target's */
    DP_PACKET_IP,       /* family, addresses, protocol and what follows are set */
    DP_PACKET_MALFORMED /* cause is set; family and addresses too where they could be read */
};

/* An IPv4 address is its first word as it stands in the packet, an IPv6 address all four. */
union dp_address {
    uint32_t word[4];
    uint8_t byte[16];
};

/* What an ICMP message is to connection tracking (SPEC 4.5, 4.8). */
enum dp_icmp_class {
    DP_ICMP_UNKNOWN,
    DP_ICMP_REQUEST,
    DP_ICMP_REPLY,
    DP_ICMP_ERROR,
    DP_ICMP_CONTROL,           /* from here on: control traffic. Neighbour discovery and MLD, well-formed */
    DP_ICMP_CONTROL_FROM_HOST, /* router advertisement or redirect: never from an instance */
    DP_ICMP_CONTROL_BROKEN     /* one of these, but not well-formed */
};

struct dp_packet {
    union dp_address source;
    union dp_address destination;
    uint16_t source_port; /* also: ICMP query identifier; 0 where the protocol has no ports */
    uint16_t destination_port;
    uint8_t family; /* 4, 6 or 0 */
    uint8_t protocol;
    uint8_t kind;      /* enum dp_packet_kind */
    uint8_t cause;     /* enum dp_cause of a malformed packet */
    uint32_t selector; /* as in struct dp_selector, by the destination port */
    uint8_t icmp_class;
    uint8_t icmp_query;  /* request type of a query's kind */
    bool fragment;       /* one of several; the next fields are set */
    bool later_fragment; /* no transport header in it */
    bool tiny_fragment;  /* a first one that cuts its transport header */
    bool more_fragments;
    bool arp_request;
    bool rarp_request; /* of kind DP_PACKET_OTHER */
    uint32_t fragment_id;
    uint32_t fragment_offset;       /* bytes */
    uint32_t fragment_length;       /* bytes of the datagram's payload in it, on the wire */
    uint32_t fragment_header;       /* bytes that the datagram has besides its payload and that count against 65,535 */
    uint32_t vlans;                 /* ids of the outer and inner VLAN tag, 12 bits each; 0 for none */
    const uint8_t *network;         /* the IP header of a packet of kind DP_PACKET_IP */
    const uint8_t *source_mac;      /* NULL where there is none */
    const uint8_t *destination_mac; /* NULL where the link header carries only the sender */
    struct dp_tcp_segment tcp;
    /* NULL for most. The packet that an ICMP error quotes; what follows the first 8 bytes of well-formed neighbour
     * discovery; the 20 bytes of addresses of ARP, or of a request of RARP, and what stands behind them; what UDP
     * or VRRP carries. */
    const uint8_t *inside;
    uint32_t inside_captured;
    uint32_t inside_length; /* on the wire; of ARP, RARP, UDP and VRRP */
    uint32_t trailer;       /* bytes of the frame behind the IP packet */
};

static inline bool dp_is_extension(uint8_t next)
{
    return next == DP_NEXT_HOP_BY_HOP || next == DP_NEXT_ROUTING || next == DP_NEXT_FRAGMENT ||
           next == DP_NEXT_AUTHENTICATION || next == DP_NEXT_DESTINATION || next == DP_NEXT_MOBILITY;
}

/* Bytes of the extension header at `p`, two of which were captured; less than 8 where it says what cannot be. */
static inline uint32_t dp_extension_size(uint8_t next, const uint8_t *p)
{
    if (next == DP_NEXT_FRAGMENT)
        return 8;
    return next == DP_NEXT_AUTHENTICATION ? (p[1] + 2u) * 4 : (p[1] + 1u) * 8;
}

/* Reads `frame` into `packet`. */
void dp_packet_parse(const struct dp_frame *frame, struct dp_packet *packet);

/*
 * Reads the packet that an ICMP error quotes: addresses, protocol, and ports or query identifier. Lengths may point
 * past the quoted bytes, as RFC 792 and RFC 4443 cut them. False when too little is quoted.
 */
bool dp_packet_parse_quoted(const struct dp_packet *error, struct dp_packet *inner);

#endif
