/*
 * remap.h: frames with other addresses in them, as if they had been captured so (`replay --map`).
 *
 * An address is replaced where a packet is judged by it: in the IP header, in ARP, in what an ICMP error quotes, in the
 * target of neighbour discovery and in what VRRP advertises. The longest prefix that holds it says by what. The IPv4
 * header's checksum follows; a transport checksum that was right counts as right, since it covers the addresses.
 *
 *   ownership  The remap owns its prefixes and the copies of frames, which last until the next dp_remap_frames().
 */
#ifndef DP_IO_REMAP_H
#define DP_IO_REMAP_H

#include "../dp_captures.h"

struct dp_remap;

/* `mappings` come in the order of their lengths, each prefix once; DP_E_ARGUMENT if not, or DP_E_MEMORY. */
int dp_remap_new(const struct dp_mapping *mappings, uint32_t n, struct dp_remap **remap);
void dp_remap_free(struct dp_remap *remap);

/* The `n` frames as they are judged: those with other addresses are copies. NULL without memory. */
const struct dp_frame *dp_remap_frames(struct dp_remap *remap, const struct dp_frame *frames, uint32_t n);

#endif
