/*
 * fair_share.h: who gives way when places that many senders share are all taken.
 *
 * An ITEM (an index of the caller's, from 1) has a number of places and belongs to a share, which is told by three
 * things, from the one that a sender can forge least to the one that it can forge most: the SIDE that it comes from,
 * its DESTINATION, and its SOURCE. Who gives way is found on that way too: the side with the most places, of its
 * destinations the one with the most, of that one's sources the one with the most, and of their items the oldest. Where
 * several have the most, it is the one for which room is wanted, else the first.
 *
 * WHAT THIS GUARANTEES. A side with no more than (places / sides that have any) loses nothing, whatever the others
 * send; within a side the same holds for each destination, and within that for each source. Sides are told apart
 * exactly up to DP_SHARE_SIDES; destinations and sources only by DP_SHARE_DESTINATIONS and DP_SHARE_SOURCES, so that
 * two may have one share between them. WHAT IT DOES NOT: who forges many sources, to the destination and from the side
 * of somebody else, is not told from him. There the oldest goes first, so a place is kept for as long as it takes to
 * fill all of them.
 *
 * Nothing here is chance or secret: the same calls in the same order have the same one give way. All memory is touched
 * only as far as it is used.
 */
#ifndef DP_FAIR_SHARE_H
#define DP_FAIR_SHARE_H

#include <stdint.h>

enum { DP_SHARE_SIDES = 1025, DP_SHARE_DESTINATIONS = 16, DP_SHARE_SOURCES = 16, DP_SHARE_ITEMS = 4096 };

struct dp_share {
    uint16_t side;
    uint8_t destination;
    uint8_t source;
};

struct dp_shares;

/* NULL when there is no memory. */
struct dp_shares *dp_shares_new(void);
void dp_shares_free(struct dp_shares *shares);

/* `item` is the youngest of its share from now on, with no place yet. */
void dp_shares_enter(struct dp_shares *shares, uint32_t item, struct dp_share share);
/* Gives it a place more. */
void dp_shares_take(struct dp_shares *shares, uint32_t item);
/* It goes, with the `places` that it took. */
void dp_shares_leave(struct dp_shares *shares, uint32_t item, uint32_t places);
/* The item that gives way, when room is wanted for `share`; 0 when nobody has a place. */
uint32_t dp_shares_gives_way(const struct dp_shares *shares, struct dp_share share);

#endif
