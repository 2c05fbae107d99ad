/*
 * endpoints.h: which instance an address belongs to, and which load balancer a MAC or address is (SPEC 3.5, 7).
 *
 * Where several instances hold an address, its entry in the maps names a list: in it, the instance whose own address it
 * is stands before one that holds it as a virtual IP, and the first of the policy before the next. Which of them it is
 * depends on the packet and those before it (owners.h).
 */
#ifndef DP_ENDPOINTS_H
#define DP_ENDPOINTS_H

#include "endpoint_maps.h"

/* They live as long as the endpoints. */
const struct dp_single_addresses *dp_endpoints_single(const struct dp_endpoints *endpoints);

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
