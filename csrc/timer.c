/*
 * timer.c: the wheel of timer.h.
 *
 * Moving on goes slot by slot where timers are near, and by whole turns of level 0 where that level is empty; a jump of
 * more than a turn of level 1 (73 minutes) takes every timer out once and puts it where it belongs, so that a capture
 * with a gap of years costs one walk over the entries.
 */
#include "timer.h"

#include "memory.h"

enum { LEVEL_BITS = 8, SLOT_MASK = DP_TIMER_SLOTS - 1 };

int dp_timer_init(struct dp_timer_wheel *wheel, uint32_t room, uint64_t now_ns)
{
    for (int i = 0; i < DP_TIMER_LEVELS * DP_TIMER_SLOTS; i++)
        wheel->head[i] = 0;
    wheel->now = now_ns >> DP_TIMER_SHIFT;
    wheel->armed = 0;
    wheel->behind = false;
    wheel->links = dp_reserve_huge((size_t)room * sizeof *wheel->links);
    return wheel->links ? 0 : DP_E_MEMORY;
}

int dp_timer_resize(struct dp_timer_wheel *wheel, uint32_t old_room, uint32_t room)
{
    void *links =
        dp_reserve_again(wheel->links, (size_t)old_room * sizeof *wheel->links, (size_t)room * sizeof *wheel->links);

    if (!links)
        return DP_E_MEMORY;
    wheel->links = links;
    return 0;
}

void dp_timer_populate(struct dp_timer_wheel *wheel, uint32_t n)
{
    dp_populate(wheel->links, (size_t)n * sizeof *wheel->links);
}

void dp_timer_release(struct dp_timer_wheel *wheel, uint32_t room)
{
    dp_unreserve(wheel->links, (size_t)room * sizeof *wheel->links);
}

static void link_in(struct dp_timer_wheel *wheel, uint32_t index, uint32_t slot)
{
    struct dp_timer_link *link = &wheel->links[index];

    link->next = wheel->head[slot];
    link->prev = DP_TIMER_FIRST | slot;
    if (link->next)
        wheel->links[link->next].prev = index;
    wheel->head[slot] = index;
    wheel->armed++;
}

void dp_timer_arm(struct dp_timer_wheel *wheel, uint32_t index, uint64_t deadline_ns)
{
    uint64_t tick = (deadline_ns >> DP_TIMER_SHIFT) + 1, ahead;
    uint32_t level = 0;

    if (tick <= wheel->now)
        tick = wheel->now + 1;
    ahead = tick - wheel->now;
    while (level < DP_TIMER_LEVELS - 1 && ahead >= 1ull << (LEVEL_BITS * (level + 1)))
        level++;
    if (ahead >= 1ull << (LEVEL_BITS * DP_TIMER_LEVELS))
        tick = wheel->now + (1ull << (LEVEL_BITS * DP_TIMER_LEVELS)) - 1;
    link_in(wheel, index, level * DP_TIMER_SLOTS + (uint32_t)(tick >> (LEVEL_BITS * level) & SLOT_MASK));
}

void dp_timer_disarm(struct dp_timer_wheel *wheel, uint32_t index)
{
    const struct dp_timer_link *link = &wheel->links[index];

    if (link->prev & DP_TIMER_FIRST)
        wheel->head[link->prev & ~DP_TIMER_FIRST] = link->next;
    else
        wheel->links[link->prev].next = link->next;
    if (link->next)
        wheel->links[link->next].prev = link->prev;
    wheel->armed--;
}

/* Asks about each timer of a list that was taken out, and arms again what is not due. */
static void ask_each(struct dp_timer_wheel *wheel, uint32_t index, dp_timer_due *due, void *owner)
{
    uint32_t next;

    for (; index; index = next) {
        uint64_t deadline;

        next = wheel->links[index].next;
        wheel->armed--;
        deadline = due(owner, index);
        if (deadline)
            dp_timer_arm(wheel, index, deadline);
    }
}

