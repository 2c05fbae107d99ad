/*
 * endpoint_maps.h: the maps in which endpoints.h looks up who holds an address or a MAC, and how they are made.
 *
 * Single addresses are in a hash table with open addressing, one load or two a look-up; virtual IP prefixes are in a
 * trie behind it. Balancers are few, so theirs are plain arrays.
 *
 * Immutable once made (dp_endpoints_new), reference-counted like the rule tables.
 */
#ifndef DP_ENDPOINT_MAPS_H
#define DP_ENDPOINT_MAPS_H

#include "bytes.h"
#include "dp_tables.h"
#include "packet.h"
#include "trie.h"

#include <string.h>

#define DP_NO_ZONE 0xffffffffu
#define DP_SHARED 0x40000000u

/*
 * What an address leads to: a zone, with DP_ENDPOINT_VIRTUAL where it is a virtual IP, or DP_SHARED + position of a
 * list. Prefixes always lead to a list.
 */
enum { DP_ENDPOINT_VIRTUAL = 0x20000000 };
_Static_assert((int)DP_ENDPOINT_VIRTUAL > (int)DP_ZONES_MAX && (uint32_t)DP_ENDPOINT_VIRTUAL < DP_SHARED,
               "it is no part of either");

/*
 * The hash tables of single addresses, for who looks up one or two with each packet. That of IPv4 has buckets of half a
 * cache line, one of which nearly always says all; it is looked at without a branch, as nobody can tell before which
 * end of a packet is an instance's. That of IPv6 has single slots.
 */
enum { DP_BUCKET_SLOTS = 4, DP_NEAR_BITS = 13 };
typedef uint32_t dp_slots4 __attribute__((vector_size(DP_BUCKET_SLOTS * sizeof(uint32_t))));
struct dp_bucket4 {
    dp_slots4 address;
    dp_slots4 value; /* 1 + what the address leads to; 0: the slot is free, as are those behind it */
};
struct dp_single6 {
    union dp_address address;
    uint32_t value; /* DP_NO_ZONE: the slot is free */
    uint32_t unused;
};
struct dp_single_addresses {
    struct dp_bucket4 *buckets4;
    struct dp_single6 *slots6;
    uint32_t mask4;
    uint32_t mask6;
    uint32_t shift4;
    uint32_t shift6;
    /* Of IPv4, of IPv6: whether there are prefixes, and which blocks of addresses they are in, hashed to a bit each: of
     * most addresses outside they say at once that nobody holds them, with no branch about whether one is held. */
    bool has_prefixes[2];
    uint64_t near_prefix[2][1 << (DP_NEAR_BITS - 6)];
};

/* The block that an address is in: its first 24 bits, of IPv6 its first 64. */
static inline uint64_t dp_block_of(const uint8_t *address, uint32_t family)
{
    return family == 4 ? dp_get32(address) >> 8 : (uint64_t)dp_get32(address) << 32 | dp_get32(address + 4);
}

static inline uint32_t dp_near_bit(uint64_t block)
{
    return (uint32_t)(block * 0x9e3779b97f4a7c15u >> (64 - DP_NEAR_BITS));
}

/* 0 or 1; 0 when no prefix holds any address of the block. */
static inline uint32_t dp_is_near_prefix(const struct dp_single_addresses *single, uint32_t family, uint64_t block)
{
    uint32_t bit = dp_near_bit(block);

    return (uint32_t)(single->near_prefix[family == 6][bit / 64] >> bit % 64) & 1;
}

/* Multiplicative hashing: the high bits are the good ones. The addresses in the tables are the policy's own. */
static inline uint32_t dp_single_hash4(const struct dp_single_addresses *single, uint32_t address)
{
    return address * 0x9e3779b1u >> single->shift4;
}

