/*
 * resync.h: TCP segments that were refused for their place, kept until the other side agrees with one of them (SPEC
 * 4.4): it begins exactly where the refused one acknowledges, and acknowledges exactly its end. Where a capture has
 * lost more than a window both sides stand outside, and a sender may have many segments under way before the first is
 * acknowledged: the last DP_RESYNC_SEGMENTS of each side are kept, older ones that follow each other as one run, in
 * which any place is agreed to.
 *
 * WHAT IS KEPT counts only as long as the entry has met no valid segment since: `last_ns` is the entry's, and neither
 * an entry that goes nor one that finds its window again needs to be told.
 *
 * BOUND. DP_RESYNC_SETS times DP_RESYNC_WAYS connections at once, found by the keyed hash of their key, so that nobody
 * chooses whom he meets. A set that is full gives up the oldest of the zone that has most of it: an instance under
 * attack does not take the places of others. Memory is touched as it is used.
 *
 * OWNERSHIP. The table is the conntrack's; pointers into it hold until the next call.
 */
#ifndef DP_RESYNC_H
#define DP_RESYNC_H

#include "flow_table.h"

enum { DP_RESYNC_SETS = 512, DP_RESYNC_WAYS = 8, DP_RESYNC_SEGMENTS = 8 };

/* A refused segment, or (`run`) several that follow each other and acknowledge the same. */
struct dp_refused {
    uint32_t seq;
    uint32_t end;
    uint32_t ack;
    uint32_t run;
};

/* What the sides of one connection have sent outside its window, the oldest first. */
struct dp_disagreement {
    uint64_t last_ns;
    uint32_t entry; /* 0: free */
    uint32_t hash;
    uint32_t zone;
    uint32_t used;             /* greater: later */
    uint32_t window[DP_SIDES]; /* the last one advertised, in bytes */
    uint32_t n[DP_SIDES];
    struct dp_refused refused[DP_SIDES][DP_RESYNC_SEGMENTS];
};

struct dp_resync {
    struct dp_disagreement *slots;
    uint32_t clock;
};

/* 0 or DP_E_MEMORY. */
int dp_resync_init(struct dp_resync *resync);
void dp_resync_release(struct dp_resync *resync);

/* What is kept of a connection, NULL for nothing. */
struct dp_disagreement *dp_resync_find(struct dp_resync *resync, const struct dp_flow_table *table, uint32_t entry);
/* Keeps a refused segment of `side`; `window` is what it advertises, in bytes. */
void dp_resync_refuse(struct dp_resync *resync, const struct dp_flow_table *table, uint32_t entry, enum dp_side side,
                      const struct dp_tcp_segment *segment, uint32_t window);
/* Whether a segment of `side` agrees with one of the other side's. */
bool dp_resync_agrees(const struct dp_disagreement *kept, enum dp_side side, const struct dp_tcp_segment *segment);

#endif
