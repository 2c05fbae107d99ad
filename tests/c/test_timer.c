/*
 * test_timer.c: the timer wheel against deadlines kept in an array: nothing fires early, nothing is missed, lazily
 * moved deadlines are honoured, and a jump of years is no trouble (SPEC 4.2, 4.3).
 */
#include "check.h"
#include "timer.h"

#include <stdlib.h>

enum { ENTRIES = 500, STEPS = 20000 };

struct owner {
    uint64_t now;
    uint32_t asked;
    uint64_t deadline[ENTRIES + 1]; /* 0: not armed */
    uint64_t early;
};

static uint64_t random_state = 88172645463325252u;

static uint64_t below(uint64_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (random_state >> 11) % n;
}

static uint64_t due(void *data, uint32_t index)
{
    struct owner *o = data;

    o->asked++;
    if (!o->deadline[index])
        o->early++;
    if (o->deadline[index] > o->now)
        return o->deadline[index];
    o->deadline[index] = 0;
    return 0;
}

static uint64_t random_step(void)
{
    switch (below(40)) {
    case 0:
        return below(100000000000000u); /* a day */
    case 1:
        return below(2000000000000u); /* half an hour */
    default:
        return below(400000000u);
    }
}

static void test_against_an_array(void)
{
    static struct owner o;
    struct dp_timer_wheel wheel;

    o.now = 1700000000000000000u;
    if (!CHECK_EQUAL(dp_timer_init(&wheel, ENTRIES + 1, o.now), 0))
        return;
    for (int step = 0; step < STEPS; step++) {
        uint32_t index = 1 + (uint32_t)below(ENTRIES);
        uint64_t late = 2ull << DP_TIMER_SHIFT;

        if (!o.deadline[index]) {
            o.deadline[index] = o.now + 1 + below(900000000000u);
            dp_timer_arm(&wheel, index, o.deadline[index]);
        } else if (below(2)) {
            o.deadline[index] += below(50000000000u); /* refreshed: the wheel is not told */
        } else {
            dp_timer_disarm(&wheel, index);
            o.deadline[index] = 0;
        }
        o.now += random_step();
        dp_timer_advance(&wheel, o.now, due, &o, UINT32_MAX);
        for (int i = 1; i <= ENTRIES; i++)
            if (o.deadline[i] && !CHECK(o.deadline[i] + late > o.now))
                return;
        if (step % 10 == 0) {
            dp_timer_reap(&wheel, o.now, due, &o);
            for (int i = 1; i <= ENTRIES; i++)
                if (o.deadline[i] && !CHECK(o.deadline[i] > o.now))
                    return;
        }
    }
    CHECK_EQUAL(o.early, 0);
    dp_timer_release(&wheel, ENTRIES + 1);
}

/* No more are asked about at once than may be; time goes on and timers are set meanwhile; at last all have come up. */
static void test_at_a_pace(void)
{
    static struct owner o;
    struct dp_timer_wheel wheel;
    uint32_t behind = 0;

    o.now = 1700000000000000000u;
    if (!CHECK_EQUAL(dp_timer_init(&wheel, ENTRIES + 1, o.now), 0))
        return;
    for (int step = 0; step < STEPS; step++) {
        uint32_t index = 1 + (uint32_t)below(ENTRIES), most = (uint32_t)below(8);

        if (!o.deadline[index]) {
            o.deadline[index] = o.now + 1 + below(step % 3 ? 2000000000u : 900000000000u);
            dp_timer_arm(&wheel, index, o.deadline[index]);
        } else if (below(2)) {
            o.deadline[index] += below(50000000000u);
        } else {
            dp_timer_disarm(&wheel, index);
            o.deadline[index] = 0;
        }
        if (below(3) == 0)
            o.now += below(200) ? below(100000000u) : below(2000000000000u);
        o.asked = 0;
        dp_timer_advance(&wheel, o.now, due, &o, most);
        if (!CHECK(o.asked <= most))
            return;
        if (!dp_timer_is_due(&wheel, o.now)) {
            CHECK(!wheel.behind);
            for (int i = 1; i <= ENTRIES; i++)
                if (o.deadline[i] && !CHECK(o.deadline[i] + (2ull << DP_TIMER_SHIFT) > o.now))
                    return;
        } else if (!CHECK_EQUAL(o.asked, most)) {
            return;
        } else {
            behind++;
        }
        if (step % 5000 == 4999) {
            dp_timer_reap(&wheel, o.now, due, &o);
            for (int i = 1; i <= ENTRIES; i++)
                if (o.deadline[i] && !CHECK(o.deadline[i] > o.now))
                    return;
        }
    }
    CHECK_EQUAL(o.early, 0);
    CHECK(behind > STEPS / 100);
    dp_timer_release(&wheel, ENTRIES + 1);
}

