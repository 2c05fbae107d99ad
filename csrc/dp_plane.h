/*
 * dp_plane.h: what Python sees of a plane: made, put in force, and frames judged on its shards.
 *
 * What dp_api.h says of ownership, errors, units and threads holds here too.
 */
#ifndef DP_DP_PLANE_H
#define DP_DP_PLANE_H

#include "dp_tables.h"

/* cffi: begin */

/* ---- connections (SPEC 4) ---- */

/*
 * The states of a connection entry; 0 is never an entry's state. _INITIATOR and _RESPONDER name the side whose segment
 * led there: SYN_RECEIVED_INITIATOR is a simultaneous open where the initiator has acknowledged the responder's SYN,
 * FIN_WAIT_x has the FIN of x, CLOSE_WAIT_x has it acknowledged, LAST_ACK_x still lacks the acknowledgement of x's FIN.
 */
enum dp_conn_state {
    DP_CONN_INVALID,
    DP_CONN_TCP_SYN_SENT,
    DP_CONN_TCP_SIMULTANEOUS,
    DP_CONN_TCP_SYN_RECEIVED,
    DP_CONN_TCP_SYN_RECEIVED_INITIATOR,
    DP_CONN_TCP_ESTABLISHED,
    DP_CONN_TCP_FIN_WAIT_INITIATOR,
    DP_CONN_TCP_FIN_WAIT_RESPONDER,
    DP_CONN_TCP_CLOSE_WAIT_INITIATOR,
    DP_CONN_TCP_CLOSE_WAIT_RESPONDER,
    DP_CONN_TCP_CLOSING,
    DP_CONN_TCP_LAST_ACK_INITIATOR,
    DP_CONN_TCP_LAST_ACK_RESPONDER,
    DP_CONN_TCP_TIME_WAIT,
    DP_CONN_TCP_CLOSE,
    DP_CONN_ICMP_ONE_WAY,
    DP_CONN_ICMP_TWO_WAY,
    DP_CONN_OTHER_ONE_WAY,
    DP_CONN_OTHER_TWO_WAY,
    DP_CONN_STATES
};

/* What a TCP segment is to the transition table; ACK_FIN means: it acknowledges the other side's FIN. */
enum dp_tcp_event {
    DP_TCP_SYN,
    DP_TCP_SYN_ACK,
    DP_TCP_ACK,
    DP_TCP_ACK_FIN,
    DP_TCP_FIN,
    DP_TCP_FIN_ACK_FIN,
    DP_TCP_RST,
    DP_TCP_EVENTS
};
enum dp_side { DP_INITIATOR, DP_RESPONDER, DP_SIDES };

/*
 * What Python decides about connections. `tcp_next` is the transition table: the state after an event, or
 * DP_CONN_INVALID where the event is impossible. `timeout_ns` is by state. `tentative` marks the states whose
 * entries go first when the table is full (SPEC 4.9). `reopens` marks the states in which a new SYN is a new
 * connection. `verify_checksums` is an enum dp_verify. An instance sends `control_burst` packets of control traffic at
 * once, and `control_rate` a second in the long run, large ones counted more (SPEC 4.8); a rate of 0 is no bound.
 */
enum dp_verify { DP_VERIFY_NEVER, DP_VERIFY_ALWAYS, DP_VERIFY_AT_PORTS };
struct dp_conntrack_config {
    uint64_t timeout_ns[DP_CONN_STATES];
    uint8_t tcp_next[DP_CONN_STATES][DP_SIDES][DP_TCP_EVENTS];
    uint8_t tentative[DP_CONN_STATES];
    uint8_t reopens[DP_CONN_STATES];
    uint32_t max_entries;
    uint32_t control_rate;
    uint32_t control_burst;
    uint8_t tcp_be_liberal;
    uint8_t reevaluate;
    uint8_t verify_checksums;
    uint8_t unused;
};

/* ---- a plane and its shards ---- */

/* A shard: what judges the packets that belong to it, with their connections. */
struct dp_engine;
/* One policy over some shards. */
struct dp_plane;

enum { DP_SHARDS_MAX = 16 };

/* `seed` keys the hash of the connection tables: random when live, fixed where runs must repeat. */
int dp_plane_new(const struct dp_conntrack_config *config, const uint64_t *seed, uint32_t shards,
                 struct dp_plane **plane);
void dp_plane_free(struct dp_plane *plane);
/* Shard `number`, which is the plane's; NULL where there is none. */
struct dp_engine *dp_plane_shard(struct dp_plane *plane, uint32_t number);
/* For a plane that no workers drive yet. Takes the memory now that `most` connections of all shards, and the denied
 * flows, come to need: whoever touches a page first waits while the kernel fills it with zeros. 0 or DP_E_MEMORY. */
int dp_plane_populate(struct dp_plane *plane, uint32_t most);
/* Shares out anew what is not used of the connection table, whose bound holds for all shards together. To be called
 * every now and then where there are several. */
void dp_plane_balance(struct dp_plane *plane);
/* For a plane that no workers drive. Lets time pass on all shards: expired entries are taken out. Time never runs
 * backwards (SPEC 4.3). */
void dp_plane_advance(struct dp_plane *plane, uint64_t time_ns);
/* As dp_engine_note_openers, on all shards; frames are counted through all of them. */
int dp_plane_note_openers(struct dp_plane *plane);

/* ---- what is put in force (SPEC 5) ---- */

