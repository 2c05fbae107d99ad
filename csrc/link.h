/*
 * link.h: what stands in front of the network header: Ethernet, VLAN tags, LLC, MPLS, PPPoE, and the link layers that
 * captures have instead.
 *
 * dp_link_walk() moves a reader over all of it and says what comes next. It reads only bytes that were captured,
 * allocates nothing, and has no errors: a frame in which it finds neither IP nor ARP carries DP_NETWORK_OTHER.
 */
#ifndef DP_LINK_H
#define DP_LINK_H

#include "dp_api.h"
#include "wire.h"

struct dp_reader {
    const uint8_t *at;
    uint32_t captured; /* bytes left to read */
    uint32_t length;   /* bytes left on the wire */
};

/* The next `n` bytes, NULL when they were not captured; the reader moves on. */
static inline const uint8_t *dp_take(struct dp_reader *r, uint32_t n)
{
    const uint8_t *p = r->at;

    if (n > r->captured)
        return NULL;
    r->at += n;
    r->captured -= n;
    r->length -= n;
    return p;
}

/* What follows ends after `n` more bytes; padding behind it is dropped. */
static inline void dp_limit(struct dp_reader *r, uint32_t n)
{
    r->length = n;
    if (r->captured > n)
        r->captured = n;
}

/* DP_NETWORK_IP is IP of the version that it says itself. */
enum dp_network { DP_NETWORK_OTHER, DP_NETWORK_IPV4, DP_NETWORK_IPV6, DP_NETWORK_ARP, DP_NETWORK_RARP, DP_NETWORK_IP };

/* What the link header says; MACs point into the frame, NULL where there is none. */
struct dp_link_header {
    const uint8_t *source_mac;
    const uint8_t *destination_mac;
    uint32_t vlans;   /* ids of the outer and inner VLAN tag, 12 bits each; 0 for none */
    uint32_t trailer; /* bytes behind what a length in the header counts */
};

/* `link` is an enum dp_link; in any other nothing is found. `header` must be all zeros. */
enum dp_network dp_link_walk(uint32_t link, struct dp_reader *r, struct dp_link_header *header);

#endif
