/*
 * segment.c: segment.h in code.
 *
 * WHERE THE LAYERS ARE. The virtio-net header says where the transport header of the data begins. From the frame's
 * begin, IP headers are looked for whose length is that of all that follows, each leading to the next, until one leads
 * to that place: so what lies between them (Ethernet, VLAN tags, the headers of VXLAN, Geneve, GUE) need not be known.
 *
 * CHECKSUMS OF TUNNELS need not read the data: behind its start, all of it adds up to the complement of what stands in
 * the unfinished checksum (local checksum offload, RFC 1624's arithmetic).
 */
#include "segment.h"
#include "../bytes.h"
#include "../wire.h"

#include <endian.h>
#include <linux/virtio_net.h>
#include <string.h>

enum layer_kind { LAYER_IPV4, LAYER_IPV6, LAYER_UDP, LAYER_GRE };
enum { GRE_CHECKSUM = 0x8000, GRE_KEY = 0x2000, GRE_SEQUENCE = 0x1000 };
/* Of a virtio-net header, what older systems' linux/virtio_net.h does not have. */
enum { GSO_UDP_L4 = 5, GSO_TUNNEL_IPV4 = 0x20, GSO_TUNNEL_IPV6 = 0x40, TUNNEL_CHECKSUM = 8 };
enum { ETHERNET = 14, SEGMENT_LEAST = 48, FRAME_MOST = 65535, TRIES = 1024 };

/* struct virtio_net_hdr_v1_hash_tunnel of Linux 6.17. */
struct tunnel_header {
    struct virtio_net_hdr inner;
    uint16_t unused[5];
    uint16_t outer_transport; /* where these headers begin in the frame, little-endian */
    uint16_t inner_network;
};
_Static_assert(sizeof(struct tunnel_header) == DP_TUNNEL_HEADER, "as the kernel has it");

struct search {
    struct dp_segmenter *s;
    uint8_t *frame;  /* its headers */
    uint32_t length; /* of the whole frame */
    uint8_t protocol;
    uint32_t tries;
};

static void put16(uint8_t *p, uint32_t value)
{
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
}

static void put32(uint8_t *p, uint32_t value)
{
    put16(p, value >> 16);
    put16(p + 2, value & 0xffff);
}

static uint16_t fold(uint64_t total)
{
    while (total >> 16)
        total = (total & 0xffff) + (total >> 16);
    return (uint16_t)total;
}

/* Words are added as they lie in memory, of any even size and in either byte order (RFC 1071, 2.B): compilers add
 * several at once. */
static uint64_t sum(const uint8_t *p, uint32_t n)
{
    uint8_t rest[4] = {0};
    uint64_t total = 0;
    uint16_t folded;

    for (; n >= 4; n -= 4, p += 4)
        total += dp_raw32(p);
    memcpy(rest, p, n);
    folded = fold(total + dp_raw32(rest));
    memcpy(rest, &folded, sizeof folded);
    return dp_get16(rest);
}

/* ---- finding the layers ---- */

/* To the end of IPv6 options. Nothing else is passed: behind a routing header the checksum counts another address. */
static bool skip_options(const uint8_t *frame, uint32_t end, uint32_t *at, uint8_t *next)
{
    while (*next == DP_NEXT_HOP_BY_HOP || *next == DP_NEXT_DESTINATION) {
        if (*at + 8 > end)
            return false;
        *next = frame[*at];
        *at += (frame[*at + 1] + 1u) * 8;
    }
    return true;
}

static bool network(struct search *f, uint32_t at);

static bool add(struct search *f, enum layer_kind kind, uint32_t at)
{
    if (f->s->layers == DP_SEGMENT_LAYERS)
        return false;
    f->s->layer[f->s->layers++] = (struct dp_segment_layer){(uint16_t)at, (uint8_t)kind};
    return true;
}

