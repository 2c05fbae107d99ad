/*
 * shard.h: which shard of several a packet belongs to, so that all that is judged together meets on one: both
 * directions of a connection, all fragments of a datagram, and an ICMP error with the connection that it is about.
 */
#ifndef DP_SHARD_H
#define DP_SHARD_H

#include "packet.h"

/* The shard, of so many, for the sum of both addresses' words (of IPv6, of each address's four words by XOR). */
static inline uint32_t dp_shard_of_sum(uint32_t shards, uint64_t sum)
{
    uint32_t h = (uint32_t)((sum * 0x9e3779b97f4a7c15u) >> 32);

    /* Division takes as long as all else. */
    return (shards & (shards - 1)) == 0 ? h & (shards - 1) : h % shards;
}

/* The shard, of so many, that all packets between two addresses belong to, whichever way they go. */
uint32_t dp_shard_of(uint32_t shards, uint8_t family, const union dp_address *a, const union dp_address *b);
/* Where a packet belongs by its addresses; `any` for what is no IP, and may be judged anywhere. */
uint32_t dp_shard_of_addresses(uint32_t shards, const struct dp_packet *packet, uint32_t any);
/* The same, but clients of DHCP are with the first, which knows who has asked (control_traffic.h). */
uint32_t dp_shard_of_packet(uint32_t shards, const struct dp_packet *packet, uint32_t any);

#endif
