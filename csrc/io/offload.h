/*
 * offload.h: whether the checksum that a frame's virtio-net header asks for is one of the frame's own.
 *
 * A sender may leave a checksum to a card: the header says where it starts and where its two bytes belong, and whoever
 * finishes it writes them there, behind the verdict. So they must belong to what no verdict is about: the checksum of
 * the packet's own transport header, at its place, or what that header carries (the inner checksum of a tunnel). Any
 * other place could be a port, an address, the target of ARP or of neighbour discovery. No system asks for one there.
 *
 * BOUNDS. Reads within `length` bytes of the frame only; a bound on VLAN tags and extension headers, as in packet.c.
 */
#ifndef DP_IO_OFFLOAD_H
#define DP_IO_OFFLOAD_H

#include "../dp_live.h"

#include <stdbool.h>

/* `header` is the virtio-net header, with the frame's `length` bytes behind it. True where nothing is left to do. */
bool dp_offload_is_sound(const uint8_t *header, uint32_t length);

#endif