/* The first IP header at `at` or behind it that leads to the data. */
static bool find(struct search *f, uint32_t at)
{
    uint8_t layers = f->s->layers;

    for (; at + 20 <= f->s->start && f->tries > 0; at++) {
        f->tries--;
        if (network(f, at))
            return true;
        f->s->layers = layers;
    }
    return false;
}

static bool gre(struct search *f, uint32_t at)
{
    uint32_t flags, size = 4;

    if (at + size > f->s->start || !add(f, LAYER_GRE, at))
        return false;
    flags = dp_get16(f->frame + at);
    size += (flags & GRE_CHECKSUM ? 4 : 0) + (flags & GRE_KEY ? 4 : 0) + (flags & GRE_SEQUENCE ? 4 : 0);
    return at + size <= f->s->start && find(f, at + size);
}

static bool behind(struct search *f, uint32_t at, uint8_t next)
{
    if (at == f->s->start)
        return next == f->protocol;
    if (at > f->s->start)
        return false;
    if (next == DP_PROTO_IPIP || next == DP_PROTO_IPV6)
        return network(f, at);
    if (next == DP_PROTO_GRE)
        return gre(f, at);
    return next == DP_PROTO_UDP && at + 8 <= f->s->start && add(f, LAYER_UDP, at) && find(f, at + 8);
}

static bool is_length(uint32_t said, uint32_t is)
{
    return said == is || (said == 0 && is > 65535);
}

/* Takes out the jumbo payload option of a super-packet, where nothing else is in its header (RFC 2675, 2). */
static bool without_jumbo(struct search *f, uint32_t at)
{
    uint8_t *p = f->frame + at + 40;
    uint32_t rest = DP_SEGMENT_HEADERS - DP_VNET_HEADER - (at + 48);

    if (p[1] != 0 || p[2] != 0xc2 || p[3] != 4)
        return false;
    f->frame[at + 6] = p[0];
    memmove(p, p + 8, rest);
    f->s->start -= 8;
    f->s->headers -= 8;
    f->length -= 8;
    return true;
}

static bool ipv6(struct search *f, uint32_t at)
{
    uint8_t *p = f->frame + at;
    uint8_t next;

    if (at + 40 > f->s->start || !is_length(dp_get16(p + 4), f->length - at - 40) || !add(f, LAYER_IPV6, at))
        return false;
    if (p[6] == DP_NEXT_HOP_BY_HOP && at + 48 <= f->s->start && f->length - at - 40 > 65535)
        without_jumbo(f, at);
    next = p[6];
    at += 40;
    if (!skip_options(f->frame, f->s->start, &at, &next))
        return false;
    return behind(f, at, next);
}

static bool network(struct search *f, uint32_t at)
{
    const uint8_t *p = f->frame + at;
    uint32_t header;

    if (at + 20 > f->s->start)
        return false;
    if (p[0] >> 4 == 6)
        return ipv6(f, at);
    header = (p[0] & 15) * 4u;
    if (p[0] >> 4 != 4 || header < 20 || at + header > f->s->start || (dp_get16(p + 6) & 0x3fff) ||
        !is_length(dp_get16(p + 2), f->length - at))
        return false;
    return add(f, LAYER_IPV4, at) && behind(f, at + header, p[9]);
}

/* ---- which frames ---- */

/* Whether the transport header at `start` is the outermost IP header's own; it is for nearly all super-packets. */
static bool is_plain(const uint8_t *frame, uint32_t start)
{
    uint32_t at = ETHERNET, type = dp_get16(frame + 12);
    uint8_t next;

    for (; dp_is_vlan_tag(type) && at + 4 <= start; at += 4)
        type = dp_get16(frame + at + 2);
    if (type == DP_ETHERTYPE_IPV4 && at + 20 <= start)
        return at + (frame[at] & 15) * 4u == start;
    if (type != DP_ETHERTYPE_IPV6 || at + 40 > start)
        return false;
    next = frame[at + 6];
    at += 40;
    return skip_options(frame, start, &at, &next) && at == start;
}

