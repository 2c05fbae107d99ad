/*
 * dp_live.h: what Python sees of live traffic: ports, workers, the feed, flows, a shadow.
 * What dp_api.h says of ownership, errors, units and threads holds here too.
 */
#ifndef DP_LIVE_H
#define DP_LIVE_H

#include "dp_findings.h"

/* cffi: begin */

/* ---- live traffic (io): ports, a learning switch between them, one thread a worker ---- */

/*
 * A firewall owns one engine a worker and the threads that run them. A port has one descriptor a worker: a queue of a
 * TAP, or an AF_PACKET socket, non-blocking, each frame behind a virtio-net header of 10 bytes (IFF_VNET_HDR,
 * PACKET_VNET_HDR). Descriptors stay the caller's: they must stay open until the port is removed.
 *
 * The functions of this part are called by one control thread. Those that need a worker's engine are carried out by
 * the worker between two bursts, in steps that are bounded, and return when they are done.
 */
struct dp_firewall;

enum { DP_WORKERS_MAX = 16, DP_FRAME_BYTES_MAX = 65600 };
/* Of AF_PACKET: as long as Linux makes super-packets (GSO_MAX_SIZE), with room for what is before them. */
enum { DP_BIG_FRAME_BYTES_MAX = 8 * 65536 };
enum dp_port_kind { DP_PORT_TAP, DP_PORT_PACKET };
int dp_firewall_new(const struct dp_conntrack_config *config, const uint64_t *seed, uint32_t workers,
                    struct dp_firewall **firewall);
/* Stops first if it runs. */
void dp_firewall_free(struct dp_firewall *firewall);
/* Whether workers that are started from now on shall use io_uring for TAPs; at first, they shall. */
void dp_firewall_want_uring(struct dp_firewall *firewall, int wanted);
/* 1: all workers use it. 0: it is not wanted, or nothing runs. Else -errno: why one of them does not, but goes on. */
int dp_firewall_uring(struct dp_firewall *firewall);
/* How long workers that are started from now on look for frames before they sleep, at most; at first, not at all. */
void dp_firewall_busy_poll(struct dp_firewall *firewall, uint32_t ns);
/* DP_E_ARGUMENT before the first dp_firewall_update. */
int dp_firewall_start(struct dp_firewall *firewall);
void dp_firewall_stop(struct dp_firewall *firewall);
/* Nanoseconds of the monotonic clock that workers judge by. */
uint64_t dp_firewall_now(void);

/* Adds a port with descriptors fd[0 .. workers-1]; returns its number, the lowest that is free, or DP_E_LIMIT. */
int dp_firewall_add_port(struct dp_firewall *firewall, const struct dp_port *port, const int *fd);
int dp_firewall_remove_port(struct dp_firewall *firewall, uint32_t number);
/*
 * From now on a super-packet of a tunnel over UDP leaves port `number`, of AF_PACKET, by the descriptor of a TAP whose
 * virtio-net header of 24 bytes describes tunnels (Linux 6.17) and whose frames are passed on to the port's interface;
 * what is refused there goes in pieces. -1: none, as at first. It stays the caller's, and open until the port is
 * removed.
 */
int dp_firewall_set_tunnel(struct dp_firewall *firewall, uint32_t number, int fd);
/* wants[number], of DP_PORTS_MAX: 1 where such a super-packet was cut since this was asked last, as there was none. */
void dp_firewall_want_tunnels(struct dp_firewall *firewall, uint8_t *wants);

