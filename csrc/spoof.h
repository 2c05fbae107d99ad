/*
 * spoof.h: whether what leaves an instance pretends to come from somebody else (live mode's anti-spoofing).
 *
 * The sender's MAC must be the instance's own where that is known; its IP address one that the instance holds, own or
 * virtual. Allowed besides: the unspecified address where a host has none yet (DHCP, requests of ARP, duplicate address
 * detection, MLD), and a link-local IPv6 address, which must be made from the MAC (RFC 4291, appendix A) where that is
 * known and the policy does not list another. The senders that ARP and neighbour discovery name are held against the
 * same.
 */
#ifndef DP_SPOOF_H
#define DP_SPOOF_H

#include "endpoints.h"

bool dp_is_spoofed(const struct dp_endpoints *endpoints, uint32_t zone, const uint8_t *mac,
                   const struct dp_packet *packet);

#endif
