/*
 * dp_api.h: what Python sees of the C side: of judging here; of the connection table in dp_connections.h, of what is
 * gathered from records in dp_findings.h, of live traffic in dp_live.h, of captures in dp_captures.h, of text in
 * dp_text.h.
 *
 * The part of each between the two cffi marks is cut out as it stands and given to cffi, in this order; it holds only
 * plain declarations. Conventions for all of it:
 *
 *   ownership  Handles come from a `_new` or `_open` call and go back through the matching `_free`. Arrays belong
 *              to the caller; nothing keeps a pointer into them beyond the call.
 *   errors     Functions that can fail return 0 (or a count) on success and a negative `enum dp_error` otherwise;
 *              dp_error_text() names it. On failure nothing has changed.
 *   units      Times are nanoseconds since the epoch of whoever calls; sizes are bytes; addresses and ports in
 *              structures are in host order only where the type is an integer, address bytes are in network order.
 *   threads    One thread at a time per handle; different engines are independent. No global state.
 *   numbers    An instance is known by its zone (0 .. DP_ZONES_MAX-1), a rule by its rule number (from 1; 0 = none).
 *              Both are given out by Python, and again only after dp_plane_retire.
 */
#ifndef DP_API_H
#define DP_API_H

#include <stddef.h>
#include <stdint.h>

/* cffi: begin */

enum dp_error {
    DP_E_MEMORY = -1,
    DP_E_ARGUMENT = -2,
    DP_E_IO = -3,
    DP_E_FORMAT = -4,
    DP_E_TRUNCATED = -5,
    DP_E_LIMIT = -6
};

const char *dp_error_text(int error);

/* ---- the words of an answer (SPEC 7) ---- */

enum dp_verdict { DP_DENY, DP_ALLOW, DP_BYPASS, DP_VERDICTS };
enum dp_direction { DP_INGRESS, DP_EGRESS, DP_DIRECTIONS };
enum dp_origin { DP_ORIGIN_NONE, DP_INBOUND, DP_OUTBOUND, DP_ORIGINS };
enum dp_state {
    DP_STATE_NEW,
    DP_STATE_ESTABLISHED,
    DP_STATE_RELATED,
    DP_STATE_DISCONNECTED,
    DP_STATE_INVALID,
    DP_STATE_UNTRACKED,
    DP_STATES
};
enum dp_reason {
    DP_REASON_RULE,
    DP_REASON_NO_RULE_MATCHED,
    DP_REASON_CONNECTION,
    DP_REASON_RELATED,
    DP_REASON_DISCONNECTED,
    DP_REASON_INVALID,
    DP_REASON_MALFORMED,
    DP_REASON_TABLE_FULL,
    DP_REASON_LOAD_BALANCER,
    DP_REASON_CONTROL,
    DP_REASONS
};

/* Why a packet is invalid or malformed: the finer word behind the reason. */
enum dp_cause {
    DP_CAUSE_NONE,
    DP_CAUSE_SHORT_HEADER,
    DP_CAUSE_BAD_LENGTH,
    DP_CAUSE_BAD_VERSION,
    DP_CAUSE_EXTENSION_CHAIN,
    DP_CAUSE_BAD_CHECKSUM,
    DP_CAUSE_FRAGMENT,
    DP_CAUSE_FRAGMENT_LIMIT,
    DP_CAUSE_TCP_FLAGS,
    DP_CAUSE_TCP_NO_CONNECTION,
    DP_CAUSE_TCP_STATE,
    DP_CAUSE_TCP_WINDOW,
    DP_CAUSE_ICMP_UNSOLICITED,
    DP_CAUSE_ICMP_UNRELATED,
    DP_CAUSE_ICMP_TYPE,
    DP_CAUSE_NEIGHBOUR_DISCOVERY,
    DP_CAUSE_SPOOFED,
    DP_CAUSE_NOT_IP,
    DP_CAUSE_ARP,
    DP_CAUSE_MULTICAST_LISTENER,
    DP_CAUSE_DHCP,
    DP_CAUSE_DHCP_SERVER,
    DP_CAUSE_CONTROL_RATE,
    DP_CAUSES
};

/* How a frame begins; with any other value nothing in it is read, so that it is no IP. */
enum dp_link {
    DP_LINK_ETHERNET,
    DP_LINK_RAW,
    DP_LINK_NULL,
    DP_LINK_LOOP,
    DP_LINK_SLL,
    DP_LINK_SLL2,
    DP_LINK_PPP,
    DP_LINK_PPPOE,
    DP_LINK_CISCO_HDLC,
    DP_LINK_NFLOG,
    DP_LINK_PKTAP,
    DP_LINKS
};
/* The enum dp_link for a link type as files write it (the registry of tcpdump.org), DP_LINKS if not supported. */
uint32_t dp_link_of(uint32_t link_type);