static void test_a_gap_of_years(void)
{
    static struct owner o;
    struct dp_timer_wheel wheel;

    CHECK_EQUAL(dp_timer_init(&wheel, ENTRIES + 1, 0), 0);
    for (uint32_t i = 1; i <= ENTRIES; i++) {
        o.deadline[i] = i * 100000000000u;
        dp_timer_arm(&wheel, i, o.deadline[i]);
    }
    o.now = UINT64_MAX;
    dp_timer_advance(&wheel, o.now, due, &o, UINT32_MAX);
    CHECK_EQUAL(wheel.armed, 0);
    dp_timer_release(&wheel, ENTRIES + 1);
}

/* Time may run backwards (SPEC 4.3), and a deadline be set that has passed: it comes up with the next ticks. */
static void test_a_deadline_that_has_passed(void)
{
    static struct owner o;
    struct dp_timer_wheel wheel;

    o.now = 1000ull << DP_TIMER_SHIFT;
    CHECK_EQUAL(dp_timer_init(&wheel, ENTRIES + 1, o.now), 0);
    for (uint32_t i = 1; i <= 9; i++) {
        o.deadline[i] = o.now - ((i - 1ull) * 100 << DP_TIMER_SHIFT);
        dp_timer_arm(&wheel, i, o.deadline[i]);
    }
    o.deadline[10] = o.now - 1; /* in the tick before */
    dp_timer_arm(&wheel, 10, o.deadline[10]);
    o.now += 2ull << DP_TIMER_SHIFT;
    dp_timer_advance(&wheel, o.now, due, &o, UINT32_MAX);
    CHECK_EQUAL(wheel.armed, 0);
    dp_timer_release(&wheel, ENTRIES + 1);
}

/* What is due in the tick before a turn of all levels stands in a slot of each: reaping looks into them. */
static void test_reaping_before_a_turn(void)
{
    static const uint64_t before[4] = {66000, 300, 10, 1}, turn = 3 << 16;
    static struct owner o;
    struct dp_timer_wheel wheel;

    CHECK_EQUAL(dp_timer_init(&wheel, ENTRIES + 1, (turn - before[0]) << DP_TIMER_SHIFT), 0);
    for (uint32_t i = 0; i < 3; i++) {
        o.deadline[i + 1] = ((turn - 1) << DP_TIMER_SHIFT) + 5;
        dp_timer_arm(&wheel, i + 1, o.deadline[i + 1]);
        /* In two steps: a jump would set all anew. */
        o.now = (turn - (before[i] + before[i + 1]) / 2) << DP_TIMER_SHIFT;
        dp_timer_advance(&wheel, o.now, due, &o, UINT32_MAX);
        o.now = ((turn - before[i + 1]) << DP_TIMER_SHIFT) + 10;
        dp_timer_advance(&wheel, o.now, due, &o, UINT32_MAX);
    }
    CHECK_EQUAL(wheel.armed, 3);
    dp_timer_reap(&wheel, o.now, due, &o);
    CHECK_EQUAL(wheel.armed, 0);
    dp_timer_release(&wheel, ENTRIES + 1);
}

int main(void)
{
    RUN(test_against_an_array);
    RUN(test_at_a_pace);
    RUN(test_a_gap_of_years);
    RUN(test_a_deadline_that_has_passed);
    RUN(test_reaping_before_a_turn);
    return check_result("test_timer");
}
