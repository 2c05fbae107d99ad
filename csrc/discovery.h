/*
 * discovery.h: whether an ICMPv6 message is neighbour discovery or MLD as it must be (SPEC 4.8).
 *
 * Such messages pass without rules, so nothing may be in them that a host does not need: what their receivers would
 * drop (RFC 4861, 6.1, 7.1, 8.1; RFC 2710, 3810) is broken, and so are options that nobody has defined, more options
 * than a host sends, bytes that no record counts, and extension headers other than one hop-by-hop header of 8 bytes
 * (the router alert). A message that the snap length has cut is judged by what is there.
 */
#ifndef DP_DISCOVERY_H
#define DP_DISCOVERY_H

#include "wire.h"

#include <stddef.h>

/* An ICMPv6 message: `captured` (at least 8) of its `length` bytes; the addresses are those of the IPv6 header. */
struct dp_icmpv6_message {
    const uint8_t *at;
    uint32_t captured;
    uint32_t length;
    const uint8_t *source;
    const uint8_t *destination;
    uint8_t hop_limit;
};

enum dp_discovery {
    DP_DISCOVERY_NONE, /* neither neighbour discovery nor MLD */
    DP_DISCOVERY_HOST,
    DP_DISCOVERY_ROUTER, /* an advertisement or redirect */
    DP_DISCOVERY_BROKEN
};

/* `network` is the IPv6 header before it. */
enum dp_discovery dp_discovery_read(const struct dp_icmpv6_message *message, const uint8_t *network);

/*
 * Whether the IPv6 header is followed by the transport header at `transport`, or by one hop-by-hop header of 8 bytes
 * before it.
 */
bool dp_discovery_plain(const uint8_t *network, const uint8_t *transport);

/* The options of a well-formed message, as far as they were captured. */
struct dp_nd_options {
    const uint8_t *at;
    const uint8_t *end;
};

/* The next link-layer address among them, 6 bytes, and which of the two it is; NULL when there is no more. */
static inline const uint8_t *dp_nd_next_link(struct dp_nd_options *options, uint8_t *kind)
{
    while (options->end - options->at >= 8 && options->at[1]) {
        const uint8_t *option = options->at;
        uint32_t size = option[1] * 8u;

        options->at = size < (size_t)(options->end - option) ? option + size : options->end;
        if (option[0] == DP_ND_SOURCE_LINK || option[0] == DP_ND_TARGET_LINK) {
            *kind = option[0];
            return option + 2;
        }
    }
    return NULL;
}

#endif