/* Why a frame did not leave, beside what the verdict says. */
enum dp_port_drop {
    DP_DROP_FULL,           /* the port's queue took no more */
    DP_DROP_ERROR,          /* it could not be sent because the port fails */
    DP_DROP_NO_DESTINATION, /* no other port leads there */
    DP_DROP_FRAGMENT,       /* no room to keep a fragment that waits for its first */
    DP_DROP_MISSED,         /* they came faster than the worker took them from the system (AF_PACKET only) */
    DP_DROP_DAMAGED,        /* no Ethernet frame */
    DP_DROP_TOO_LONG,       /* longer than DP_FRAME_BYTES_MAX, by AF_PACKET than DP_BIG_FRAME_BYTES_MAX */
    DP_DROP_UNREADABLE,     /* the system could not give it: its virtio-net header cannot describe it */
    DP_DROP_OFFLOAD,        /* its virtio-net header asks for a checksum where none of its own belongs */
    DP_DROP_REFUSED,        /* the system refuses to send it, and would take others */
    DP_PORT_DROPS
};
/* Received from and sent to the port; `check` counts the checks made at it, `drop` what this port did not take or give.
 */
struct dp_port_counters {
    struct dp_counter received;
    struct dp_counter sent;
    struct dp_counter segmented; /* of those sent: super-packets that went in several pieces */
    struct dp_counter check[DP_DIRECTIONS][DP_VERDICTS][DP_REASONS];
    uint64_t drop[DP_PORT_DROPS];
    uint64_t bursts;
    uint64_t failures; /* how many times the port began to fail, by all workers' count */
    int32_t error;     /* errno with which the port fails now, 0 for none; each worker tries again */
    uint32_t unused;
};
/* Of n ports from number `first` on, 0 where a number has no port. */
int dp_firewall_port_counters(struct dp_firewall *firewall, uint32_t first, uint32_t n,
                              struct dp_port_counters *counters);
/* Of all ports below number n, what of it tells which ones fail. */
struct dp_port_failures {
    uint64_t failures;
    int32_t error;
    uint32_t unused;
};
int dp_firewall_port_failures(struct dp_firewall *firewall, struct dp_port_failures *failures, uint32_t n);

/* Kinds of items of the feed (below). */
enum dp_feed { DP_FEED_DENIED = 1, DP_FEED_CONNECTIONS = 2, DP_FEED_FRAMES = 4 };
enum { DP_FEED_KINDS = 3 };
/* What came of looking for frames before sleeping. */
enum dp_busy_poll { DP_BUSY_POLL_FOUND, DP_BUSY_POLL_IN_VAIN, DP_BUSY_POLLS };
/* Bursts by size: bursts[k] counts those of 2^k .. 2^(k+1)-1 frames. */
enum { DP_BURST_SIZES = 8 };
struct dp_worker_counters {
    uint64_t bursts[DP_BURST_SIZES];
    uint64_t burst_frames; /* frames of all bursts */
    uint64_t wakeups;
    uint64_t busy_polls[DP_BUSY_POLLS];
    uint64_t feed_lost[DP_FEED_KINDS]; /* items that found the feed full, by kind: of 1 << k at k */
};
int dp_firewall_worker_counters(struct dp_firewall *firewall, uint32_t worker, struct dp_worker_counters *counters);

/* A station that the switch knows: which port leads to `mac`, in this VLAN (0: none), or in all where it is fixed. */
struct dp_station {
    uint8_t mac[6];
    uint16_t port;
    uint16_t vlan;
    uint8_t fixed;
    uint8_t unused;
    uint32_t age_s;
};
/* At most n stations; returns how many. */
int dp_firewall_stations(struct dp_firewall *firewall, struct dp_station *stations, uint32_t n);

/* Its plane, with a shard for each worker: to be asked and changed like any other, but for updates. */
struct dp_plane *dp_firewall_plane(struct dp_firewall *firewall);
/*
 * As dp_plane_update, with what stands behind ports; update->time_ns is ignored: it happens now. DP_E_ARGUMENT where
 * one of the ports is none, or of another kind.
 */
int dp_firewall_update(struct dp_firewall *firewall, struct dp_policy_update *update);

/* ---- the feed: what workers tell while somebody wants to know ---- */

