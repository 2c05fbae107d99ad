/*
 * fast_path.h: the short way of an ordinary packet, which is what nearly all are.
 *
 * It takes a whole Ethernet frame (with up to two VLAN tags) of IPv4 without options or IPv6 without extension headers,
 * no fragment, that carries a TCP segment, UDP but for DHCP, or an ICMP echo, between addresses of which each belongs
 * to one instance or to none, from a sender who may come by its port, with right checksums where those are asked for.
 * It passes when the connection of its check is live, has met all changes, and is valid there; a packet between two
 * instances here only when both connections stay in their state by it. Of one instance's, the rules decide about what
 * no connection is known for. For all else these functions say no and have changed nothing but what the long way would
 * have first, and pipeline.c takes that.
 *
 * GUARANTEE. Records, flows, counters and entries come out as by the long way, to the byte (tests/c/test_fast_path.c,
 * tests/fuzz/fuzz_fast_path.c hold both against each other).
 *
 * BURSTS. dp_fast_read reads all frames of a burst and asks for the index slots of their connections, dp_fast_fetch
 * takes the entries' numbers there and asks for the entries, dp_fast_judge judges in order. By then an entry may have
 * gone, which is seen by its key and state: no two live entries have one key.
 *
 * OWNERSHIP. A struct dp_fast points into its frame and lives as long as its burst.
 */
#ifndef DP_FAST_PATH_H
#define DP_FAST_PATH_H

#include "judge.h"

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
    uint32_t data;            /* bytes behind the header of TCP */
    uint32_t vlans;
    uint8_t family;
    uint8_t protocol;
    uint8_t checks;
    uint8_t direction[DP_DIRECTIONS]; /* of check[i] */
};
_Static_assert(sizeof(struct dp_fast) <= 128, "a packet on its short way is two cache lines");

/*
 * Reads up to DP_BURST frames, those at the positions `which` if that is not NULL; `places` may be NULL, and is where
 * positions are given. With `verify`, checksums are to be verified. Bit k of what it returns: the kth frame is one of
 * these, and fast[k] is filled in.
 */
uint32_t dp_fast_read(const struct dp_engine *engine, const struct dp_frame *frames, const uint32_t *which,
                      const struct dp_place *places, uint32_t n, bool verify, struct dp_fast *fast);
/* Asks for the entries of the frames in `set`. */
void dp_fast_fetch(const struct dp_engine *engine, struct dp_fast *fast, uint32_t set);
/*
 * Judges and counts frames from the first one on, up to one that is not in `set` or has to go the long way. Returns how
 * many it has judged, whose records are written then.
 */
uint32_t dp_fast_judge(struct dp_engine *engine, const struct dp_frame *frames, const struct dp_fast *fast,
                       uint32_t set, struct dp_record *records);
/* The same of frames of a selection, whose positions are at `which`; records are by position. */
uint32_t dp_fast_judge_selected(struct dp_engine *engine, const struct dp_frame *frames,
                                const struct dp_selection *some, const uint32_t *which, const struct dp_fast *fast,
                                uint32_t set, struct dp_record *records);
/* As dp_flow_of, of a frame on its short way. */
void dp_fast_flow_of(const struct dp_fast *fast, struct dp_flow *flow);

#endif
