/* frame_shard.c: frame_shard.h in code. */
#include "frame_shard.h"

#include "../bytes.h"
#include "../control_traffic.h"
#include "../link.h"
#include "../shard.h"

enum { NOT_PLAIN = DP_SHARDS_MAX };

static bool is_asked_of_dhcp(uint16_t port)
{
    return port == DP_DHCP_SERVER || port == DP_DHCP_CLIENT || port == DP_DHCPV6_SERVER || port == DP_DHCPV6_CLIENT;
}

static inline uint32_t folded(const uint8_t *six)
{
    return dp_raw32(six) ^ dp_raw32(six + 4) ^ dp_raw32(six + 8) ^ dp_raw32(six + 12);
}

/*
 * The shard of a plain frame of TCP or UDP over Ethernet, which are most, without all of it being read; NOT_PLAIN
 * for any other. It is that of the addresses even where the packet turns out to be malformed, which every shard says
 * alike.
 */
static inline uint32_t shard_of_plain(uint32_t shards, const struct dp_frame *frame)
{
    const uint8_t *p = frame->data + 14;
    uint32_t header;
    uint8_t protocol;
    uint64_t sum;

    if (frame->link != DP_LINK_ETHERNET || frame->captured < 14 + 40 + 4)
        return NOT_PLAIN;
    switch (dp_get16(p - 2)) {
    case DP_ETHERTYPE_IPV4:
        if (p[0] != 0x45)
            return NOT_PLAIN;
        sum = (uint64_t)dp_raw32(p + 12) + dp_raw32(p + 16);
        protocol = p[9];
        header = 20;
        break;
    case DP_ETHERTYPE_IPV6:
        sum = (uint64_t)folded(p + 8) + folded(p + 24);
        protocol = p[6];
        header = 40;
        break;
    default:
        return NOT_PLAIN;
    }
    if (protocol != DP_PROTO_TCP && (protocol != DP_PROTO_UDP || is_asked_of_dhcp(dp_get16(p + header + 2))))
        return NOT_PLAIN;
    return dp_shard_of_sum(shards, sum);
}

static uint32_t shard_of_other(uint32_t shards, const struct dp_frame *frame, bool *alone)
{
    struct dp_packet packet;

    dp_packet_parse(frame, &packet);
    *alone = packet.protocol == DP_PROTO_UDP && dp_may_be_control(&packet);
    return dp_may_be_control(&packet) && !*alone && !packet.fragment ? 0 : dp_shard_of_addresses(shards, &packet, 0);
}

uint32_t dp_frame_shard(uint32_t shards, const struct dp_frame *frame)
{
    uint32_t plain = shard_of_plain(shards, frame);
    bool alone;

    return plain != NOT_PLAIN ? plain : shard_of_other(shards, frame, &alone);
}

uint32_t dp_frame_shards(uint32_t shards, const struct dp_frame *frames, uint32_t n, uint8_t *shard)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t of = shard_of_plain(shards, &frames[i]);
        bool alone = false;

        if (of == NOT_PLAIN)
            of = shard_of_other(shards, &frames[i], &alone);
        if (alone)
            return i;
        shard[i] = (uint8_t)of;
    }
    return n;
}