/*
 * One instance's tables by [direction][0 = IPv4, 1 = IPv6]; NULL denies everything. With `dhcp_server` its rules decide
 * about what it says as a server of DHCP, which is invalid else (SPEC 4.8).
 */
struct dp_zone_tables {
    uint32_t zone;
    uint32_t dhcp_server;
    const struct dp_rule_table *table[2][2];
};

/*
 * An address that left, or came into, the remote group of a rule (SPEC 5.4). A revocation: connections from it that the
 * rule has admitted lose their ground. An arrival: inbound connections from it that the deny rule would decide about
 * now are disconnected.
 */
struct dp_rule_address {
    uint8_t address[16];
    uint32_t family;
    uint32_t rule;
};

enum { DP_PORTS_MAX = 1024 };
/* The zone of a port that has no instance behind it. */
enum { DP_ZONE_NONE = -1 };

/* What stands behind a port: an instance (its zone), a load balancer (its number, from 1), or the world outside. */
struct dp_port {
    int32_t zone;
    uint32_t balancer;
    uint8_t kind;    /* enum dp_port_kind, once and for all */
    uint8_t guarded; /* source MAC and addresses must be the instance's own, or the frame is `invalid` */
    uint8_t has_mac; /* the instance's or balancer's MAC is known: it is never learned elsewhere */
    uint8_t mac[6];
    uint8_t closed; /* nobody is behind it: nothing is taken from it, and nothing goes there */
    uint8_t unused[2];
};

/* What stands behind port `number` from now on. */
struct dp_port_update {
    uint32_t number;
    struct dp_port port;
};

/*
 * A policy put in force as a whole (SPEC 5.1): all instances with their tables, who holds which address, the
 * conntrack settings, and what stands behind those `ports` of a firewall where that changes; `cut` are zones whose
 * inbound connections are disconnected at `time_ns` (SPEC 5.2). The engine takes references: the caller may free tables
 * and endpoints afterwards. Zones left out are gone with their connections. `disconnected` receives the number of
 * connections cut, by position in `cut` (or is NULL), and `revoked` the number of those cut by revocations and
 * arrivals, for which the table is walked once.
 */
struct dp_policy_update {
    const struct dp_zone_tables *zones;
    uint32_t n_zones;
    struct dp_endpoints *endpoints;
    const struct dp_conntrack_config *config;
    const struct dp_port_update *ports;
    uint32_t n_ports;
    const uint32_t *cut;
    uint32_t n_cut;
    const struct dp_rule_address *revocations;
    uint32_t n_revocations;
    const struct dp_rule_address *arrivals;
    uint32_t n_arrivals;
    uint64_t time_ns;
    uint64_t *disconnected;
    uint64_t revoked;
};
/* In all shards or, on an error, in none. DP_E_ARGUMENT where it has ports: a firewall's plane is updated by that. */
int dp_plane_update(struct dp_plane *plane, struct dp_policy_update *update);
/* What an update would disconnect, by position in update->cut and in update->revoked; nothing changes. Zones, endpoints
 * and settings need only be there where there are revocations or arrivals. */
int dp_plane_rehearse(struct dp_plane *plane, struct dp_policy_update *update);

/* Numbers by what they mean: zones[z] and rules[r] are 1 where no policy names zone z or rule r any more, else 0. */
struct dp_retired {
    uint8_t *zones;
    uint8_t *rules;
    uint32_t n_zones;
    uint32_t n_rules;
};
/*
 * Gives up what is still kept of these numbers, so that they can be given out again, and sets rules[r] to 0 where a
 * connection lives on under rule r: that number is in use. Counters of the others begin anew. Resolutions that are
 * there afterwards may be of a retired zone: they are taken before its number is given out.
 */
void dp_plane_retire(struct dp_plane *plane, struct dp_retired *retired);

/* ---- frames judged ---- */

/* Judges `n` frames in order; records[i] (and flows[i], unless flows is NULL) describe frames[i]. */
int dp_engine_process(struct dp_engine *engine, const struct dp_frame *frames, uint32_t n, struct dp_record *records,
                      struct dp_flow *flows);

/*
 * A record that came out of dp_engine_process as DP_WAITING and is decided now. Frames are numbered from 0 over the
 * life of the engine.
 */
struct dp_resolution {
    uint64_t number;
    struct dp_record record;
};
/* Takes at most `n` resolutions, in the order in which they were decided; returns how many. */
int dp_engine_resolved(struct dp_engine *engine, struct dp_resolution *resolutions, uint32_t n);
/* Frames judged so far, which is the number of the next; and how many wait, or have resolutions that nobody took yet.
 */
uint64_t dp_engine_frames(const struct dp_engine *engine);
uint32_t dp_engine_waiting(const struct dp_engine *engine);
/* Denies what still waits and has a number up to `number`. */
void dp_engine_give_up(struct dp_engine *engine, uint64_t number);

/*
 * Notes from now on by which frame each connection is opened, for the checks of its packets; 8 bytes more for each
 * entry that is used. 0 or DP_E_MEMORY.
 */
int dp_engine_note_openers(struct dp_engine *engine);

/* Lets time pass: expired entries are taken out, of a plane that is driven some at a time. Time never runs backwards
 * (SPEC 4.3). */
void dp_engine_advance(struct dp_engine *engine, uint64_t time_ns);

/* cffi: end */

#endif