bool dp_segment_begin(struct dp_segmenter *s, const uint8_t *header, uint32_t length)
{
    const uint8_t *frame = header + DP_VNET_HEADER;
    struct virtio_net_hdr vnet;
    uint8_t type;
    uint32_t transport, most;
    bool plain;

    memcpy(&vnet, header, sizeof vnet);
    type = vnet.gso_type & (uint8_t)~VIRTIO_NET_HDR_GSO_ECN;
    if (type == VIRTIO_NET_HDR_GSO_NONE || !(vnet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM))
        return false;
    s->tcp = type == VIRTIO_NET_HDR_GSO_TCPV4 || type == VIRTIO_NET_HDR_GSO_TCPV6;
    s->start = vnet.csum_start;
    transport = s->tcp ? 20 : 8;
    if ((!s->tcp && type != GSO_UDP_L4) || s->start < ETHERNET + 20 ||
        s->start + transport > DP_SEGMENT_HEADERS - DP_VNET_HEADER || s->start + transport >= length)
        return false;
    plain = is_plain(frame, s->start);
    if (plain && length <= FRAME_MOST)
        return false;
    if (s->tcp)
        transport = (frame[s->start + 12] >> 4) * 4u;
    s->headers = s->start + transport;
    if (transport < (s->tcp ? 20 : 8) || s->headers > DP_SEGMENT_HEADERS - DP_VNET_HEADER || s->headers >= length ||
        vnet.csum_offset != (s->tcp ? 16 : 6) || vnet.gso_size < SEGMENT_LEAST)
        return false;
    s->payload = frame + s->headers;
    s->length = length - s->headers;
    s->segment = vnet.gso_size;
    s->done = 0;
    s->layers = 0;
    memset(s->header, 0, sizeof s->header);
    memcpy(s->header, header, DP_VNET_HEADER + s->headers);
    struct search f = {s, s->header + DP_VNET_HEADER, length, s->tcp ? DP_PROTO_TCP : DP_PROTO_UDP, TRIES};
    if (!find(&f, ETHERNET))
        return false;
    most = FRAME_MOST - s->headers;
    s->chunk = plain ? most / s->segment * s->segment : s->segment;
    return s->chunk != 0 && s->chunk + s->headers <= FRAME_MOST;
}

/* ---- pieces ---- */

static uint64_t addresses(const uint8_t *frame, const struct dp_segment_layer *ip)
{
    return ip->kind == LAYER_IPV4 ? sum(frame + ip->at + 12, 8) : sum(frame + ip->at + 8, 32);
}

/* The checksum of all from a tunnel's header on, whose own field is 0. */
static uint16_t checksum_from(const struct dp_segmenter *s, const uint8_t *frame, uint32_t at, uint64_t more)
{
    uint16_t unfinished = dp_get16(frame + s->start + (s->tcp ? 16 : 6));

    return (uint16_t)~fold(sum(frame + at, s->start - at) + (uint16_t)~unfinished + more);
}

static void finish_transport(const struct dp_segmenter *s, uint8_t *frame, uint32_t n, bool last)
{
    uint8_t *p = frame + s->start;
    uint32_t length = s->headers - s->start + n;
    uint8_t protocol = s->tcp ? DP_PROTO_TCP : DP_PROTO_UDP;

    if (s->tcp) {
        put32(p + 4, dp_get32(p + 4) + s->done);
        if (!last)
            p[13] &= (uint8_t)~(DP_TCP_FLAG_FIN | DP_TCP_FLAG_PSH);
        if (s->done)
            p[13] &= (uint8_t)~DP_TCP_FLAG_CWR;
    } else {
        put16(p + 4, length);
    }
    put16(p + (s->tcp ? 16 : 6), fold(addresses(frame, &s->layer[s->layers - 1]) + protocol + length));
}

