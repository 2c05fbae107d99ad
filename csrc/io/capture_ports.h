/*
 * capture_ports.h: the ports at which captures were taken (SPEC 7, "At a port"): which of a policy's interfaces each of
 * a capture's is, and what is known there, for replay_at_port.h.
 *
 * An interface is found by its name, once for each version of the ports. An uplink that the policy does not name
 * becomes a port when it is first seen.
 *
 *   ownership  The struct owns all that it holds. Interfaces belong to their captures.
 */
#ifndef DP_IO_CAPTURE_PORTS_H
#define DP_IO_CAPTURE_PORTS_H

#include "capture.h"
#include "frame_path.h"

/* Of an interface that is none of the ports. */
enum { DP_AT_NO_PORT = DP_PORTS_MAX + 1 };

/* From which side of an interface a capture was taken. */
enum dp_capture_side { DP_SIDE_UNKNOWN, DP_SIDE_HOST, DP_SIDE_INSTANCE };

struct dp_capture_port {
    char name[DP_INTERFACE_NAME + 1];
    bool active;
    bool seen; /* a frame was captured there */
    struct dp_port port;
};

/* An interface of a capture: its port, as of a version of the ports, and the side that it was taken from. */
struct dp_known_interface {
    uint64_t version;
    uint32_t port;
    uint32_t side;
};

/* A fragment for everybody that waits for its datagram's answer. */
struct dp_at_port_frame {
    uint64_t number;
    uint32_t in;
    struct dp_frame frame;
    uint8_t *bytes; /* NULL: the slot is free */
};

struct dp_at_port {
    struct dp_capture_port named[DP_PORTS_MAX];
    uint32_t n; /* ports are below this number, but for those that are learned: these are from DP_PORTS_MAX down */
    int32_t at;
    uint64_t version;
    bool bounded;
    struct dp_bindings served;
    struct dp_bindings alone; /* the instance at whose port the captures were taken */
    struct dp_mac_table stations;
    struct dp_at_port_frame waiting[DP_WAITING_FRAMES_MAX];
    uint32_t n_waiting;
    struct dp_known_interface *known; /* by the interface's number */
    uint32_t n_known;
};

struct dp_at_port *dp_at_port_new(void);
void dp_at_port_free(struct dp_at_port *ports);
/* As dp_replay_set_ports. */
int dp_at_port_set(struct dp_at_port *ports, const struct dp_named_port *named, uint32_t n, int32_t at);

/* Looks for the port whose name an interface, `number` from 1, bears; 0 or DP_E_MEMORY. */
int dp_at_port_look_up(struct dp_at_port *ports, const struct dp_capture_interface *interface, uint32_t number);
/* What was found so: the port of an interface, or DP_AT_NO_PORT, as for the number 0. */
uint32_t dp_at_port_of(const struct dp_at_port *ports, uint32_t number);
/* The port of the load balancer with this MAC, or if it has none that is known, this address; else NULL. */
const struct dp_port *dp_at_port_balancer(const struct dp_at_port *ports, const struct dp_endpoints *endpoints,
                                          const uint8_t *mac, uint32_t family, const union dp_address *address);
/* A frame waits no more. */
void dp_at_port_drop_waiting(struct dp_at_port *ports, struct dp_at_port_frame *waiting);

#endif
