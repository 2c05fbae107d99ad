/*
 * spoof.h: whether a frame pretends to come from somebody else than who may send by its port (live mode's
 * anti-spoofing). It is asked before all else and of every frame: of what is malformed, by the MAC alone.
 *
 * AN INSTANCE'S PORT. The sender's MAC must be the instance's own where that is known, else one that nobody else has;
 * its IP address one that the instance holds, own or virtual. Allowed besides: the unspecified address where a host has
 * none yet (DHCP, MLD, and probes of ARP and duplicate address detection for what it holds), and a link-local address,
 * which must be made from the MAC (RFC 4291, appendix A): the instance's, or where that is not known the frame's, if it
 * is no other instance's own. The senders that ARP and neighbour discovery name are held against the same: their MAC is
 * the instance's, or where that is not known the frame's. A virtual MAC goes with its virtual IPs alone, but for VRRP's
 * advertisements, and moves like these. A request of RARP (a machine that has moved announces itself) names the
 * sender's MAC.
 *
 * AN UPLINK. Nobody comes in by it who is behind another port: with the MAC of an instance or a balancer there, or with
 * their own addresses, the link-local one made from the MAC among them. Virtual IPs may be anywhere. An address that
 * two networks use is an instance's here only if all that have it are here. By a balancer's port the packets of its
 * clients come, whose addresses are not asked for.
 *
 * A BALANCER that has a port is behind no other: not behind an instance's either, with or without port security, unless
 * that instance holds the address itself (another network's).
 */
#ifndef DP_SPOOF_H
#define DP_SPOOF_H

#include "endpoints.h"
#include "port_bindings.h"

/* `whose`: the zone that it pretends to be, where that is another instance here, else DP_NO_ZONE. */
bool dp_is_spoofed(const struct dp_endpoints *endpoints, const struct dp_place *place, const struct dp_packet *packet,
                   uint32_t *whose);

#endif