static void finish_udp(const struct dp_segmenter *s, uint8_t *frame, const struct dp_segment_layer *ip, uint32_t at,
                       uint32_t rest)
{
    uint8_t *p = frame + at;
    bool has_checksum = dp_get16(p + 6) != 0;
    uint16_t checksum;

    put16(p + 4, rest);
    if (!has_checksum)
        return;
    put16(p + 6, 0);
    checksum = checksum_from(s, frame, at, addresses(frame, ip) + DP_PROTO_UDP + rest);
    put16(p + 6, checksum ? checksum : 0xffff);
}

static void finish_gre(const struct dp_segmenter *s, uint8_t *frame, uint32_t at, uint32_t before)
{
    uint8_t *p = frame + at, *sequence;
    uint32_t flags = dp_get16(p);

    if (flags & GRE_SEQUENCE) {
        sequence = p + 4 + (flags & GRE_CHECKSUM ? 4 : 0) + (flags & GRE_KEY ? 4 : 0);
        put32(sequence, dp_get32(sequence) + before);
    }
    if (flags & GRE_CHECKSUM) {
        put16(p + 4, 0);
        put16(p + 4, checksum_from(s, frame, at, 0));
    }
}

/* From the innermost on, as a checksum counts what is inside. */
static void finish_layers(const struct dp_segmenter *s, uint8_t *frame, uint32_t n)
{
    uint32_t before = s->done / s->segment;

    for (uint32_t i = s->layers; i-- > 0;) {
        const struct dp_segment_layer *layer = &s->layer[i];
        uint8_t *p = frame + layer->at;
        uint32_t rest = s->headers - layer->at + n;

        switch (layer->kind) {
        case LAYER_IPV4:
            put16(p + 2, rest);
            put16(p + 4, dp_get16(p + 4) + before);
            put16(p + 10, 0);
            put16(p + 10, (uint16_t)~fold(sum(p, (p[0] & 15) * 4u)));
            break;
        case LAYER_IPV6:
            put16(p + 4, rest - 40);
            break;
        case LAYER_UDP:
            finish_udp(s, frame, layer - 1, layer->at, rest);
            break;
        default:
            finish_gre(s, frame, layer->at, before);
            break;
        }
    }
}

uint32_t dp_segment_next(struct dp_segmenter *s, struct dp_piece *piece, uint32_t n)
{
    uint32_t made = 0;

    for (; made < n && s->done < s->length; made++) {
        struct dp_piece *to = &piece[made];
        uint32_t left = s->length - s->done, size = left < s->chunk ? left : s->chunk;
        struct virtio_net_hdr vnet;

        to->header_length = DP_VNET_HEADER + s->headers;
        to->payload = s->payload + s->done;
        to->payload_length = size;
        memcpy(to->header, s->header, to->header_length);
        finish_transport(s, to->header + DP_VNET_HEADER, size, size == left);
        finish_layers(s, to->header + DP_VNET_HEADER, size);
        memcpy(&vnet, s->header, sizeof vnet);
        vnet.hdr_len = (uint16_t)s->headers;
        vnet.csum_start = (uint16_t)s->start;
        if (size <= s->segment)
            vnet.gso_type = vnet.gso_size = 0;
        else if (s->done)
            vnet.gso_type &= (uint8_t)~VIRTIO_NET_HDR_GSO_ECN;
        memcpy(to->header, &vnet, sizeof vnet);
        s->done += size;
    }
    return made;
}

/* ---- tunnels over UDP at once ---- */

/* The outer headers of a tunnel over UDP whose datagram is `rest` bytes long; its checksum is that of the
 * pseudo-header, to be completed by the kernel. */
