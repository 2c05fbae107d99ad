/*
 * timer.h: a hierarchical timer wheel over entries known by index.
 *
 * TIME. A tick is 2^26 ns (67 ms). A timer stands at the tick after its deadline's. Level 0 has a slot a tick, level 1
 * a slot every 256 ticks (17 s), level 2 a slot every 65,536 (73 min); later deadlines wait in the last slot of level 2
 * and are looked at again there.
 *
 * LAZY. A timer is not moved when its entry is refreshed. When its slot comes, the owner is asked for the entry's
 * present deadline (dp_timer_due) and the timer goes there, or the entry is gone. So a packet touches no timer; only a
 * deadline that comes nearer has to be set anew. A timer fires up to two ticks after its deadline, never before; who
 * must know whether an entry lives asks the entry, not the wheel, and who must know that no dead entry is left calls
 * dp_timer_reap.
 *
 * PACE. Very many timers may come up in one tick, as 30 s behind a flood. Who cannot wait for all of them has some
 * asked about at a time; the others come up as much later.
 *
 * OWNERSHIP. The wheel owns the links, one pair an index, in memory that is reserved for `room` indices and touched
 * only as far as indices are used. Index 0 is no entry.
 */
#ifndef DP_TIMER_H
#define DP_TIMER_H

#include "dp_api.h"

#include <stdbool.h>

enum { DP_TIMER_SHIFT = 26, DP_TIMER_LEVELS = 3, DP_TIMER_SLOTS = 256 };

struct dp_timer_link {
    uint32_t next; /* 0: the last */
    uint32_t prev; /* the first has DP_TIMER_FIRST | its slot */
};

#define DP_TIMER_FIRST 0x80000000u

struct dp_timer_wheel {
    struct dp_timer_link *links;
    uint64_t now; /* the tick up to which all slots have been emptied, and with which unless `behind` */
    uint32_t armed;
    bool behind;
    uint32_t head[DP_TIMER_LEVELS * DP_TIMER_SLOTS];
};

/* Asked when the timer of entry `index` comes up: its deadline in ns, or 0 when the entry is gone. It must not touch
 * another entry's timer. */
typedef uint64_t dp_timer_due(void *owner, uint32_t index);

int dp_timer_init(struct dp_timer_wheel *wheel, uint32_t room, uint64_t now_ns);
int dp_timer_resize(struct dp_timer_wheel *wheel, uint32_t old_room, uint32_t room);
/* Takes the memory for indices below n, no more than there is room for. */
void dp_timer_populate(struct dp_timer_wheel *wheel, uint32_t n);
void dp_timer_release(struct dp_timer_wheel *wheel, uint32_t room);

void dp_timer_arm(struct dp_timer_wheel *wheel, uint32_t index, uint64_t deadline_ns);
void dp_timer_disarm(struct dp_timer_wheel *wheel, uint32_t index);
/* Moves on to `now_ns`, asking about each timer that comes up on the way, but about no more than `most`, unless the
 * time has jumped by more than an hour. */
void dp_timer_advance(struct dp_timer_wheel *wheel, uint64_t now_ns, dp_timer_due *due, void *owner, uint32_t most);
/* Asks about all timers whose deadline may have come by `now_ns`. */
void dp_timer_reap(struct dp_timer_wheel *wheel, uint64_t now_ns, dp_timer_due *due, void *owner);

/* Asks for what stands beside an entry's timer. */
static inline void dp_timer_prefetch(const struct dp_timer_wheel *wheel, uint32_t index)
{
    const struct dp_timer_link *link = &wheel->links[index];

    __builtin_prefetch(&wheel->links[link->prev & DP_TIMER_FIRST ? 0 : link->prev], 1);
    __builtin_prefetch(&wheel->links[link->next], 1);
}

/* How many ticks are over whose timers have not all come up. */
static inline uint64_t dp_timer_ticks_behind(const struct dp_timer_wheel *wheel, uint64_t now_ns)
{
    uint64_t tick = now_ns >> DP_TIMER_SHIFT;

    return tick > wheel->now ? tick - wheel->now : 0;
}

static inline bool dp_timer_is_due(const struct dp_timer_wheel *wheel, uint64_t now_ns)
{
    return now_ns >> DP_TIMER_SHIFT > wheel->now || wheel->behind;
}

#endif
