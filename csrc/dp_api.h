/*
 * dp_api.h: what Python sees of the C side: here what all of it stands on, frames as they were seen and the words of an
 * answer. Of the tables of a policy: dp_tables.h; of a plane, which judges: dp_plane.h; of its counters: dp_counters.h;
 * of the connection table: dp_connections.h; of what is gathered from records: dp_findings.h; of live traffic:
 * dp_live.h; of captures: dp_captures.h; of text: dp_text.h.
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

enum { DP_ZONES_MAX = 16777215 };

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

/* cffi: end */

_Static_assert(sizeof(struct dp_check) == 24, "a check is 24 bytes");
_Static_assert(sizeof(struct dp_record) == 64, "a record is a cache line");
_Static_assert(sizeof(struct dp_flow) == 48, "a flow is 48 bytes");

#endif
