/*
 * datagram_table.h: the datagrams of which fragments have come, and the fragments that wait for their first (SPEC 4.6).
 * What a fragment is to its datagram says fragment.h.
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
#ifndef DP_DATAGRAM_TABLE_H
#define DP_DATAGRAM_TABLE_H

#include "dp_counters.h"
#include "fair_share.h"
#include "flow_key.h"

enum {
    DP_DATAGRAM_SLOTS = 4096,
    DP_DATAGRAMS = 4096,
    DP_DATAGRAM_FRAGMENTS = 128,
    DP_WAITING_MAX = 4096,
    DP_WAITING_EACH = 64
};
/* The port of a fragment that came by none. */
#define DP_NO_PORT UINT32_MAX
/* In the number of a copy of a frame, beside the frame's own: who asks for numbers is not told of it. */
#define DP_FRAGMENT_OF_COPY (UINT64_C(1) << 63)

#define DP_FRAGMENT_LIFE_NS 30000000000u

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

struct dp_fragment_range {
    uint16_t first; /* in units of 8 bytes */
    uint16_t length;
};

struct dp_datagram_links {
    uint32_t next;
    uint32_t prev;
};

struct dp_datagram {
    struct dp_fragment_key key;
    uint64_t deadline_ns;
    uint32_t chain;
    struct dp_datagram_links by_age;
    struct dp_datagram_links by_end;
    struct dp_share share;
    uint32_t reach;        /* where the farthest fragment ends, in bytes */
    uint32_t seen;         /* bytes */
    uint32_t total;        /* bytes; 0 while the last fragment has not come */
    uint32_t first_header; /* bytes that count besides the payload; 0 while the first has not come */
    uint32_t waiting;
    uint32_t last_waiting;
    uint32_t n_waiting;
    uint16_t n_ranges;
    bool answered;
    bool spoiled;
    bool whole;
    struct dp_fragment_first first; /* once it was answered */
    struct dp_record answer;
    struct dp_fragment_range range[DP_DATAGRAM_FRAGMENTS];
};

struct dp_waiting_fragment {
    uint64_t number;
    uint32_t next;
    struct dp_packet packet;
    struct dp_record record;
};

struct dp_datagram_queue {
    uint32_t first;
    uint32_t last;
    uint32_t count;
};

/* A packet that waited now has an answer. It must not be given back to the fragments. */
typedef void dp_fragment_answered(void *owner, uint64_t number, const struct dp_packet *packet,
                                  const struct dp_record *record);

/* Index 0 is nobody in all of these. */
struct dp_fragments {
    dp_fragment_answered *answered;
    void *owner;
    struct dp_hash_secret secret;
    uint32_t slot[DP_DATAGRAM_SLOTS];
    struct dp_datagram_queue by_age;
    struct dp_datagram_queue whole;
    struct dp_shares *datagrams;
    struct dp_shares *waits;
    uint32_t places; /* for what waits */
    uint32_t free_datagram;
    uint32_t free_waiting;
    uint32_t high_datagram; /* those above have not been used yet, and their memory has not been touched */
    uint32_t high_waiting;
    uint32_t n_waiting;
    uint64_t datagrams_evicted;
    uint64_t evicted;
    uint64_t expired;
    uint64_t refused;
    struct dp_datagram datagram[DP_DATAGRAMS + 1];
    struct dp_waiting_fragment waiting[DP_WAITING_MAX + 1];
};

/* `secret` keys the hash of the datagrams; what they are answered does not depend on it. */
struct dp_fragments *dp_fragments_new(dp_fragment_answered *answered, void *owner, const struct dp_hash_secret *secret);
void dp_fragments_free(struct dp_fragments *fragments);
/* So many may wait in all, DP_WAITING_MAX at most; called before any does. */
void dp_fragments_bound(struct dp_fragments *fragments, uint32_t places);
/* Takes out datagrams whose time is over by now_ns; those that waited are told of their refusal. */
void dp_fragments_expire(struct dp_fragments *fragments, uint64_t now_ns);
/* Packets that wait now. */
uint32_t dp_fragments_waiting(const struct dp_fragments *fragments);
/* Writes what is counted of fragments and their datagrams into the engine's counters. */
void dp_fragments_count(const struct dp_fragments *fragments, struct dp_counters *counters);

/* The datagram of this key; a new one, for which another may give way, where there is none. */
uint32_t dp_datagram_find_or_make(struct dp_fragments *fragments, const struct dp_fragment_key *key, uint64_t now_ns);
/* It is forgotten; what waits is answered, or refused for the cause. */
void dp_datagram_release(struct dp_fragments *fragments, uint32_t datagram, enum dp_cause cause);
/* All of it was seen and has its answer: kept for fragments that come twice, and the first to give way. */
void dp_datagram_close_if_whole(struct dp_fragments *fragments, uint32_t datagram);
/* What waited gets the answer; without one (NULL) it is refused, for the cause. */
void dp_datagram_tell(struct dp_fragments *fragments, uint32_t datagram, const struct dp_record *answer,
                      enum dp_cause cause);
/* Keeps a copy of a fragment until there is an answer; false when there is no place. */
bool dp_datagram_wait(struct dp_fragments *fragments, uint32_t datagram, const struct dp_packet *packet,
                      uint64_t number, const struct dp_record *record);

/* The checks of `from`, time and length of its own. */
void dp_fragment_copy_answer(const struct dp_record *from, struct dp_record *record);
/* Invalid at the first instance that would have checked it. */
void dp_fragment_refuse(const uint32_t *zone, enum dp_cause cause, struct dp_record *record);

#endif
