/*
 * fragment.h: virtual reassembly: every fragment gets the answer of its datagram (SPEC 4.6).
 *
 * THE DATAGRAM. Fragments belong together by family, addresses, identifier, protocol (IPv4), VLANs, the instances on
 * both sides, and where there are ports, the one that they came by. The first fragment has the transport header: it is
 * judged, and its answer is kept here. Later fragments get a copy of it. Those that come before the first wait for it;
 * the caller is told of them when the answer is there.
 *
 * LIFE. A datagram is kept for 30 s from its first packet; what waits longer is refused. Once all of it was seen, a
 * fragment that comes twice still gets its answer; the first fragment again, or any other, begins a new datagram.
 * A fragment that overlaps another (other than one that came twice as it is), reaches beyond 65,535 bytes or the
 * datagram's end, or is one too many, is refused and spoils its datagram: what comes after it is refused too. A first
 * fragment as long as the one before but with another transport header is another datagram's, whose identifier was used
 * again while this one was not complete: it is judged for itself, and takes this one's place.
 *
 * CHANGES. An answer is the policy's of then. What is kept of the first fragment lets the caller look at an allowed
 * datagram once more behind a change (judge.h); a first fragment that comes again behind one is judged afresh. With
 * another transport header than one that was allowed before the change, it spoils the datagram: its receiver may have
 * kept that one.
 *
 * BOUNDS. DP_DATAGRAMS at once, DP_DATAGRAM_FRAGMENTS in one, DP_WAITING_EACH waiting for one datagram, and in all
 * DP_WAITING_MAX or what dp_fragments_bound says. When there is no room for a datagram, the oldest that is whole gives
 * way. If there is none, and when there is no place to wait, a datagram of whoever has the most gives way with all that
 * waits of it, by the shares of fair_share.h: the side is the port, in a replay the sending instance or the world
 * outside; the destination is the instance that it would enter; the source is the network, /24 or /56. So nobody takes
 * the places of another port; from one port, those of another instance only when their numbers are alike
 * (DP_SHARE_DESTINATIONS); and those of another source only by forging many, at a rate that fills all places before the
 * first fragment comes.
 *
 * Nothing is allocated per packet.
 */
#ifndef DP_FRAGMENT_H
#define DP_FRAGMENT_H

#include "flow_key.h"

enum { DP_DATAGRAMS = 4096, DP_DATAGRAM_FRAGMENTS = 128, DP_WAITING_MAX = 4096, DP_WAITING_EACH = 64 };
/* The port of a fragment that came by none. */
#define DP_NO_PORT UINT32_MAX
/* In the number of a copy of a frame, beside the frame's own: who asks for numbers is not told of it. */
#define DP_FRAGMENT_OF_COPY (UINT64_C(1) << 63)

#define DP_FRAGMENT_LIFE_NS 30000000000u

/* What a fragment meets. */
enum dp_fragment_fate {
    DP_FRAGMENT_JUDGE, /* the first: judge it, then call dp_fragments_answer */
    DP_FRAGMENT_COPY,  /* a later one: its datagram's answer is in the record */
    DP_FRAGMENT_WAIT,  /* the first has not come yet */
    DP_FRAGMENT_REFUSE /* invalid */
};

struct dp_fragment_key {
    union dp_address source;
    union dp_address destination;
    uint32_t id;
    uint32_t vlans;
    uint32_t zone[DP_DIRECTIONS];
    uint32_t port;
    uint8_t family;
    uint8_t protocol; /* 0 for IPv6: RFC 8200, 4.5 */
    uint8_t unused[2];
};
_Static_assert(sizeof(struct dp_fragment_key) == 56, "no padding where bytes are hashed and compared");

/* What is kept of a first fragment that was judged. */
struct dp_fragment_first {
    /* Of the connection that it belongs to, for each check that has one; set by the caller. */
    struct dp_flow_key key[DP_DIRECTIONS];
    uint32_t hash[DP_DIRECTIONS];
    uint32_t change; /* the last one before it */
    uint32_t length; /* bytes */
    uint32_t selector;
    struct dp_tcp_segment tcp;
    uint16_t source_port;
    uint8_t protocol;
    uint8_t icmp_class;
};

struct dp_fragments;

/* A packet that waited now has an answer. It must not be given back to the fragments. */
typedef void dp_fragment_answered(void *owner, uint64_t number, const struct dp_packet *packet,
                                  const struct dp_record *record);

/* `secret` keys the hash of the datagrams; what they are answered does not depend on it. */
struct dp_fragments *dp_fragments_new(dp_fragment_answered *answered, void *owner, const struct dp_hash_secret *secret);
void dp_fragments_free(struct dp_fragments *fragments);
/* So many may wait in all, DP_WAITING_MAX at most; called before any does. */
void dp_fragments_bound(struct dp_fragments *fragments, uint32_t places);

/*
 * A fragment comes by `port` (or DP_NO_PORT), `number`ed by the caller, later than all before it, and behind change
 * number `change`. DP_FRAGMENT_COPY and _REFUSE: the checks are written to `record`. DP_FRAGMENT_WAIT (only if it may):
 * packet and record are kept as copies. DP_FRAGMENT_JUDGE and _COPY: `datagram` is set, for the next two.
 */
enum dp_fragment_fate dp_fragments_add(struct dp_fragments *fragments, const struct dp_packet *packet,
                                       const uint32_t *zone, uint32_t port, uint64_t now_ns, uint32_t change,
                                       uint64_t number, bool may_wait, struct dp_record *record, uint32_t *datagram);
/* The first fragment of `datagram`; it holds until the next call of another function. */
struct dp_fragment_first *dp_fragments_first(struct dp_fragments *fragments, uint32_t datagram);
/* The answer for the first fragment of `datagram`, or another from now on; whoever waited for it is told. */
void dp_fragments_answer(struct dp_fragments *fragments, uint32_t datagram, const struct dp_record *record);
/* Takes out datagrams whose time is over by now_ns; those that waited are told of their refusal. */
void dp_fragments_expire(struct dp_fragments *fragments, uint64_t now_ns);
/* Refuses whatever waits and has a number up to `number`. */
void dp_fragments_give_up(struct dp_fragments *fragments, uint64_t number);

/* Gives up what is kept of retired numbers: the datagrams of zones, and in answers the rules that they had. */
void dp_fragments_forget(struct dp_fragments *fragments, const struct dp_retired *retired);

/* Packets that wait now. */
uint32_t dp_fragments_waiting(const struct dp_fragments *fragments);
/* Writes what is counted of fragments and their datagrams into the engine's counters. */
void dp_fragments_count(const struct dp_fragments *fragments, struct dp_counters *counters);

#endif
