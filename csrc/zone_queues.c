/* zone_queues.c: zone_queues.h in code. */
#include "zone_queues.h"

#include "memory.h"

#include <stdlib.h>
#include <string.h>

/* ---- moves ---- */

static void put(struct dp_zone_queues *q, struct dp_queue_ends *ends, uint32_t entry)
{
    q->links[entry] = (struct dp_queue_link){0, ends->last};
    if (ends->last)
        q->links[ends->last].next = entry;
    else
        ends->first = entry;
    ends->last = entry;
}

static void take(struct dp_zone_queues *q, struct dp_queue_ends *ends, uint32_t entry)
{
    const struct dp_queue_link link = q->links[entry];

    if (link.prev)
        q->links[link.prev].next = link.next;
    else
        ends->first = link.next;
    if (link.next)
        q->links[link.next].prev = link.prev;
    else
        ends->last = link.prev;
}

/* Asks for all that the moves touch. The neighbours of an entry that is in no queue are those that it had. */
static void fetch(const struct dp_zone_queues *q)
{
    for (uint32_t i = 0; i < q->n_moves; i++) {
        __builtin_prefetch(&q->links[q->move[i].entry], 1);
        __builtin_prefetch(&q->zone[q->move[i].zone], 1);
    }
    for (uint32_t i = 0; i < q->n_moves; i++) {
        const struct dp_queue_move *move = &q->move[i];

        __builtin_prefetch(&q->links[q->zone[move->zone][move->to].last], 1);
        dp_zone_queues_prefetch(q, move->entry);
    }
}

void dp_zone_queues_make_moves(struct dp_zone_queues *q)
{
    fetch(q);
    for (uint32_t i = 0; i < q->n_moves; i++) {
        const struct dp_queue_move *move = &q->move[i];
        struct dp_queue_ends *ends = q->zone[move->zone];

        if (move->queued)
            take(q, &ends[!move->to], move->entry);
        put(q, &ends[move->to], move->entry);
    }
    q->n_moves = 0;
}

void dp_zone_queues_take(struct dp_zone_queues *q, uint32_t zone, enum dp_queue from, uint32_t entry)
{
    dp_zone_queues_settle(q);
    take(q, &q->zone[zone][from], entry);
}

/* ---- memory ---- */

int dp_zone_queues_init(struct dp_zone_queues *q, uint32_t room)
{
    memset(q, 0, sizeof *q);
    q->links = dp_reserve_huge((size_t)room * sizeof *q->links);
    return q->links ? 0 : DP_E_MEMORY;
}

int dp_zone_queues_resize(struct dp_zone_queues *q, uint32_t old_room, uint32_t room)
{
    void *links = dp_reserve_again(q->links, (size_t)old_room * sizeof *q->links, (size_t)room * sizeof *q->links);

    if (!links)
        return DP_E_MEMORY;
    q->links = links;
    return 0;
}

int dp_zone_queues_reserve(struct dp_zone_queues *q, uint32_t old_n, uint32_t n)
{
    struct dp_queue_ends(*zone)[DP_QUEUES] = realloc(q->zone, (size_t)n * sizeof *zone);

    if (!zone)
        return DP_E_MEMORY;
    memset(zone + old_n, 0, (size_t)(n - old_n) * sizeof *zone);
    q->zone = zone;
    return 0;
}

void dp_zone_queues_populate(struct dp_zone_queues *q, uint32_t n)
{
    dp_populate(q->links, (size_t)n * sizeof *q->links);
}

void dp_zone_queues_release(struct dp_zone_queues *q, uint32_t room)
{
    dp_unreserve(q->links, (size_t)room * sizeof *q->links);
    free(q->zone);
}
