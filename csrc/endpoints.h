/*
 * endpoints.h: which instance an address belongs to, and which load balancer a MAC or address is (SPEC 3.5, 7).
 *
 * Single addresses are in a hash table with open addressing, one load or two a look-up; virtual IP prefixes are in a
 * trie behind it. Where several instances hold an address, the entry names a list and the MAC of the packet decides;
 * without a MAC that fits, the instance whose own address it is goes before one that holds it as a virtual IP, and the
 * first of the policy before the next.
 *
 * Immutable once made, reference-counted like the rule tables.
 */
#ifndef DP_ENDPOINTS_H
#define DP_ENDPOINTS_H

#include "dp_api.h"
#include "packet.h"

#define DP_NO_ZONE 0xffffffffu

void dp_endpoints_hold(struct dp_endpoints *endpoints);

/* The zone that holds `address`, DP_NO_ZONE for none; `mac` may be NULL. */
uint32_t dp_endpoints_find(const struct dp_endpoints *endpoints, uint32_t family, const union dp_address *address,
                           const uint8_t *mac);

/* Whether `zone` holds `address`, as its own or as a virtual IP. */
bool dp_endpoints_holds(const struct dp_endpoints *endpoints, uint32_t zone, uint32_t family,
                        const union dp_address *address);

/* Whether load balancer number `balancer` has `zone` as a backend, with transfer_client_ip. */
bool dp_endpoints_is_backend(const struct dp_endpoints *endpoints, uint32_t balancer, uint32_t zone);

/* Whether there is a load balancer in front of any zone. */
bool dp_endpoints_has_balancers(const struct dp_endpoints *endpoints);

/* Whether the peer with this address and MAC (or NULL) is a load balancer in front of `zone`. */
bool dp_endpoints_is_balancer(const struct dp_endpoints *endpoints, uint32_t zone, uint32_t family,
                              const union dp_address *address, const uint8_t *mac);

#endif
