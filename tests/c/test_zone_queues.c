/*
 * test_zone_queues.c: the queues of zones against lists kept in arrays: whatever is put, moved and taken by chance,
 * each queue has its entries in the order in which they came there, both ways, also behind moves that were noted and
 * made later (SPEC 4.9: the oldest first).
 */
#include "chance.h"
#include "check.h"
#include "zone_queues.h"

#include <string.h>

enum { ZONES = 3, MORE_ZONES = 5, ENTRIES = 200, STEPS = 30000 };

struct list {
    uint32_t entry[ENTRIES];
    uint32_t n;
};

struct place {
    uint32_t zone;
    enum dp_queue queue;
    bool queued;
};

static void drop(struct list *list, uint32_t entry)
{
    uint32_t at = 0;

    while (list->entry[at] != entry)
        at++;
    list->n--;
    memmove(&list->entry[at], &list->entry[at + 1], (list->n - at) * sizeof list->entry[0]);
}

static void check_list(const struct dp_zone_queues *queues, uint32_t zone, enum dp_queue queue, const struct list *list)
{
    uint32_t entry = dp_zone_queues_first(queues, zone, queue), before = 0;

    for (uint32_t i = 0; i < list->n; i++) {
        if (!CHECK_EQUAL(entry, list->entry[i]))
            return;
        CHECK_EQUAL(queues->links[entry].prev, before);
        before = entry;
        entry = dp_zone_queues_next(queues, entry);
    }
    CHECK_EQUAL(entry, 0);
    CHECK_EQUAL(queues->zone[zone][queue].last, before);
}

/* Puts, moves or takes one entry, in the queues and in the lists. */
static void step(struct dp_zone_queues *queues, struct place *places, struct list (*lists)[DP_QUEUES], uint32_t zones)
{
    uint32_t entry = 1 + chance(ENTRIES - 1);
    struct place *place = &places[entry];
    struct list *list;

    if (place->queued)
        drop(&lists[place->zone][place->queue], entry);
    if (!place->queued) {
        *place = (struct place){chance(zones), chance(DP_QUEUES), true};
        dp_zone_queues_put(queues, place->zone, place->queue, entry);
    } else if (chance(3)) {
        place->queue = !place->queue;
        dp_zone_queues_move(queues, place->zone, place->queue, entry);
    } else {
        dp_zone_queues_take(queues, place->zone, place->queue, entry);
        place->queued = false;
        return;
    }
    list = &lists[place->zone][place->queue];
    list->entry[list->n++] = entry;
}

static void test_against_lists(void)
{
    static struct list lists[MORE_ZONES][DP_QUEUES];
    static struct place places[ENTRIES];
    struct dp_zone_queues queues;
    uint32_t zones = ZONES, unsettled = 0;

    if (!CHECK_EQUAL(dp_zone_queues_init(&queues, ENTRIES / 2), 0) ||
        !CHECK_EQUAL(dp_zone_queues_resize(&queues, ENTRIES / 2, ENTRIES), 0) ||
        !CHECK_EQUAL(dp_zone_queues_reserve(&queues, 0, ZONES), 0))
        return;
    for (uint32_t n = 0; n < STEPS; n++) {
        step(&queues, places, lists, zones);
        unsettled += queues.n_moves > 1;
        if (n == STEPS / 2) {
            if (!CHECK_EQUAL(dp_zone_queues_reserve(&queues, ZONES, MORE_ZONES), 0))
                break;
            zones = MORE_ZONES;
        }
        if (chance(DP_QUEUE_MOVES))
            continue;
        dp_zone_queues_settle(&queues);
        CHECK_EQUAL(queues.n_moves, 0);
        for (uint32_t zone = 0; zone < zones; zone++)
            for (int queue = 0; queue < DP_QUEUES; queue++)
                check_list(&queues, zone, queue, &lists[zone][queue]);
    }
    /* Most steps had some noted. */
    CHECK(unsettled > STEPS / 4);
    dp_zone_queues_release(&queues, ENTRIES);
}

/* As many moves as are noted at most, of one entry too. */
static void test_there_and_back(void)
{
    struct dp_zone_queues queues;

    if (!CHECK_EQUAL(dp_zone_queues_init(&queues, ENTRIES), 0) ||
        !CHECK_EQUAL(dp_zone_queues_reserve(&queues, 0, ZONES), 0))
        return;
    dp_zone_queues_put(&queues, 0, DP_QUEUE_TENTATIVE, 1);
    dp_zone_queues_put(&queues, 0, DP_QUEUE_TENTATIVE, 2);
    for (uint32_t n = 0; n < 3 * DP_QUEUE_MOVES; n++)
        dp_zone_queues_move(&queues, 0, n % 2 ? DP_QUEUE_TENTATIVE : DP_QUEUE_STEADY, 1);
    dp_zone_queues_settle(&queues);
    CHECK_EQUAL(dp_zone_queues_first(&queues, 0, DP_QUEUE_STEADY), 0);
    CHECK_EQUAL(dp_zone_queues_first(&queues, 0, DP_QUEUE_TENTATIVE), 2);
    CHECK_EQUAL(dp_zone_queues_next(&queues, 2), 1);
    CHECK_EQUAL(dp_zone_queues_next(&queues, 1), 0);
    dp_zone_queues_release(&queues, ENTRIES);
}

int main(void)
{
    RUN(test_against_lists);
    RUN(test_there_and_back);
    return check_result("test_zone_queues");
}
