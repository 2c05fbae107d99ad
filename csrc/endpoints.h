/*
 * endpoints.h: which instance an address belongs to, and which load balancer a MAC or address is (SPEC 3.5, 7).
 *
 * Single addresses are in a hash table with open addressing, one load or two a look-up; virtual IP prefixes are in a
 * trie behind it. Where several instances hold an address, the entry names a list: in it, the instance whose own
 * address it is stands before one that holds it as a virtual IP, and the first of the policy before the next. Which of
 * them it is depends on the packet and those before it (owners.h).
 *
 * Immutable once made, reference-counted like the rule tables.
 */
#ifndef DP_ENDPOINTS_H
#define DP_ENDPOINTS_H

#include "dp_api.h"
#include "packet.h"

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
enum { DP_BUCKET_SLOTS = 4 };
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
    bool has_prefixes[2]; /* of IPv4, of IPv6: an address that is not here may be in one */
};

/* They live as long as the endpoints. */
const struct dp_single_addresses *dp_endpoints_single(const struct dp_endpoints *endpoints);

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

void dp_endpoints_reference(struct dp_endpoints *endpoints);

/* The zone that holds `address`, DP_NO_ZONE for none; a number from DP_SHARED on where there are several. */
uint32_t dp_endpoints_find(const struct dp_endpoints *endpoints, uint32_t family, const union dp_address *address);

/*
 * The holder of a shared address with this MAC, its own or the virtual MAC that goes with the address; DP_NO_ZONE for
 * none, or where it is the virtual MAC of several. `mac` may be NULL.
 */
uint32_t dp_endpoints_by_mac(const struct dp_endpoints *endpoints, uint32_t shared, const uint8_t *mac, uint32_t family,
                             const union dp_address *address);
/* Whether another instance than `zone`, and not `zone`, has this MAC at its interface. */
bool dp_endpoints_is_others_mac(const struct dp_endpoints *endpoints, uint32_t zone, const uint8_t *mac);
/* The nth virtual IP of `zone`, from 0, that is a single address and goes with this virtual MAC; its family, 0 for none
 * more. */
uint32_t dp_endpoints_nth_virtual(const struct dp_endpoints *endpoints, uint32_t zone, const uint8_t *mac, uint32_t nth,
                                  union dp_address *address);
bool dp_endpoints_holds(const struct dp_endpoints *endpoints, uint32_t shared, uint32_t zone);
uint32_t dp_endpoints_first(const struct dp_endpoints *endpoints, uint32_t shared);

/* Whether two instances have the address as their own, so that it is in two networks; whether `zone` has such a one. */
bool dp_endpoints_is_overlap(const struct dp_endpoints *endpoints, uint32_t shared);
bool dp_endpoints_overlaps(const struct dp_endpoints *endpoints, uint32_t zone);

/* Whether several instances may have one address: dp_endpoints_find may answer with a shared one. */
bool dp_endpoints_has_shared(const struct dp_endpoints *endpoints);

/* The nth zone, from 0, that has `address` as its own; DP_NO_ZONE where there are no more. */
uint32_t dp_endpoints_own(const struct dp_endpoints *endpoints, uint32_t family, const union dp_address *address,
                          uint32_t nth);

/* Whether `zone` holds `address`, as its own or as a virtual IP. */
bool dp_endpoints_is_held(const struct dp_endpoints *endpoints, uint32_t zone, uint32_t family,
                          const union dp_address *address);

/*
 * Whether `mac` is a virtual MAC of `zone` (DP_NO_ZONE: of any instance), and goes with `address` (NULL: with any); the
 * MAC of an interface never is.
 */
bool dp_endpoints_is_virtual_mac(const struct dp_endpoints *endpoints, uint32_t zone, const uint8_t *mac,
                                 uint32_t family, const union dp_address *address);

/* Whether load balancer number `balancer` has `zone` as a backend, with transfer_client_ip. */
bool dp_endpoints_is_backend(const struct dp_endpoints *endpoints, uint32_t balancer, uint32_t zone);

/* Whether there is a load balancer in front of any zone. */
bool dp_endpoints_has_balancers(const struct dp_endpoints *endpoints);

/*
 * Whether the peer with this address and MAC (or NULL) is a load balancer in front of `zone`; with `portless`, one that
 * has no port of its own.
 */
bool dp_endpoints_is_balancer(const struct dp_endpoints *endpoints, uint32_t zone, uint32_t family,
                              const union dp_address *address, const uint8_t *mac, bool portless);
/* Whether the MAC is that of a load balancer, with a port of its own or without. */
bool dp_endpoints_is_balancer_mac(const struct dp_endpoints *endpoints, const uint8_t *mac);

/* The load balancer with a port of its own that has the address, 0 for none. */
uint32_t dp_endpoints_balancer_at_port(const struct dp_endpoints *endpoints, uint32_t family,
                                       const union dp_address *address);

#endif
