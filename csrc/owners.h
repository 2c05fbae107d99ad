/*
 * owners.h: which of several holders has an address now (SPEC 7): a virtual IP moves from one instance to another, and
 * two networks may use one address.
 *
 * The MAC of the frame decides. Where it fits none of the holders (or there is none), it is the holder that was last
 * seen to have the address: that sent from it with its own MAC, or announced it by ARP (gratuitous or not), by a
 * neighbour advertisement, or by an advertisement of VRRP or CARP. Where nobody has, or who did holds it no more, it is
 * the first of endpoints.h. An address that two instances have as their own is in two networks: there each VLAN has an
 * owner of its own.
 *
 * Only what was let out of its sender teaches: a packet that is refused there, or forged in a frame of another
 * instance, moves nothing.
 *
 * BOUND. DP_OWNERS addresses are remembered; a new one takes the place of the one that was claimed longest ago.
 * What is remembered depends on the packets alone, in their order.
 */
#ifndef DP_OWNERS_H
#define DP_OWNERS_H

#include "dp_plane.h"
#include "endpoints.h"

enum { DP_OWNERS = 4096 };

struct dp_owners;

struct dp_owners *dp_owners_new(void);
void dp_owners_free(struct dp_owners *owners);

/* The zone that has the packet's source (DP_EGRESS) or destination (DP_INGRESS), where dp_endpoints_find said `shared`
 * of it. */
uint32_t dp_owners_choose(struct dp_owners *owners, const struct dp_endpoints *endpoints, uint32_t shared,
                          const struct dp_packet *packet, uint32_t direction);
/* Whether a packet can tell who has an address, besides by its own source. */
static inline bool dp_owners_may_tell(const struct dp_packet *p)
{
    return p->inside && (p->icmp_class == DP_ICMP_CONTROL || p->protocol == DP_PROTO_VRRP);
}

/* Remembers what a packet tells that was not refused where it left `sender`, the zone of its source or DP_NO_ZONE. */
void dp_owners_learn(struct dp_owners *owners, const struct dp_endpoints *endpoints, const struct dp_packet *packet,
                     uint32_t sender);

/* Nobody is known to have what a retired zone had. */
void dp_owners_forget(struct dp_owners *owners, const struct dp_retired *retired);

#endif
