/*
 * checksum.c: the Internet checksum (RFC 1071) and SCTP's CRC32c (RFC 9260, appendix A).
 *
 * Words are added as they lie in memory: a ones' complement sum comes out right in either byte order (RFC 1071, 2.B).
 * 32-bit words in a 64-bit sum cannot overflow within 65,535 bytes, and compilers add several at once.
 */
#include "checksum.h"

#include "bytes.h"

enum { OPTION_END = 0, OPTION_NOTHING = 1, OPTION_LOOSE_ROUTE = 131, OPTION_STRICT_ROUTE = 137 };
enum { OPTION_HOME_ADDRESS = 0xc9 };

/* The transport part of a packet, all of it captured. */
struct part {
    const uint8_t *at;
    uint32_t length;
};

static uint64_t add(const uint8_t *p, uint32_t n)
{
    uint64_t sum = 0;

    for (; n >= 4; n -= 4, p += 4)
        sum += dp_raw32(p);
    if (n) {
        uint8_t rest[4] = {0};

        memcpy(rest, p, n);
        sum += dp_raw32(rest);
    }
    return sum;
}

static uint16_t fold(uint64_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

/* ---- where the transport part is ---- */

/* Source routes (RFC 791, 3.1) that have not come to their end. */
static bool is_source_routed(const uint8_t *options, uint32_t n)
{
    while (n > 0 && options[0] != OPTION_END) {
        uint32_t size = options[0] == OPTION_NOTHING || n < 2 ? 1 : options[1];

        if ((options[0] == OPTION_LOOSE_ROUTE || options[0] == OPTION_STRICT_ROUTE) && n > 2 && options[2] <= size)
            return true;
        if (size == 0 || size > n)
            return false;
        options += size;
        n -= size;
    }
    return false;
}

static bool has_home_address(const uint8_t *options, uint32_t n)
{
    while (n > 0) {
        uint32_t size = options[0] == 0 || n < 2 ? 1 : options[1] + 2u;

        if (options[0] == OPTION_HOME_ADDRESS)
            return true;
        if (size > n)
            return false;
        options += size;
        n -= size;
    }
    return false;
}

static bool part_of_ipv4(const uint8_t *ip, uint32_t captured, struct part *part)
{
    uint32_t header = (ip[0] & 15u) * 4, total = dp_get16(ip + 2);

    if (total > captured || header > total || is_source_routed(ip + 20, header - 20))
        return false;
    *part = (struct part){ip + header, total - header};
    return true;
}

static bool part_of_ipv6(const uint8_t *ip, uint32_t captured, struct part *part)
{
    uint32_t payload = dp_get16(ip + 4), size;
    uint8_t next = ip[6];

    if (payload == 0 || payload > captured - 40)
        return false;
    *part = (struct part){ip + 40, payload};
    for (; dp_is_extension(next); next = part->at[0], part->at += size, part->length -= size) {
        if (part->length < 8)
            return false;
        size = dp_extension_size(next, part->at);
        if (size > part->length || (next == DP_NEXT_ROUTING && part->at[3] != 0) ||
            (next == DP_NEXT_DESTINATION && has_home_address(part->at + 2, size - 2)))
            return false;
    }
    return true;
}

/* ---- the transport's checksum ---- */

static uint64_t pseudo_header(const struct dp_packet *packet, uint32_t length)
{
    const uint8_t rest[4] = {0, packet->protocol, (uint8_t)(length >> 8), (uint8_t)length};
    uint32_t size = packet->family == 4 ? 4 : 16;

    return add(packet->source.byte, size) + add(packet->destination.byte, size) + add(rest, 4);
}

static uint16_t raw16(const uint8_t *p)
{
    uint16_t v;

    memcpy(&v, p, sizeof v);
    return v;
}

/* `covered` of the part's bytes are in its checksum, which stands at `field`. */
static bool is_right(const struct dp_packet *packet, const struct part *part, uint32_t covered, uint32_t field)
{
    uint64_t pseudo = pseudo_header(packet, part->length);
    bool offloads = packet->protocol == DP_PROTO_TCP || packet->protocol == DP_PROTO_UDP;

    return fold(pseudo + add(part->at, covered)) == 0xffff ||
           (offloads &&
            (raw16(part->at + field) == fold(pseudo) ||
             (packet->protocol == DP_PROTO_TCP && raw16(part->at + field) == fold(pseudo_header(packet, 0)))));
}

static bool udp_is_right(const struct dp_packet *packet, struct part *part)
{
    uint32_t said = dp_get16(part->at + 4);

    /* 0 is none: in IPv4 (RFC 768), and in IPv6 for tunnels (RFC 6935); the receiver knows whether it takes that. */
    if (raw16(part->at + 6) == 0)
        return true;
    if (said >= 8 && said < part->length)
        part->length = said;
    return is_right(packet, part, part->length, 6);
}

/* RFC 3828, 3.1: a coverage of 0 is the whole; less than the header is not allowed. */
static bool udplite_is_right(const struct dp_packet *packet, const struct part *part)
{
    uint32_t covered = dp_get16(part->at + 4);

    if (covered == 0)
        covered = part->length;
    return covered >= 8 && covered <= part->length && is_right(packet, part, covered, 6);
}

/* RFC 4340, 9.2: header and options, and as many words of the data as CsCov says, or all. */
static bool dccp_is_right(const struct dp_packet *packet, const struct part *part)
{
    uint32_t header = part->at[4] * 4u, words = part->at[5] & 15u;
    uint32_t covered = words ? header + (words - 1) * 4 : part->length;

    return covered >= 12 && covered <= part->length && is_right(packet, part, covered, 6);
}

static uint32_t crc32c(uint32_t crc, const uint8_t *p, uint32_t n)
{
    static const uint32_t half[16] = {0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
                                      0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
                                      0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75};

    for (; n > 0; n--, p++) {
        crc ^= *p;
        crc = crc >> 4 ^ half[crc & 15];
        crc = crc >> 4 ^ half[crc & 15];
    }
    return crc;
}

static bool sctp_is_right(const struct part *part)
{
    static const uint8_t none[4] = {0};
    uint32_t said, crc;

    if (part->length < 12)
        return false;
    /* It is sent with the lowest byte first. */
    said = __builtin_bswap32(dp_get32(part->at + 8));
    crc = crc32c(0xffffffff, part->at, 8);
    crc = crc32c(crc, none, 4);
    crc = ~crc32c(crc, part->at + 12, part->length - 12);
    return said == 0 || said == crc;
}

static bool transport_is_right(const struct dp_packet *packet, struct part *part)
{
    switch (packet->protocol) {
    case DP_PROTO_TCP:
        return is_right(packet, part, part->length, 16);
    case DP_PROTO_UDP:
        return udp_is_right(packet, part);
    case DP_PROTO_UDPLITE:
        return udplite_is_right(packet, part);
    case DP_PROTO_DCCP:
        return dccp_is_right(packet, part);
    case DP_PROTO_SCTP:
        return sctp_is_right(part);
    case DP_PROTO_ICMP:
        return packet->family != 4 || fold(add(part->at, part->length)) == 0xffff;
    case DP_PROTO_ICMPV6:
        return packet->family != 6 || is_right(packet, part, part->length, 2);
    default:
        return true;
    }
}

bool dp_checksum_right(const struct dp_frame *frame, const struct dp_packet *packet)
{
    const uint8_t *ip = packet->network;
    uint32_t captured = (uint32_t)(frame->data + frame->captured - ip);
    struct part part;

    if (packet->family == 4) {
        if (dp_get16(ip + 2) == 0)
            return true;
        if (fold(add(ip, (ip[0] & 15u) * 4)) != 0xffff)
            return false;
    }
    if (packet->fragment || (frame->flags & DP_FRAME_CHECKSUM_OFFLOADED))
        return true;
    if (!(packet->family == 4 ? part_of_ipv4 : part_of_ipv6)(ip, captured, &part))
        return true;
    return transport_is_right(packet, &part);
}
