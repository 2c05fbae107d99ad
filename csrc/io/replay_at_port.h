/*
 * replay_at_port.h: frames that were captured at ports, judged as the live firewall judges them there (SPEC 7, "At a
 * port").
 *
 * WHOSE a frame is, its interface says: a pcapng interface with the name of one of the policy's (or that dataplane's
 * own capture calls an uplink); or, with `at`, every interface is that instance's, but those with another port's name.
 *
 * WHICH WAY it went:
 *   by name   received by the interface: it entered by the port. Sent by it: it is a copy that left, which is judged
 *             where it entered. Where the capture does not tell, what is from the instance or balancer behind the port
 *             entered; by an uplink, all that is not from somebody behind another port.
 *   `at`      it is from the instance if its MAC is the instance's, or the capture says that the instance sent it; all
 *             others go to it. A capture can have been taken on the host's side of the interface, which receives what
 *             the instance sends, or on the instance's own. An interface with the policy's name is the host's, any
 *             other is taken for it until a frame with the instance's MAC tells.
 *   Where the policy does not tell an instance's MAC, it is the one that it was last seen with: first, that of a frame
 *   from one of its own addresses.
 *
 * WHAT COMES OF IT. By name: both checks, as the switch passes the frame on; one that left is `bypass`. Copies of a
 * frame for everybody are judged where they enter, for what they leave behind; the frame's verdict is that of its
 * sender's check, as live. So is one that left and whose sender is behind a port where nothing was captured: else a
 * capture at one port would have one side of each connection only. At one port: the check there; what goes to the
 * instance comes from outside, where nobody is whom the instance is, and from a balancer's port if it has that MAC.
 * Other EtherTypes are denied. Fragments wait within the bounds of a live worker.
 *
 * What is no Ethernet frame has no port in a switch: by name it is judged by its addresses. With `at`, what is of a
 * link type that is not supported, or has no whole Ethernet header, is passed over.
 *
 *   errors     Without memory a fragment that waits is not flooded, as where the live worker has no room for it.
 */
#ifndef DP_IO_REPLAY_AT_PORT_H
#define DP_IO_REPLAY_AT_PORT_H

#include "capture_ports.h"

/*
 * Whether a frame was seen at a port: 1 or 0, or DP_E_MEMORY. `interface` is the one that it was captured at and
 * `number` its own, from 1; NULL and 0 where the capture tells none.
 */
int dp_at_port_concerns(struct dp_at_port *ports, const struct dp_frame *frame,
                        const struct dp_capture_interface *interface, uint32_t number);
/* Judges one that was; what dp_at_port_concerns has found of its interface holds until ports are set anew. */
void dp_at_port_judge(struct dp_at_port *ports, struct dp_engine *engine, const struct dp_frame *frame, uint32_t number,
                      struct dp_record *record, struct dp_flow *flow);
/* A frame that waited has its answer: one for everybody goes on. */
void dp_at_port_resolved(struct dp_at_port *ports, struct dp_engine *engine, const struct dp_resolution *resolution);

#endif
