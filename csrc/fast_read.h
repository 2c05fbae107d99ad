/*
 * fast_read.h: ordinary packets read for their short way (fast_path.h has which they are), a burst at once.
 *
 * What a frame says is read once, in straight-line code: the key of each check, with its hash, and where the transport
 * header is. A frame that is none of these costs a few comparisons, and is left to packet.h.
 *
 * OWNERSHIP. A struct dp_fast points into its frame and lives as long as its burst.
 */
#ifndef DP_FAST_READ_H
#define DP_FAST_READ_H

#include "engine.h"

/* Straight-line code, with what is constant folded in. */
#define ALWAYS_INLINE __attribute__((always_inline))
/* What few packets need stands apart, so that it takes no registers from what all need. */
#define NEVER_INLINE __attribute__((noinline))

/* Frames in a burst: a bit each of a set. */
enum { DP_BURST = 32 };

/* The connection of one check: its key, for IPv4 as it lies at the beginning of an entry. */
struct dp_fast_check {
    uint32_t local; /* of IPv4 */
    uint32_t remote;
    uint16_t local_port;
    uint16_t remote_port;
    uint32_t zone_protocol;
    uint32_t hash;
    uint32_t entry; /* 0: none was found */
    uint32_t end;   /* the slot where looking for it has ended */
};

/* A packet on its short way. */
struct dp_fast {
    struct dp_fast_check check[DP_DIRECTIONS];
    const uint8_t *transport; /* its header, behind an IP header without options or extensions */
    uint64_t rearranged;      /* of the table, when its entries were asked for */
    uint64_t hash;            /* for the flow cache, if that was asked */
    uint32_t data;            /* bytes behind the header of TCP */
    uint32_t vlans;
    uint8_t family;
    uint8_t protocol;
    uint8_t checks;
    uint8_t direction[DP_DIRECTIONS]; /* of check[i] */
    bool asked;                       /* the rules, about the one check, */
    uint32_t rule;                    /* and the position that they found */
};
_Static_assert(sizeof(struct dp_fast) <= 128, "a packet on its short way is two cache lines");

/* Frames of a burst, a bit each: those that the flow cache was asked about, and those that it had an entry for. Of
 * these check[0] has the entry alone, and no direction. */
struct dp_fast_asked {
    uint32_t about;
    uint32_t known;
};

/*
 * Reads up to DP_BURST frames; `places` may be NULL. With `verify`, checksums are to be verified. Bit k of what it
 * returns: the kth frame is one of these, and fast[k] is filled in.
 */
uint32_t dp_fast_read(const struct dp_engine *engine, const struct dp_frame *frames, const struct dp_place *places,
                      uint32_t n, bool verify, struct dp_fast *fast, struct dp_fast_asked *asked);
/* As dp_flow_of, of a frame on its short way. */
void dp_fast_flow_of(const struct dp_fast *fast, struct dp_flow *flow);
/* As dp_packet_parse, as far as a connection is found, judged by the rules and made by it. */
void dp_fast_packet_of(const struct dp_fast *fast, struct dp_packet *packet);
/* Its TCP segment, all of which was captured. */
void dp_fast_segment_of(const struct dp_fast *fast, struct dp_tcp_segment *segment);

#endif
