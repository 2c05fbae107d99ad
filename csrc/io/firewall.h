/*
 * firewall.h: the workers of a firewall, and how its control side (firewall.c, switch_ports.c, feed_reader.c) has them
 * do something.
 *
 * Only the thread that called dp_live.h's functions is in here. A worker's own state is its alone: all that is read or
 * changed of it is read or changed by a COMMAND, which the worker carries out between two turns while the caller waits.
 * So is the work that the plane wants done on a worker's shard (plane.h).
 *
 * WHAT A CHANGE DISCONNECTED is told while somebody watches connections: the engine only notices it at the next look at
 * an entry, so after a change each call of dp_firewall_feed has some entries looked at, in steps of DP_TOLD, until all
 * have been. Items come no faster than they are taken, so none is lost for that; but where a remote group changes the
 * update itself looks at all entries, to count, and what the feed cannot hold then is lost, and counted.
 */
#ifndef DP_FIREWALL_H
#define DP_FIREWALL_H

#include "../plane.h"
#include "worker.h"

enum { DP_TOLD = 512 };

struct dp_firewall {
    uint32_t workers;
    struct dp_plane *plane; /* a shard for each worker */
    struct dp_plane_driver driver;
    int feed_wake;
    uint32_t watched;   /* enum dp_feed */
    uint32_t telling;   /* the worker whose entries are looked at; `workers` when all have been */
    uint64_t told;      /* cursor in its engine */
    uint32_t next_feed; /* the worker whose turn it is */
    uint32_t next_flows;
    struct dp_plane *shadow_plane; /* NULL: there is none */
    struct dp_plane_driver shadow_driver;
    bool used[DP_PORTS_MAX];
    uint32_t left[DP_PORTS_MAX]; /* 1 + the zone whose MACs the number keeps, though its port is gone; 0: of none */
    struct dp_mac_table stations;
    struct dp_worker worker[];
};

/* Calls all workers, one after the other. */
static inline void dp_call_all(struct dp_firewall *f, dp_command *command, void *argument)
{
    for (uint32_t i = 0; i < f->workers; i++)
        dp_worker_call(&f->worker[i], command, argument);
}

/* Whether this may stand behind a port. */
static inline bool dp_is_port(const struct dp_port *port)
{
    return port->zone >= DP_ZONE_NONE && port->zone < DP_ZONES_MAX && port->kind <= DP_PORT_PACKET;
}

/* Makes the feed's descriptor readable. */
void dp_firewall_wake_feed(const struct dp_firewall *f);

#endif
