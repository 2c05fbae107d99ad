/*
 * packet.c: frame -> struct dp_packet.
 *
 * OVERVIEW. One cursor, `struct dp_reader` (link.h), moves forward through the frame; each layer asks it for as many
 * bytes as its header has and goes no further when they are not there. Two lengths are kept apart: `captured`, which
 * bounds every read, and `length`, what was on the wire, which the headers' own length fields are held against. So a
 * capture cut by its snap length is judged by the headers that it still holds, and a packet that lies about its length
 * is found.
 *
 * LENGTHS. An IPv4 total length of 0 and an IPv6 payload length of 0 are what a capture of a segmentation-offloaded
 * super-packet shows: the frame's own length stands in then (RFC 2675 jumbograms carry theirs in an option; the frame's
 * length is at least as strict).
 *
 * ONE FILE, though a long one, because it is one walk: transport, network, frame, and packets quoted in others share
 * the reader, the two lengths and the cause by which each of them ends.
 */
#include "packet.h"

#include "bytes.h"
#include "discovery.h"
#include "link.h"

enum { EXTENSION_HEADERS_MAX = 16 };

static void malformed(struct dp_packet *packet, enum dp_cause cause)
{
    packet->kind = DP_PACKET_MALFORMED;
    packet->cause = (uint8_t)cause;
}

/* ---- transport ---- */

static void parse_tcp(struct dp_reader *r, struct dp_packet *packet)
{
    uint32_t length = r->length, header;
    const uint8_t *p = dp_take(r, 20);

    if (!p) {
        malformed(packet, length < 20 ? DP_CAUSE_BAD_LENGTH : DP_CAUSE_SHORT_HEADER);
        return;
    }
    header = (uint32_t)(p[12] >> 4) * 4;
    if (header < 20 || header > length) {
        malformed(packet, DP_CAUSE_BAD_LENGTH);
        return;
    }
    packet->source_port = dp_get16(p);
    packet->destination_port = dp_get16(p + 2);
    dp_tcp_read(p, header, length, r->captured + 20, &packet->tcp);
}

static void parse_ports(struct dp_reader *r, struct dp_packet *packet, uint32_t header)
{
    uint32_t length = r->length;
    const uint8_t *p = dp_take(r, header);

    if (!p) {
        malformed(packet, length < header ? DP_CAUSE_BAD_LENGTH : DP_CAUSE_SHORT_HEADER);
        return;
    }
    packet->source_port = dp_get16(p);
    packet->destination_port = dp_get16(p + 2);
}

static void parse_udp(struct dp_reader *r, struct dp_packet *packet, bool fragment)
{
    uint32_t length = r->length, said;
    const uint8_t *p = r->at;

    parse_ports(r, packet, 8);
    if (packet->kind == DP_PACKET_MALFORMED)
        return;
    said = dp_get16(p + 4);
    /* A length of 0 is a jumbogram's or a super-packet's (RFC 2675, 4). */
    if ((said < 8 && !(said == 0 && length > 65535)) || (said > length && !fragment))
        malformed(packet, DP_CAUSE_BAD_LENGTH);
    packet->inside = r->at;
    packet->inside_captured = r->captured;
    packet->inside_length = r->length;
}

static void parse_icmp(struct dp_reader *r, struct dp_packet *packet, uint8_t hop_limit)
{
    static const uint8_t class_of[] = {
        [DP_DISCOVERY_NONE] = DP_ICMP_UNKNOWN,
        [DP_DISCOVERY_HOST] = DP_ICMP_CONTROL,
        [DP_DISCOVERY_ROUTER] = DP_ICMP_CONTROL_FROM_HOST,
        [DP_DISCOVERY_BROKEN] = DP_ICMP_CONTROL_BROKEN,
    };
    uint32_t length = r->length;
    const uint8_t *p = dp_take(r, 8);
    bool reply;

    if (!p) {
        malformed(packet, length < 8 ? DP_CAUSE_BAD_LENGTH : DP_CAUSE_SHORT_HEADER);
        return;
    }
    packet->selector |= (uint32_t)p[0] << 8 | p[1];
    if (dp_icmp_query(packet->protocol, p[0], &packet->icmp_query, &reply)) {
        packet->source_port = dp_get16(p + 4);
        packet->icmp_class = reply ? DP_ICMP_REPLY : DP_ICMP_REQUEST;
    } else if (dp_icmp_error(packet->protocol, p[0])) {
        packet->icmp_class = DP_ICMP_ERROR;
        packet->inside = r->at;
        packet->inside_captured = r->captured;
    } else if (packet->protocol == DP_PROTO_ICMPV6) {
        struct dp_icmpv6_message message = {
            p, r->captured + 8, length, packet->source.byte, packet->destination.byte, hop_limit};

        packet->icmp_class = class_of[dp_discovery_read(&message, packet->network)];
        if (dp_is_neighbour_discovery(p[0]) && packet->icmp_class == DP_ICMP_CONTROL) {
            packet->inside = r->at;
            packet->inside_captured = r->captured;
        }
    }
}

