/*
 * port_bindings.h: where a frame passes when its ports say it and not its addresses, and who else stands behind ports
 * here.
 *
 * A SET of what is served holds the zones, balancers and MACs of all ports, for the questions whether a sender belongs
 * to another port, and which port leads to a MAC that the policy tells. It is small, of one size, and made anew when a
 * port changes; whoever judges has one of its own, so that it changes with the policy, between two frames.
 */
#ifndef DP_PORT_BINDINGS_H
#define DP_PORT_BINDINGS_H

#include "dp_plane.h"

#include <stdbool.h>

enum { DP_BINDINGS_SLOTS = 2 * DP_PORTS_MAX };

/* Who has a MAC: an instance's zone or DP_ZONE_NONE, and a balancer's number or 0; behind which port. */
struct dp_bound_mac {
    uint8_t mac[6];
    uint16_t port; /* its number + 1; 0: this slot is free */
    int32_t zone;
    uint32_t balancer;
};

/* All zeros: nobody. */
struct dp_bindings {
    struct dp_bound_mac mac[DP_BINDINGS_SLOTS];
    uint32_t zone[DP_BINDINGS_SLOTS]; /* + 1; 0 for none */
};

/* What stands behind port `number` is in the set from now on; at most DP_PORTS_MAX ports. */
void dp_bindings_add(struct dp_bindings *served, uint32_t number, const struct dp_port *port);
/* Who behind a port has the MAC, NULL for nobody. */
const struct dp_bound_mac *dp_bindings_find(const struct dp_bindings *served, const uint8_t *mac);
bool dp_bindings_has_zone(const struct dp_bindings *served, uint32_t zone);

/* What is asked of the sender of a frame, by the port that it came by. */
enum dp_guard {
    DP_GUARD_NONE,     /* nothing: it was asked before, or the port is not known */
    DP_GUARD_INSTANCE, /* to be the instance behind the port */
    DP_GUARD_OPEN,     /* an instance without port security: to be no balancer */
    DP_GUARD_OUTSIDE,  /* to be nobody whom another port serves */
    DP_GUARD_BALANCER  /* the same, but the packets that it forwards have their clients' addresses */
};

/* Where a frame passes. */
struct dp_place {
    uint32_t zone[DP_DIRECTIONS]; /* the instance it leaves and the one it enters, UINT32_MAX for none */
    uint32_t
        balancer[DP_DIRECTIONS]; /* the load balancer behind the port on the other side of that check, 0 for none */
    uint32_t port;               /* number of the one that it came by; the caller sets it */
    const struct dp_bindings *served; /* NULL where other ports are not known: balancers are known by address then */
    const uint8_t *mac;               /* of the instance that it leaves, NULL where it is not known */
    uint8_t guard;                    /* enum dp_guard */
    bool mac_taken;                   /* its source MAC was learned behind another port, which keeps it */
};

/*
 * A frame that came by port `in` and leaves by `out` (NULL where there is none, or several); with its sender's guard.
 * The ports must outlive the place.
 */
void dp_place_make(struct dp_place *place, const struct dp_bindings *served, const struct dp_port *in,
                   const struct dp_port *out);

#endif