/*
 * One item, followed by `captured` bytes of the frame (DP_FEED_FRAMES only), filled up to a multiple of 8.
 * DP_FEED_DENIED: record, flow and port. DP_FEED_CONNECTIONS: event and connection. DP_FEED_FRAMES: record, port,
 * `sent` (0: received from the port; 1: sent to it), and its `flags` as in struct dp_frame.
 */
struct dp_feed_item {
    uint32_t size; /* of the whole item, the frame's bytes among them */
    uint8_t kind;
    uint8_t event;
    uint8_t sent;
    uint8_t flags;
    uint32_t port;
    uint32_t captured;
    uint64_t time_ns;
    struct dp_record record;
    struct dp_flow flow;
    struct dp_connection connection;
};
/* Which kinds are wanted from now on (0: none); frames of `port` only, or of all for -1. */
void dp_firewall_watch(struct dp_firewall *firewall, uint32_t kinds, int32_t port);
/*
 * Takes whole items that are there, of one worker after the other; returns the bytes written, 0 for none. The
 * descriptor is readable again as long as there is more, or a change has disconnected what is not told yet.
 */
int64_t dp_firewall_feed(struct dp_firewall *firewall, void *out, uint64_t size);
/*
 * How far the feed and the flow records of each worker have come, in bytes (2 * DP_WORKERS_MAX marks); and whether all
 * that had come by then is taken: what it says of numbers that are retired is read before they are given out again.
 */
void dp_firewall_feed_mark(const struct dp_firewall *firewall, uint64_t *marks);
int dp_firewall_feed_is_past(const struct dp_firewall *firewall, const uint64_t *marks);
/* A descriptor that is readable while there are items. */
int dp_firewall_feed_fd(const struct dp_firewall *firewall);

/* ---- flows of live traffic (flow_log_live.h) ---- */

/*
 * Workers gather flows from now on, each those of its shard, denied ones for `interval_ns`. Before the first start, and
 * before connections are restored. 0, DP_E_MEMORY, or DP_E_ARGUMENT while workers run.
 */
int dp_firewall_gather_flows(struct dp_firewall *firewall, uint64_t interval_ns);
/*
 * Takes flow records that were given out, at most `n`, of one worker after the other; returns how many. `offset_ns` is
 * added to their times. `first_packet` counts the frames of the worker's shard.
 */
int dp_firewall_take_flows(struct dp_firewall *firewall, int64_t offset_ns, struct dp_flow_record *out, uint32_t n);
/*
 * Flows that are not given out yet, as they stand: live connections and denied flows, from *cursor on (0 to begin), at
 * most `n`; returns how many, 0 at the end.
 */
int dp_firewall_flows(struct dp_firewall *firewall, uint64_t *cursor, int64_t offset_ns, struct dp_flow_record *out,
                      uint32_t n);

/* ---- a shadow: another policy judges live packets beside the one in force (shadow.h) ---- */

/*
 * `plane`, which has a shard for each worker, a policy, and the numbers of the firewall's, judges all packets from now
 * on, in place of the shadow that there is; it is the firewall's then, until the shadow ends, and what is done with it
 * is done by the workers. It takes over the connections that live, `taken_over` of them. 0, DP_E_MEMORY, or
 * DP_E_ARGUMENT where it does not fit.
 */
int dp_firewall_begin_shadow(struct dp_firewall *firewall, struct dp_plane *plane, uint64_t *taken_over);
void dp_firewall_end_shadow(struct dp_firewall *firewall);
/* How many packets it judged otherwise; and, of its counters, those of the table. DP_E_ARGUMENT without a shadow. */
int dp_firewall_shadow(struct dp_firewall *firewall, struct dp_difference_count *count, struct dp_counters *counters);
/* The flows of these, those with most packets first, at most `n`; returns how many. */
int64_t dp_firewall_shadow_flows(struct dp_firewall *firewall, struct dp_flow_difference *flows, uint64_t n);

/* cffi: end */

#endif
