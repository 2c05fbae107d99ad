/* shard.c: shard.h in code. */
#include "shard.h"

static uint32_t fold(const union dp_address *a, uint8_t family)
{
    return family == 4 ? a->word[0] : a->word[0] ^ a->word[1] ^ a->word[2] ^ a->word[3];
}

uint32_t dp_shard_of(uint32_t shards, uint8_t family, const union dp_address *a, const union dp_address *b)
{
    return dp_shard_of_sum(shards, fold(a, family) + (uint64_t)fold(b, family));
}

/* Answers to a client of DHCP come from and go to other addresses than it asked with and at. */
static bool is_dhcp_client(const struct dp_packet *p)
{
    uint16_t client = p->family == 4 ? DP_DHCP_CLIENT : DP_DHCPV6_CLIENT;

    return p->protocol == DP_PROTO_UDP && !p->fragment && (p->source_port == client || p->destination_port == client);
}

/* The packet whose addresses count. A fragment is with all others of its datagram, also one of an error. */
static const struct dp_packet *counted(const struct dp_packet *packet, struct dp_packet *inner)
{
    return packet->icmp_class == DP_ICMP_ERROR && !packet->fragment && dp_packet_parse_quoted(packet, inner) ? inner
                                                                                                             : packet;
}

uint32_t dp_shard_of_addresses(uint32_t shards, const struct dp_packet *packet, uint32_t any)
{
    struct dp_packet inner;
    const struct dp_packet *p;

    if (packet->kind != DP_PACKET_IP)
        return any;
    p = counted(packet, &inner);
    return dp_shard_of(shards, p->family, &p->source, &p->destination);
}

uint32_t dp_shard_of_packet(uint32_t shards, const struct dp_packet *packet, uint32_t any)
{
    struct dp_packet inner;

    return packet->kind == DP_PACKET_IP && is_dhcp_client(counted(packet, &inner))
               ? 0
               : dp_shard_of_addresses(shards, packet, any);
}