/*
 * What is known of a frame besides its bytes: its transport checksum is not complete yet, or was found right; it was
 * received by the interface at which it was seen, or sent by it; it stands in an enhanced packet block of pcapng.
 */
enum { DP_FRAME_CHECKSUM_OFFLOADED = 1, DP_FRAME_RECEIVED = 2, DP_FRAME_SENT = 4, DP_FRAME_IN_BLOCK = 8 };

/* One frame as it was seen; `captured` bytes of its `length` on the wire are at `data`. */
struct dp_frame {
    uint64_t time_ns;
    const uint8_t *data;
    uint32_t captured;
    uint32_t length;
    uint32_t link;
    uint32_t capture;
    uint32_t flags;
    uint32_t interface; /* of its capture, counted from 1 as pcapng describes them; 0 where there is none */
};

/* The words of these enumerations as people read them; NULL for a kind or value that does not exist. */
enum dp_word_kind {
    DP_WORD_VERDICT,
    DP_WORD_DIRECTION,
    DP_WORD_ORIGIN,
    DP_WORD_STATE,
    DP_WORD_REASON,
    DP_WORD_CAUSE,
    DP_WORD_CONN_STATE,
    DP_WORD_LINK,
    DP_WORD_FLOOD,
    DP_WORD_FLOW_END,
    DP_WORD_FLOW_LOSS,
    DP_WORD_SHADOW,
    DP_WORD_RESTORED,
    DP_WORD_KINDS
};
const char *dp_word(int kind, int value);

/* What one check said (SPEC 1, 7). */
struct dp_check {
    uint32_t zone;
    uint32_t rule;
    uint8_t direction;
    uint8_t verdict;
    uint8_t state;
    uint8_t reason;
    uint8_t origin;
    uint8_t cause;
    uint8_t unused[2];
    uint64_t
        opened_by; /* the frame, counted from 1, that opened the connection; 0: none, or see dp_engine_note_openers */
};

/* The verdict in the record of a fragment that waits for its datagram's first (SPEC 4.6). */
enum { DP_WAITING = 255 };

/* What one packet met: up to two checks, egress before ingress. */
struct dp_record {
    uint64_t time_ns;
    uint32_t length;
    uint8_t verdict;
    uint8_t checks;
    uint8_t unused[2];
    struct dp_check check[2];
};

/* Addresses as 16 bytes in network order; IPv4 uses the first four. family is 4, 6, or 0 for no IP at all. */
struct dp_flow {
    uint8_t source[16];
    uint8_t destination[16];
    uint16_t source_port;
    uint16_t destination_port;
    uint8_t family;
    uint8_t protocol;
    uint8_t arp;  /* addresses are those of ARP, whose protocol is 0 */
    uint8_t icmp; /* type and code were read */
    uint8_t icmp_type;
    uint8_t icmp_code;
    uint8_t transport; /* ports, or a type, were read: a later fragment has none, and ports may be 0 */
    uint8_t unused;
    uint32_t vlans; /* ids of the outer and inner VLAN tag, 12 bits each, the outer's above; 0 for none */
};

/*
 * Where a packet of a replay was seen: its number in its capture, from 1, and its interface, as dp_replay_interface
 * knows it: from 1; 0 where there is none.
 */
struct dp_seen {
    uint64_t number;
    uint32_t capture;
    uint32_t interface;
};

/* ---- rule tables (SPEC 3): immutable once made ---- */

/* A prefix of `bits` bits; the bits behind them are zero. */
struct dp_prefix {
    uint8_t address[16];
    uint32_t bits;
};

/* A set of addresses that rules name as their remote: `count` prefixes from `first` on. */
struct dp_remote {
    uint32_t first;
    uint32_t count;
};

/*
 * Protocol and ports as one number: protocol << 16 | destination port, or protocol << 16 | type << 8 | code for
 * ICMP and ICMPv6, or protocol << 16 for the rest. A range holds both its ends.
 */
struct dp_selector {
    uint32_t low;
    uint32_t high;
};

enum { DP_REMOTE_ANY = -1 };

/* One rule, in the order in which rules are tried: the first that matches decides. */
struct dp_rule {
    uint32_t number;
    int32_t remote;
    uint32_t first_selector;
    uint32_t selectors;
    uint32_t action;
};

struct dp_rule_table;

int dp_rule_table_new(uint32_t family, const struct dp_rule *rules, uint32_t n_rules, const struct dp_remote *remotes,
                      uint32_t n_remotes, const struct dp_prefix *prefixes, uint32_t n_prefixes,
                      const struct dp_selector *selectors, uint32_t n_selectors, struct dp_rule_table **table);
