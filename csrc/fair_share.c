/* fair_share.c: places are counted on each of the three steps of fair_share.h; items stand in a queue each source. */
#include "fair_share.h"

#include "memory.h"

struct queue {
    uint32_t places;
    uint16_t first; /* 0: nobody */
    uint16_t last;
};

struct links {
    uint16_t next;
    uint16_t prev;
};

struct dp_shares {
    uint32_t side[DP_SHARE_SIDES];
    uint32_t destination[DP_SHARE_SIDES][DP_SHARE_DESTINATIONS];
    struct dp_share share[DP_SHARE_ITEMS + 1];
    struct links links[DP_SHARE_ITEMS + 1];
    struct queue queue[DP_SHARE_SIDES][DP_SHARE_DESTINATIONS][DP_SHARE_SOURCES];
};

_Static_assert(DP_SHARE_ITEMS <= UINT16_MAX, "an item's index fits its links");
_Static_assert(sizeof(struct queue) == 8, "all queues of a side in 2 KiB");

struct dp_shares *dp_shares_new(void)
{
    return dp_reserve(sizeof(struct dp_shares));
}

void dp_shares_free(struct dp_shares *s)
{
    dp_unreserve(s, sizeof *s);
}

static struct queue *queue_of(struct dp_shares *s, struct dp_share share)
{
    return &s->queue[share.side][share.destination][share.source];
}

void dp_shares_enter(struct dp_shares *s, uint32_t item, struct dp_share share)
{
    struct queue *q = queue_of(s, share);

    s->share[item] = share;
    s->links[item] = (struct links){0, q->last};
    if (q->last)
        s->links[q->last].next = (uint16_t)item;
    else
        q->first = (uint16_t)item;
    q->last = (uint16_t)item;
}

void dp_shares_take(struct dp_shares *s, uint32_t item)
{
    struct dp_share share = s->share[item];

    s->side[share.side]++;
    s->destination[share.side][share.destination]++;
    queue_of(s, share)->places++;
}

void dp_shares_leave(struct dp_shares *s, uint32_t item, uint32_t places)
{
    struct dp_share share = s->share[item];
    struct queue *q = queue_of(s, share);
    struct links links = s->links[item];

    if (links.prev)
        s->links[links.prev].next = links.next;
    else
        q->first = links.next;
    if (links.next)
        s->links[links.next].prev = links.prev;
    else
        q->last = links.prev;
    q->places -= places;
    s->destination[share.side][share.destination] -= places;
    s->side[share.side] -= places;
}

uint32_t dp_shares_gives_way(const struct dp_shares *s, struct dp_share share)
{
    uint32_t side = share.side, destination, source;

    for (uint32_t i = 0; i < DP_SHARE_SIDES; i++)
        if (s->side[i] > s->side[side])
            side = i;
    destination = side == share.side ? share.destination : 0;
    for (uint32_t i = 0; i < DP_SHARE_DESTINATIONS; i++)
        if (s->destination[side][i] > s->destination[side][destination])
            destination = i;
    source = side == share.side && destination == share.destination ? share.source : 0;
    for (uint32_t i = 0; i < DP_SHARE_SOURCES; i++)
        if (s->queue[side][destination][i].places > s->queue[side][destination][source].places)
            source = i;
    return s->queue[side][destination][source].places ? s->queue[side][destination][source].first : 0;
}
