/*
 * flow_key.h: what a connection is found by, and its keyed hash.
 *
 * The key of a connection entry in its zone (SPEC 1), seen from the instance: `local` is the instance's side, `remote`
 * the other, whichever way a packet goes. The first 16 bytes of an IPv4 key, as they lie in an entry:
 *
 *      0         4         8      10     12            16
 *      | local   | remote  | lport| rport| zone<<8|prot |      addresses in network order, ports in host order
 *
 * For ICMP queries local_port is the identifier and remote_port the kind of query (its request type) with
 * DP_KEY_QUERY_OUT set when the instance asks: so two hosts that ping each other with one identifier have two
 * connections, as in nf_conntrack. Protocols without ports have zeros there (SPEC 4.7).
 *
 * Where two networks share addresses, a tagged packet's VLANs are part of its key. Such a key is as wide as
 * an IPv6 one, also for IPv4; DP_KEY_IPV4 in `vlans` keeps the two apart.
 */
#ifndef DP_FLOW_KEY_H
#define DP_FLOW_KEY_H

#include "packet.h"

enum { DP_KEY_QUERY_OUT = 0x8000 };

#define DP_KEY_IPV4 0x80000000u

struct dp_flow_key {
    union dp_address local;
    union dp_address remote;
    uint16_t local_port;
    uint16_t remote_port;
    uint32_t zone_protocol; /* zone << 8 | protocol */
    uint32_t family;        /* 4: `local` and `remote` have one word, and no VLANs; 6: all else */
    uint32_t vlans;
};

enum { DP_HASH_WORDS = 14 };

/* Secret of the hash: one 64-bit multiplier a word and one to add, from the engine's seed. */
struct dp_hash_secret {
    uint64_t multiplier[DP_HASH_WORDS];
    uint64_t addend;
};

void dp_hash_secret_init(struct dp_hash_secret *secret, const uint64_t *seed);

/* The key under which a packet that crosses `zone` in `direction` is tracked. */
static inline void dp_flow_key_of(const struct dp_packet *packet, uint32_t zone, uint32_t direction,
                                  struct dp_flow_key *key)
{
    bool in = direction == DP_INGRESS;
    const union dp_address *local = in ? &packet->destination : &packet->source;
    const union dp_address *remote = in ? &packet->source : &packet->destination;

    key->family = packet->family;
    key->zone_protocol = zone << 8 | packet->protocol;
    if (packet->family == 4) {
        key->local.word[0] = local->word[0];
        key->remote.word[0] = remote->word[0];
    } else {
        key->local = *local;
        key->remote = *remote;
        key->vlans = 0;
    }
    if (packet->icmp_query) {
        bool request = packet->icmp_class == DP_ICMP_REQUEST;

        key->local_port = packet->source_port;
        key->remote_port = (uint16_t)(packet->icmp_query | (request != in ? DP_KEY_QUERY_OUT : 0));
    } else {
        key->local_port = in ? packet->destination_port : packet->source_port;
        key->remote_port = in ? packet->source_port : packet->destination_port;
    }
}

/* Makes the VLANs of a tagged packet, at most two of 12 bits, part of its key. */
static inline void dp_flow_key_tag(struct dp_flow_key *key, uint32_t vlans)
{
    key->vlans = vlans & 0xffffff;
    if (key->family == 4) {
        key->vlans |= DP_KEY_IPV4;
        key->family = 6;
        for (int i = 1; i < 4; i++)
            key->local.word[i] = key->remote.word[i] = 0;
    }
}

/*
 * Pair-multiply-shift (Thorup, "High Speed Hashing for Integers and Strings", 3.6) over the key's 32-bit words:
 * strongly universal for a secret that nobody outside knows, so nobody can choose colliding keys (SPEC 4.9). The last
 * steps only spread what is already random over the low bits, which choose the slot.
 */
static inline __attribute__((always_inline)) uint32_t dp_flow_hash(const struct dp_hash_secret *s,
                                                                   const struct dp_flow_key *key)
{
    uint32_t ports = (uint32_t)key->local_port << 16 | key->remote_port;
    uint64_t h = s->addend + (s->multiplier[0] + ports) * (s->multiplier[1] + key->zone_protocol);

    h += (s->multiplier[2] + key->local.word[0]) * (s->multiplier[3] + key->remote.word[0]);
    if (key->family == 6) {
        for (int i = 1; i < 4; i++)
            h += (s->multiplier[2 + 2 * i] + key->local.word[i]) * (s->multiplier[3 + 2 * i] + key->remote.word[i]);
        h += s->multiplier[10] * key->vlans;
    }
    h = (h ^ h >> 32) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(h >> 32);
}

#endif