/*
 * Rules that are others than those that a table was made from, with all that these refer to. Of the table's rules those
 * at the positions `removed` no longer count; each one of `added`, in their order, is tried right before the table's
 * rule at the position in `before`, which is n_rules for one behind all.
 */
struct dp_rule_changes {
    const struct dp_rule *rules;
    const struct dp_remote *remotes;
    const struct dp_prefix *prefixes;
    const struct dp_selector *selectors;
    uint32_t n_rules;
    uint32_t n_remotes;
    uint32_t n_prefixes;
    uint32_t n_selectors;
    const uint32_t *removed;
    const struct dp_rule *added;
    const uint32_t *before;
    uint32_t n_removed;
    uint32_t n_added;
};

/*
 * The table of now as a patch on one made by dp_rule_table_new, or on what a patch is on that has fewer of its rules
 * removed: it has a reference to that one, and decides as if it was made anew. DP_E_LIMIT where it better is.
 */
int dp_rule_table_patch(const struct dp_rule_table *before, const struct dp_rule_changes *changes,
                        struct dp_rule_table **table);
/* Where the first of `n` numbers is that is this one; `n` for none. */
uint32_t dp_rule_position(const uint32_t *numbers, uint32_t n, uint32_t number);
void dp_rule_table_free(struct dp_rule_table *table);
/* Bytes that the table occupies. */
uint64_t dp_rule_table_size(const struct dp_rule_table *table);
/* The rule number that decides, 0 when none matches; `action` is set to DP_ALLOW or DP_DENY. */
uint32_t dp_rule_table_lookup(const struct dp_rule_table *table, const uint8_t *remote, uint32_t selector,
                              uint32_t *action);
/* The positions among the table's rules that decide `n` questions, 32 at most, DP_NO_MATCH for none. */
void dp_rule_table_find_many(const struct dp_rule_table *table, const uint8_t *const *remotes,
                             const uint32_t *selectors, uint32_t n, uint32_t *found);

/* ---- who holds which address (SPEC 7, first point) ---- */

/* An address or prefix that an instance holds; `virtual_ip` is 1 for an allowed address pair. */
struct dp_holding {
    struct dp_prefix prefix;
    uint32_t family;
    uint32_t zone;
    uint32_t virtual_ip;
};

/*
 * A MAC of an instance (balancer = 0) or of a load balancer (its number, from 1; `has_port`: an interface of its own).
 * `family`: 0 for that of an interface; else it is a virtual MAC, which goes with the virtual IPs of `pair` alone.
 */
struct dp_mac {
    uint8_t mac[6];
    uint8_t has_port;
    uint8_t family;
    uint32_t zone;
    uint32_t balancer;
    struct dp_prefix pair;
};

/*
 * Load balancer `balancer` (from 1) has this address; or this backend, with transfer_client_ip (SPEC 3.5). `has_port`:
 * it has an interface of its own, and where ports are known it is nowhere else.
 */
struct dp_balancer_address {
    uint8_t address[16];
    uint32_t family;
    uint32_t balancer;
    uint32_t has_port;
};
struct dp_backend {
    uint32_t balancer;
    uint32_t zone;
};

struct dp_endpoints;

int dp_endpoints_new(const struct dp_holding *holdings, uint32_t n_holdings, const struct dp_mac *macs, uint32_t n_macs,
                     const struct dp_balancer_address *balancers, uint32_t n_balancers,
                     const struct dp_backend *backends, uint32_t n_backends, struct dp_endpoints **endpoints);
void dp_endpoints_free(struct dp_endpoints *endpoints);

/* ---- the engine ---- */

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

enum { DP_ZONES_MAX = 16777215 };

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
/* Shares out anew what is not used of the connection table, whose bound holds for all shards together. To be called
 * every now and then where there are several. */
void dp_plane_balance(struct dp_plane *plane);
/* For a plane that no workers drive. Lets time pass on all shards: expired entries are taken out. Time never runs
 * backwards (SPEC 4.3). */
void dp_plane_advance(struct dp_plane *plane, uint64_t time_ns);
/* As dp_engine_note_openers, on all shards; frames are counted through all of them. */
int dp_plane_note_openers(struct dp_plane *plane);

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

/* Lets time pass: expired entries are taken out. Time never runs backwards (SPEC 4.3). */
void dp_engine_advance(struct dp_engine *engine, uint64_t time_ns);

/* ---- counters ---- */