static void finish_outer(uint8_t *frame, const struct dp_segment_layer *ip, const struct dp_segment_layer *udp,
                         uint32_t rest)
{
    uint8_t *p = frame + ip->at;

    put16(frame + udp->at + 4, rest);
    put16(frame + udp->at + 6, fold(addresses(frame, ip) + DP_PROTO_UDP + rest));
    if (ip->kind == LAYER_IPV6) {
        put16(p + 4, udp->at - ip->at - 40 + rest);
        return;
    }
    put16(p + 2, udp->at - ip->at + rest);
    put16(p + 10, 0);
    put16(p + 10, (uint16_t)~fold(sum(p, (p[0] & 15) * 4u)));
}

uint32_t dp_segment_whole(const struct dp_segmenter *s, uint8_t *header)
{
    const struct dp_segment_layer *ip = &s->layer[0], *udp = &s->layer[1], *inner = &s->layer[2];
    uint8_t *frame = header + DP_TUNNEL_HEADER;
    struct tunnel_header tunnel;
    bool has_checksum;

    if (s->layers != 3 || udp->kind != LAYER_UDP || inner->kind > LAYER_IPV6 || ip->at != ETHERNET ||
        s->headers + s->length > FRAME_MOST)
        return 0;
    memset(&tunnel, 0, sizeof tunnel);
    memcpy(&tunnel.inner, s->header, sizeof tunnel.inner);
    memcpy(frame, s->header + DP_VNET_HEADER, s->headers);
    has_checksum = dp_get16(frame + udp->at + 6) != 0;
    finish_outer(frame, ip, udp, s->headers + s->length - udp->at);
    if (!has_checksum)
        put16(frame + udp->at + 6, 0);
    tunnel.inner.flags |= has_checksum ? TUNNEL_CHECKSUM : 0;
    tunnel.inner.gso_type |= ip->kind == LAYER_IPV4 ? GSO_TUNNEL_IPV4 : GSO_TUNNEL_IPV6;
    tunnel.inner.hdr_len = (uint16_t)s->headers;
    tunnel.outer_transport = htole16(udp->at);
    tunnel.inner_network = htole16(inner->at);
    memcpy(header, &tunnel, sizeof tunnel);
    return DP_TUNNEL_HEADER + s->headers;
}

static void complete(const struct dp_segmenter *s, struct dp_piece *piece)
{
    uint8_t *transport = piece->header + DP_VNET_HEADER + s->start, *field = transport + (s->tcp ? 16 : 6);
    uint32_t headers = s->headers - s->start;
    /* Headers of UDP and TCP have an even size: the payload's sum can be added as it is. */
    uint16_t checksum = (uint16_t)~fold(sum(transport, headers) + sum(piece->payload, piece->payload_length));

    put16(field, !s->tcp && checksum == 0 ? 0xffff : checksum);
    memset(piece->header, 0, DP_VNET_HEADER);
}

uint32_t dp_segment_bundle(const struct dp_segmenter *s, struct dp_piece *piece, uint32_t *n, uint8_t *header)
{
    const struct dp_segment_layer *ip = &s->layer[0], *udp = &s->layer[1];
    uint8_t *frame = header + DP_VNET_HEADER;
    struct virtio_net_hdr vnet = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .gso_type = GSO_UDP_L4, .csum_offset = 6};
    uint32_t outer = udp->at + 8u, size = s->headers - outer + s->segment, most = (FRAME_MOST - outer) / size, rest;

    if (s->layers < 3 || udp->kind != LAYER_UDP || s->chunk != s->segment || size > UINT16_MAX)
        return 0;
    *n = *n < most ? *n : most;
    if (*n < 2)
        return 0;
    for (uint32_t i = 0; i < *n; i++)
        complete(s, &piece[i]);
    memcpy(frame, piece[0].header + DP_VNET_HEADER, outer);
    rest = 8 + (*n - 1) * size + s->headers - outer + piece[*n - 1].payload_length;
    finish_outer(frame, ip, udp, rest);
    vnet.hdr_len = (uint16_t)outer;
    vnet.gso_size = (uint16_t)size;
    vnet.csum_start = udp->at;
    memcpy(header, &vnet, sizeof vnet);
    return DP_VNET_HEADER + outer;
}