static void empty(struct dp_timer_wheel *wheel, uint32_t slot, dp_timer_due *due, void *owner)
{
    uint32_t first = wheel->head[slot];

    wheel->head[slot] = 0;
    ask_each(wheel, first, due, owner);
}

/* Takes what stands at tick `tick` out at once: some of it may come back there. */
static void empty_tick(struct dp_timer_wheel *wheel, uint64_t tick, dp_timer_due *due, void *owner)
{
    for (uint32_t level = DP_TIMER_LEVELS - 1; level > 0; level--)
        if ((tick & ((1ull << (LEVEL_BITS * level)) - 1)) == 0)
            empty(wheel, level * DP_TIMER_SLOTS + (uint32_t)(tick >> (LEVEL_BITS * level) & SLOT_MASK), due, owner);
    empty(wheel, (uint32_t)(tick & SLOT_MASK), due, owner);
}

/* Chains the timers of all slots into one list, which is then no slot's. */
static uint32_t take_all(struct dp_timer_wheel *wheel)
{
    uint32_t all = 0;

    for (uint32_t slot = 0; slot < DP_TIMER_LEVELS * DP_TIMER_SLOTS; slot++) {
        uint32_t index = wheel->head[slot];

        wheel->head[slot] = 0;
        while (index) {
            uint32_t next = wheel->links[index].next;

            wheel->links[index].next = all;
            all = index;
            index = next;
        }
    }
    return all;
}

static void jump(struct dp_timer_wheel *wheel, uint64_t tick, dp_timer_due *due, void *owner)
{
    uint32_t first = take_all(wheel);

    wheel->now = tick;
    ask_each(wheel, first, due, owner);
}

/* Asks about the timers of a slot one by one; false when that were too many. */
static bool empty_some(struct dp_timer_wheel *wheel, uint32_t slot, dp_timer_due *due, void *owner, uint32_t *most)
{
    uint32_t index;

    while ((index = wheel->head[slot]) != 0) {
        uint64_t deadline;

        if (*most == 0)
            return false;
        --*most;
        dp_timer_disarm(wheel, index);
        deadline = due(owner, index);
        if (deadline)
            dp_timer_arm(wheel, index, deadline);
    }
    return true;
}

/* Empties what stands at the tick: its slot of level 0, and before it, where a turn begins there, those of the levels
 * above. No timer comes into one of them meanwhile, as all deadlines are later. */
static bool empty_tick_some(struct dp_timer_wheel *wheel, dp_timer_due *due, void *owner, uint32_t *most)
{
    for (uint32_t level = DP_TIMER_LEVELS; level-- > 0;)
        if ((wheel->now & ((1ull << (LEVEL_BITS * level)) - 1)) == 0 &&
            !empty_some(wheel, level * DP_TIMER_SLOTS + (uint32_t)(wheel->now >> (LEVEL_BITS * level) & SLOT_MASK), due,
                        owner, most))
            return false;
    return true;
}

void dp_timer_advance(struct dp_timer_wheel *wheel, uint64_t now_ns, dp_timer_due *due, void *owner, uint32_t most)
{
    uint64_t target = now_ns >> DP_TIMER_SHIFT;

    if (target > wheel->now && target - wheel->now > 1ull << (2 * LEVEL_BITS)) {
        jump(wheel, target, due, owner);
        wheel->behind = false;
    }
    while (wheel->behind || wheel->now < target) {
        if (wheel->armed == 0) {
            wheel->now = target > wheel->now ? target : wheel->now;
            wheel->behind = false;
            return;
        }
        if (!wheel->behind)
            wheel->now++;
        wheel->behind = !empty_tick_some(wheel, due, owner, &most);
        if (wheel->behind)
            return;
    }
}

void dp_timer_reap(struct dp_timer_wheel *wheel, uint64_t now_ns, dp_timer_due *due, void *owner)
{
    dp_timer_advance(wheel, now_ns, due, owner, UINT32_MAX);
    empty_tick(wheel, wheel->now + 1, due, owner);
}