static inline uint32_t dp_single_hash6(const struct dp_single_addresses *single, const union dp_address *a)
{
    uint64_t high = (uint64_t)a->word[0] << 32 | a->word[1], low = (uint64_t)a->word[2] << 32 | a->word[3];

    return (uint32_t)((high * 0xff51afd7ed558ccdu ^ low) * 0x9e3779b97f4a7c15u >> 32) >> single->shift6;
}

/* What a single address leads to, DP_NO_ZONE where it is not there. */
static inline __attribute__((always_inline)) uint32_t dp_single_find4(const struct dp_single_addresses *single,
                                                                      uint32_t address)
{
    for (uint32_t at = dp_single_hash4(single, address);; at = (at + 1) & single->mask4) {
        const struct dp_bucket4 *bucket = &single->buckets4[at];
        const dp_slots4 wanted = {address, address, address, address};
        const dp_slots4 fitting = (dp_slots4)(bucket->address == wanted) & bucket->value;
        uint64_t halves[2], found;

        memcpy(halves, &fitting, sizeof halves);
        found = halves[0] | halves[1];
        found |= found >> 32;
        if ((found != 0) | (bucket->value[DP_BUCKET_SLOTS - 1] == 0))
            return (uint32_t)found - 1;
    }
}

static inline uint32_t dp_single_find6(const struct dp_single_addresses *single, const union dp_address *address)
{
    for (uint32_t at = dp_single_hash6(single, address);; at = (at + 1) & single->mask6)
        if (single->slots6[at].value == DP_NO_ZONE || memcmp(&single->slots6[at].address, address, 16) == 0)
            return single->slots6[at].value;
}

/* Whether what an address leads to is a list. */
static inline bool dp_is_shared(uint32_t value)
{
    return value + 1 > DP_SHARED;
}

/* The zone that it leads to; lists and DP_NO_ZONE stay what they are. */
static inline uint32_t dp_endpoint_zone(uint32_t value)
{
    return value >= DP_SHARED ? value : value & ~(uint32_t)DP_ENDPOINT_VIRTUAL;
}

/* What the tries say of an address that nobody holds. */
enum { DP_HELD_BY_NOBODY = DP_TRIE_VALUE_MAX };

struct dp_holder_list {
    uint32_t first; /* in `listed` */
    uint32_t count;
};

struct dp_holder {
    uint32_t zone;
    uint32_t virtual_ip;
    uint32_t position; /* in the order of the policy */
};

struct dp_endpoints {
    struct dp_single_addresses single;
    _Atomic uint32_t references; /* taken and given back by several threads */
    uint32_t n_lists;
    uint32_t n_listed;
    uint32_t listed_room;
    uint32_t n_macs;
    uint32_t n_balancer_macs; /* they stand first in `macs` */
    uint32_t n_balancers;
    uint32_t n_backends;
    uint32_t n_overlaps; /* length of `overlaps` */
    bool has_virtual_macs;
    struct dp_trie prefixes[2]; /* 4, 6; the value DP_HELD_BY_NOBODY means nobody */
    struct dp_holder_list *lists;
    struct dp_holder *listed;
    struct dp_mac *macs;
    struct dp_balancer_address *balancers;
    struct dp_backend *backends;
    uint32_t *interface_macs; /* hash table of the MACs of instances' interfaces: 1 + position in `macs`, 0 for free */
    uint32_t interface_mask;
    uint8_t *overlaps; /* by zone: has an own address that another has too */
};

void dp_endpoints_reference(struct dp_endpoints *endpoints);

/* The MACs in the table are the policy's own: at most half of it is used. */
static inline uint32_t dp_interface_slot(const struct dp_endpoints *e, const uint8_t *mac)
{
    uint64_t key = 0;

    memcpy(&key, mac, 6);
    return (uint32_t)(key * 0x9e3779b97f4a7c15u >> 32) & e->interface_mask;
}

/* Whether two of them have the address as their own. */
static inline bool dp_holders_overlap(const struct dp_endpoints *e, const struct dp_holder_list *list)
{
    return list->count > 1 && !e->listed[list->first + 1].virtual_ip;
}

#endif
