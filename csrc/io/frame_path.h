/*
 * frame_path.h: what a learning switch does with a frame: where it goes, whom it is for, what is learned from it. Live
 * ports and captures by port are served alike by it.
 *
 * Frames are Ethernet, of at least 14 captured bytes. A port is a struct dp_port with its number in the switch's table.
 */
#ifndef DP_IO_FRAME_PATH_H
#define DP_IO_FRAME_PATH_H

#include "../endpoints.h"
#include "../port_bindings.h"
#include "mac_table.h"

/* Where a frame goes, if to no one port: to everybody, or nowhere, since its station is where it came from. */
enum { DP_OUT_ALL = 0x10000, DP_OUT_NONE = 0x10001 };

/* Fragments that wait for the first of their datagram, at most. */
enum { DP_WAITING_FRAMES_MAX = 256 };

/* The id of the outer VLAN tag, 0 for none. */
uint16_t dp_frame_vlan(const struct dp_frame *frame);

/* Whether what was heard behind a port is nothing to go by for what stands behind it now. */
bool dp_port_forgets(const struct dp_port *before, const struct dp_port *now);

/* The number of the port that a frame goes to which came by `in`, DP_OUT_ALL or DP_OUT_NONE. */
uint32_t dp_frame_out(const struct dp_mac_table *stations, const struct dp_bindings *served,
                      const struct dp_frame *frame, uint32_t in, uint32_t now_s);

/* The place of a frame that came by port `in`, with this number, and leaves by `out` (NULL where there is no one port).
 */
void dp_place_enter(struct dp_place *place, const struct dp_mac_table *stations, const struct dp_bindings *served,
                    const struct dp_frame *frame, const struct dp_port *in, uint32_t number, const struct dp_port *out,
                    uint32_t now_s);

/* Whether a frame for everybody is for who is behind a port. */
bool dp_is_flooded_to(const struct dp_endpoints *endpoints, const struct dp_frame *frame, const struct dp_port *to);
/* The place of its copy there: where its sender is, was asked when it came. */
void dp_place_flood(struct dp_place *place, const struct dp_bindings *served, const struct dp_port *in, uint32_t number,
                    const struct dp_port *to);

/* Learns where the sender of a frame is, if what the frame met lets it teach. `place` is that of dp_place_enter. */
void dp_frame_teach(struct dp_mac_table *stations, const struct dp_bindings *served,
                    const struct dp_endpoints *endpoints, const struct dp_frame *frame, const struct dp_place *place,
                    const struct dp_record *record, uint32_t now_s);

#endif