struct dp_counter {
    uint64_t packets;
    uint64_t bytes;
};
/* What floods a connection table, told apart by the entries that it makes. */
enum dp_flood { DP_FLOOD_TCP_HALF_OPEN, DP_FLOOD_TCP, DP_FLOOD_UDP, DP_FLOOD_ICMP, DP_FLOOD_OTHER, DP_FLOODS };
/*
 * Entries dropped early to make room; new connections denied as table-full; how many of these because their instance
 * had its share of the table or more.
 */
struct dp_flood_counter {
    uint64_t dropped_early;
    uint64_t refused;
    uint64_t refused_over_share;
};
/* What a shadow says of a packet that was judged: the same, or that it would be denied, or passed, and is not. */
enum dp_shadow_outcome { DP_SHADOW_SAME, DP_SHADOW_WOULD_DENY, DP_SHADOW_WOULD_ALLOW, DP_SHADOW_OUTCOMES };
/*
 * Why a flow record of live traffic is lost: there was no place to gather it, the queue to the writer took no more, or
 * the file could not be written, which only Python knows and counts.
 */
enum dp_flow_loss { DP_FLOW_LOST_NO_ROOM, DP_FLOW_LOST_QUEUE_FULL, DP_FLOW_LOST_NOT_WRITTEN, DP_FLOW_LOSSES };
/*
 * `fragments_waiting` is of now. Datagrams that gave way to others; fragments that waited and were denied with them, or
 * after 30 s; fragments that were denied because there was no room for them to wait.
 */
struct dp_counters {
    struct dp_counter verdict[DP_VERDICTS];
    struct dp_counter check[DP_VERDICTS][DP_REASONS];
    struct dp_counter state[DP_STATES];
    struct dp_counter cause[DP_CAUSES];
    uint64_t consequences[DP_CAUSES]; /* of these, packets of flows whose first packets were denied */
    uint64_t connections_opened;
    uint64_t connections_expired;
    uint64_t connections_replaced;
    uint64_t connections_disconnected;
    uint64_t connections_resynchronised; /* both sides agreed on a place outside the TCP window */
    uint64_t early_drops;
    uint64_t table_full;
    uint64_t time_backwards;
    struct dp_flood_counter flood[DP_FLOODS];
    uint64_t fragments_waiting;
    uint64_t datagrams_evicted;
    uint64_t fragments_evicted;
    uint64_t fragments_expired;
    uint64_t fragments_refused;
    uint64_t flow_records; /* given out by live workers */
    uint64_t flow_records_lost[DP_FLOW_LOSSES];
    uint64_t shadow[DP_SHADOW_OUTCOMES]; /* packets, of all shadows so far */
    uint64_t entries;
    uint64_t max_entries;
    uint64_t table_bytes;
};
void dp_plane_counters(struct dp_plane *plane, struct dp_counters *counters);

/* `hits`: new connections it admitted or packets it denied; `traffic`: all packets it let pass or denied. */
struct dp_rule_counter {
    uint64_t hits;
    struct dp_counter traffic;
};
/* Counters of the rules numbered 0 .. n-1. */
void dp_plane_rule_counters(struct dp_plane *plane, struct dp_rule_counter *counters, uint32_t n);

/*
 * Denied packets by zone, direction, reason, cause, addresses, protocol and destination port (source ports taken
 * together). `consequences` are not in `count`: what belongs to no connection because this flow's first packets were
 * denied, of both directions.
 */
struct dp_denied {
    struct dp_flow flow;
    uint32_t zone;
    uint8_t direction;
    uint8_t reason;
    uint8_t cause;
    uint8_t unused;
    struct dp_counter count;
    struct dp_counter consequences;
    uint64_t overcount;
};
/*
 * The first `n` at most, and how many they are. Those with most packets come first, consequences among them, but what
 * belongs to no connection, of which no first packet was seen denied, behind all others. `overcount` bounds by how much
 * packets of `count` may be too high.
 */
int dp_plane_denied(struct dp_plane *plane, struct dp_denied *denied, uint32_t n);
/* Counts the denied checks of packets that were judged elsewhere, in their order, in this alone and in the consequences
 * of dp_plane_counters. */
void dp_plane_count_denied(struct dp_plane *plane, const struct dp_record *records, const struct dp_flow *flows,
                           uint32_t n);
/* At most so many entries have been in the connection tables at once; the sum of all shards. */
uint64_t dp_plane_most_entries(struct dp_plane *plane);

/* cffi: end */

_Static_assert(sizeof(struct dp_check) == 24, "a check is 24 bytes");
_Static_assert(sizeof(struct dp_record) == 64, "a record is a cache line");
_Static_assert(sizeof(struct dp_flow) == 48, "a flow is 48 bytes");

#endif