static void parse_whole_transport(struct dp_reader *r, struct dp_packet *packet, uint8_t hop_limit, bool fragment)
{
    packet->selector = (uint32_t)packet->protocol << 16;
    switch (packet->protocol) {
    case DP_PROTO_TCP:
        parse_tcp(r, packet);
        packet->selector |= packet->destination_port;
        break;
    case DP_PROTO_UDP:
        parse_udp(r, packet, fragment);
        packet->selector |= packet->destination_port;
        break;
    case DP_PROTO_UDPLITE:
        parse_ports(r, packet, 8);
        packet->selector |= packet->destination_port;
        break;
    case DP_PROTO_SCTP:
    case DP_PROTO_DCCP:
        parse_ports(r, packet, 12);
        packet->selector |= packet->destination_port;
        break;
    case DP_PROTO_VRRP:
        packet->inside = r->at;
        packet->inside_captured = r->captured;
        packet->inside_length = r->length;
        break;
    case DP_PROTO_ICMP:
        if (packet->family == 4)
            parse_icmp(r, packet, hop_limit);
        break;
    case DP_PROTO_ICMPV6:
        if (packet->family == 6)
            parse_icmp(r, packet, hop_limit);
        break;
    default:
        break;
    }
}

/* A first fragment must hold the whole transport header (RFC 1858, RFC 7112). */
static void parse_transport(struct dp_reader *r, struct dp_packet *packet, uint8_t hop_limit, bool fragment)
{
    parse_whole_transport(r, packet, hop_limit, fragment);
    if (fragment && packet->kind == DP_PACKET_MALFORMED && packet->cause == DP_CAUSE_BAD_LENGTH) {
        packet->kind = DP_PACKET_IP;
        packet->cause = DP_CAUSE_NONE;
        packet->tiny_fragment = true;
    }
}

/* ---- network ---- */

static void parse_ipv4(struct dp_reader *r, struct dp_packet *packet)
{
    uint32_t length = r->length, header, total, fragment;
    const uint8_t *p = dp_take(r, 20);

    if (!p) {
        malformed(packet, DP_CAUSE_SHORT_HEADER);
        return;
    }
    packet->family = 4;
    packet->network = p;
    packet->source.word[0] = dp_raw32(p + 12);
    packet->destination.word[0] = dp_raw32(p + 16);
    packet->protocol = p[9];
    header = (uint32_t)(p[0] & 15) * 4;
    total = dp_get16(p + 2);
    if (total == 0)
        total = length;
    if (p[0] >> 4 != 4)
        malformed(packet, DP_CAUSE_BAD_VERSION);
    else if (header < 20 || total < header || total > length)
        malformed(packet, DP_CAUSE_BAD_LENGTH);
    else if (!dp_take(r, header - 20))
        malformed(packet, DP_CAUSE_SHORT_HEADER);
    if (packet->kind == DP_PACKET_MALFORMED)
        return;
    packet->trailer += length - total;
    dp_limit(r, total - header);
    packet->kind = DP_PACKET_IP;
    fragment = dp_get16(p + 6) & 0x3fff;
    if (fragment) {
        packet->fragment = true;
        packet->more_fragments = fragment & 0x2000;
        packet->fragment_id = dp_get16(p + 4);
        packet->fragment_offset = (fragment & 0x1fff) * 8;
        packet->fragment_length = r->length;
        packet->fragment_header = header;
    }
    if (fragment & 0x1fff) {
        packet->later_fragment = true;
        packet->selector = (uint32_t)packet->protocol << 16;
        return;
    }
    parse_transport(r, packet, p[8], fragment != 0);
}

/* Steps over one extension header; false when it does not fit. A fragment header is told to `packet`. */
static bool skip_extension(struct dp_reader *r, uint8_t *next, struct dp_packet *packet)
{
    const uint8_t *p = dp_take(r, 8);
    uint32_t size;

    if (!p)
        return false;
    if (*next == DP_NEXT_FRAGMENT) {
        uint16_t offset = dp_get16(p + 2);

        packet->fragment = (offset & 0xfff9) != 0;
        packet->later_fragment = (offset & 0xfff8) != 0;
        packet->more_fragments = offset & 1;
        packet->fragment_id = dp_get32(p + 4);
        packet->fragment_offset = offset & 0xfff8;
        packet->fragment_length = r->length;
    }
    size = dp_extension_size(*next, p);
    *next = p[0];
    return size >= 8 && dp_take(r, size - 8) != NULL;
}

