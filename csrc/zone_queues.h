/*
 * zone_queues.h: the entries of each zone in two queues, steady and tentative ones, in the order in which they came
 * there: who has to give way when the table is full is the first of one (admission.h).
 *
 * MOVES of entries are noted, and made some at a time in their order: what stands at the end of a queue, and beside an
 * entry in the middle of one, is in no cache mostly, so all of it is waited for at once. Whoever looks into a queue has
 * the moves made before (dp_zone_queues_settle).
 *
 * OWNERSHIP. The queues own their memory: a pair of ends for each zone, and a link for each entry, reserved for `room`
 * indices and touched only as far as they are used. Index 0 is no entry. The owner says which queue an entry is in.
 */
#ifndef DP_ZONE_QUEUES_H
#define DP_ZONE_QUEUES_H

#include "dp_api.h"

enum dp_queue { DP_QUEUE_STEADY, DP_QUEUE_TENTATIVE, DP_QUEUES };

struct dp_queue_ends {
    uint32_t first;
    uint32_t last;
};

struct dp_queue_link {
    uint32_t next;
    uint32_t prev;
};

/* An entry that is to come to the end of a queue. */
struct dp_queue_move {
    uint32_t entry;
    uint32_t zone : 24;
    uint32_t queued : 1; /* it is in the other queue until then */
    uint32_t to : 1;
};
_Static_assert(sizeof(struct dp_queue_move) == 8, "a move is a word");

enum { DP_QUEUE_MOVES = 64 };

struct dp_zone_queues {
    struct dp_queue_ends (*zone)[DP_QUEUES];
    struct dp_queue_link *links;
    uint32_t n_moves;
    struct dp_queue_move move[DP_QUEUE_MOVES];
};

/* 0 or DP_E_MEMORY, as of the two behind it; then all is as it was. Making room smaller does not fail. */
int dp_zone_queues_init(struct dp_zone_queues *queues, uint32_t room);
int dp_zone_queues_resize(struct dp_zone_queues *queues, uint32_t old_room, uint32_t room);
/* Makes room for zones below n, more than before. */
int dp_zone_queues_reserve(struct dp_zone_queues *queues, uint32_t old_n, uint32_t n);
/* Takes the memory for indices below n, no more than there is room for. */
void dp_zone_queues_populate(struct dp_zone_queues *queues, uint32_t n);
void dp_zone_queues_release(struct dp_zone_queues *queues, uint32_t room);

void dp_zone_queues_make_moves(struct dp_zone_queues *queues);

static inline void dp_zone_queues_settle(struct dp_zone_queues *queues)
{
    if (queues->n_moves)
        dp_zone_queues_make_moves(queues);
}

static inline void dp_zone_queues_note(struct dp_zone_queues *queues, struct dp_queue_move move)
{
    queues->move[queues->n_moves++] = move;
    if (queues->n_moves == DP_QUEUE_MOVES)
        dp_zone_queues_make_moves(queues);
}

/* Puts an entry that is in no queue at the end of one. */
static inline void dp_zone_queues_put(struct dp_zone_queues *queues, uint32_t zone, enum dp_queue to, uint32_t entry)
{
    dp_zone_queues_note(queues, (struct dp_queue_move){.entry = entry, .zone = zone, .to = to});
}

/* Moves an entry from the other queue to the end of this one. */
static inline void dp_zone_queues_move(struct dp_zone_queues *queues, uint32_t zone, enum dp_queue to, uint32_t entry)
{
    dp_zone_queues_note(queues, (struct dp_queue_move){.entry = entry, .zone = zone, .queued = 1, .to = to});
}

/* Takes an entry out of its queue. */
void dp_zone_queues_take(struct dp_zone_queues *queues, uint32_t zone, enum dp_queue from, uint32_t entry);

/* Asks for what stands beside an entry. */
static inline void dp_zone_queues_prefetch(const struct dp_zone_queues *queues, uint32_t entry)
{
    __builtin_prefetch(&queues->links[queues->links[entry].prev], 1);
    __builtin_prefetch(&queues->links[queues->links[entry].next], 1);
}

/* For settled queues: the first entry of one, and the one behind an entry; 0 for none. */
static inline uint32_t dp_zone_queues_first(const struct dp_zone_queues *queues, uint32_t zone, enum dp_queue queue)
{
    return queues->zone[zone][queue].first;
}

static inline uint32_t dp_zone_queues_next(const struct dp_zone_queues *queues, uint32_t entry)
{
    return queues->links[entry].next;
}

#endif