static void parse_ipv6(struct dp_reader *r, struct dp_packet *packet)
{
    uint32_t payload;
    const uint8_t *p = dp_take(r, 40);
    uint8_t next;

    if (!p) {
        malformed(packet, DP_CAUSE_SHORT_HEADER);
        return;
    }
    packet->family = 6;
    packet->network = p;
    memcpy(packet->source.byte, p + 8, 16);
    memcpy(packet->destination.byte, p + 24, 16);
    payload = dp_get16(p + 4);
    if (payload == 0)
        payload = r->length;
    if (p[0] >> 4 != 6)
        malformed(packet, DP_CAUSE_BAD_VERSION);
    else if (payload > r->length)
        malformed(packet, DP_CAUSE_BAD_LENGTH);
    if (packet->kind == DP_PACKET_MALFORMED)
        return;
    packet->trailer += r->length - payload;
    dp_limit(r, payload);
    packet->kind = DP_PACKET_IP;
    next = p[6];
    for (int headers = 0; dp_is_extension(next) && !packet->later_fragment; headers++) {
        bool known = packet->fragment;

        if (headers == EXTENSION_HEADERS_MAX || !skip_extension(r, &next, packet)) {
            if (known && r->captured == r->length)
                packet->tiny_fragment = true;
            else
                malformed(packet, DP_CAUSE_EXTENSION_CHAIN);
            return;
        }
        if (packet->fragment && !known)
            packet->fragment_header = payload - 8 - packet->fragment_length;
    }
    packet->protocol = next;
    packet->selector = (uint32_t)next << 16;
    if (!packet->later_fragment)
        parse_transport(r, packet, p[7], packet->fragment);
}

/* Of Ethernet and IPv4 only (RFC 826): in other ARP there is no address that an instance could hold. */
static void parse_arp(struct dp_reader *r, struct dp_packet *packet)
{
    uint32_t length = r->length;
    const uint8_t *p = dp_take(r, 28);

    if (!p) {
        malformed(packet, length < 28 ? DP_CAUSE_BAD_LENGTH : DP_CAUSE_SHORT_HEADER);
        return;
    }
    if (dp_get16(p) != 1 || dp_get16(p + 2) != DP_ETHERTYPE_IPV4 || p[4] != 6 || p[5] != 4) {
        malformed(packet, DP_CAUSE_BAD_LENGTH);
        return;
    }
    packet->kind = DP_PACKET_ARP;
    packet->arp_request = dp_get16(p + 6) == DP_ARP_REQUEST;
    p += 8;
    packet->family = 4;
    packet->inside = p;
    packet->inside_captured = 20;
    packet->inside_length = length - 8;
    packet->source.word[0] = dp_raw32(p + 6);
    packet->destination.word[0] = dp_raw32(p + 16);
}

/* Of Ethernet and IPv4 only (RFC 903); anything else is no IP like all that is none. */
static void parse_rarp(struct dp_reader *r, struct dp_packet *packet)
{
    uint32_t length = r->length;
    const uint8_t *p = dp_take(r, 28);

    if (!p || dp_get16(p) != 1 || dp_get16(p + 2) != DP_ETHERTYPE_IPV4 || p[4] != 6 || p[5] != 4 ||
        dp_get16(p + 6) != DP_RARP_REQUEST)
        return;
    packet->rarp_request = true;
    packet->inside = p + 8;
    packet->inside_captured = 20;
    packet->inside_length = length - 8;
}

static void parse_ip_by_version(struct dp_reader *r, struct dp_packet *packet)
{
    if (r->captured == 0)
        malformed(packet, DP_CAUSE_SHORT_HEADER);
    else if (r->at[0] >> 4 == 4)
        parse_ipv4(r, packet);
    else if (r->at[0] >> 4 == 6)
        parse_ipv6(r, packet);
    else
        malformed(packet, DP_CAUSE_BAD_VERSION);
}

/* ---- the frame ---- */

static void clear(struct dp_packet *packet)
{
    packet->source_port = 0;
    packet->destination_port = 0;
    packet->family = 0;
    packet->protocol = 0;
    packet->kind = DP_PACKET_OTHER;
    packet->cause = DP_CAUSE_NONE;
    packet->selector = 0;
    packet->icmp_class = DP_ICMP_UNKNOWN;
    packet->icmp_query = 0;
    packet->fragment = false;
    packet->later_fragment = false;
    packet->tiny_fragment = false;
    packet->arp_request = false;
    packet->rarp_request = false;
    packet->vlans = 0;
    packet->source_mac = NULL;
    packet->destination_mac = NULL;
    packet->inside = NULL;
    packet->inside_captured = 0;
    packet->inside_length = 0;
    packet->trailer = 0;
}

/* Walks the link header. That of nearly all frames, plain Ethernet with IP in it, stands here to be short. */
static inline enum dp_network walk_link(const struct dp_frame *frame, struct dp_reader *r, struct dp_packet *packet)
{
    struct dp_link_header header = {0};
    enum dp_network network = DP_NETWORK_OTHER;

    if (frame->link == DP_LINK_ETHERNET && r->captured >= 14) {
        uint16_t type = dp_get16(r->at + 12);

        if (type == DP_ETHERTYPE_IPV4 || type == DP_ETHERTYPE_IPV6) {
            packet->destination_mac = dp_take(r, 14);
            packet->source_mac = packet->destination_mac + 6;
            return type == DP_ETHERTYPE_IPV4 ? DP_NETWORK_IPV4 : DP_NETWORK_IPV6;
        }
    }
    network = dp_link_walk(frame->link, r, &header);
    packet->source_mac = header.source_mac;
    packet->destination_mac = header.destination_mac;
    packet->vlans = header.vlans;
    packet->trailer = header.trailer;
    return network;
}

void dp_packet_parse(const struct dp_frame *frame, struct dp_packet *packet)
{
    struct dp_reader r = {frame->data, frame->captured, frame->length};

    clear(packet);
    if (r.length < r.captured)
        r.length = r.captured;
    switch (walk_link(frame, &r, packet)) {
    case DP_NETWORK_IPV4:
        parse_ipv4(&r, packet);
        break;
    case DP_NETWORK_IPV6:
        parse_ipv6(&r, packet);
        break;
    case DP_NETWORK_ARP:
        parse_arp(&r, packet);
        break;
    case DP_NETWORK_RARP:
        parse_rarp(&r, packet);
        break;
    case DP_NETWORK_IP:
        parse_ip_by_version(&r, packet);
        break;
    default:
        break;
    }
}

/* ---- quoted packets ---- */

/* The first eight transport bytes, all that RFC 792 promises, hold the ports or the query identifier. */
static bool parse_quoted_transport(struct dp_reader *r, struct dp_packet *inner)
{
    const uint8_t *p;
    bool reply;

    switch (inner->protocol) {
    case DP_PROTO_TCP:
    case DP_PROTO_UDP:
    case DP_PROTO_UDPLITE:
    case DP_PROTO_SCTP:
    case DP_PROTO_DCCP:
        p = dp_take(r, 8);
        if (!p)
            return false;
        inner->source_port = dp_get16(p);
        inner->destination_port = dp_get16(p + 2);
        inner->tcp.seq = dp_get32(p + 4);
        return true;
    case DP_PROTO_ICMP:
    case DP_PROTO_ICMPV6:
        p = dp_take(r, 8);
        if (!p || !dp_icmp_query(inner->protocol, p[0], &inner->icmp_query, &reply))
            return false;
        inner->source_port = dp_get16(p + 4);
        inner->icmp_class = reply ? DP_ICMP_REPLY : DP_ICMP_REQUEST;
        return true;
    default:
        return true;
    }
}

bool dp_packet_parse_quoted(const struct dp_packet *error, struct dp_packet *inner)
{
    struct dp_reader r = {error->inside, error->inside_captured, error->inside_captured};
    const uint8_t *p;
    uint8_t next;

    clear(inner);
    if (error->family == 4) {
        p = dp_take(&r, 20);
        if (!p || p[0] >> 4 != 4 || (p[0] & 15) < 5 || !dp_take(&r, (uint32_t)(p[0] & 15) * 4 - 20) ||
            (dp_get16(p + 6) & 0x1fff))
            return false;
        inner->source.word[0] = dp_raw32(p + 12);
        inner->destination.word[0] = dp_raw32(p + 16);
        next = p[9];
    } else {
        p = dp_take(&r, 40);
        if (!p || p[0] >> 4 != 6)
            return false;
        memcpy(inner->source.byte, p + 8, 16);
        memcpy(inner->destination.byte, p + 24, 16);
        next = p[6];
        for (int headers = 0; dp_is_extension(next); headers++) {
            if (headers == EXTENSION_HEADERS_MAX || !skip_extension(&r, &next, inner) || inner->later_fragment)
                return false;
        }
    }
    inner->family = error->family;
    inner->kind = DP_PACKET_IP;
    inner->protocol = next;
    return parse_quoted_transport(&r, inner);
}
