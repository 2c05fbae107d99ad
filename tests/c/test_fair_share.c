/* test_fair_share.c: who gives way: the side, destination and source with the most, and of theirs the oldest. */
#include "check.h"
#include "fair_share.h"

static struct dp_share share(uint16_t side, uint8_t destination, uint8_t source)
{
    return (struct dp_share){side, destination, source};
}

static void put(struct dp_shares *s, uint32_t item, struct dp_share of, int places)
{
    dp_shares_enter(s, item, of);
    for (int i = 0; i < places; i++)
        dp_shares_take(s, item);
}

static void test_nobody_is_there(void)
{
    struct dp_shares *s = dp_shares_new();

    CHECK_EQUAL(dp_shares_gives_way(s, share(3, 1, 1)), 0);
    dp_shares_free(s);
}

static void test_the_side_with_the_most_gives_way_then_the_destination_then_the_source(void)
{
    struct dp_shares *s = dp_shares_new();

    put(s, 1, share(7, 0, 0), 5);
    put(s, 2, share(9, 1, 1), 2);
    put(s, 3, share(9, 2, 1), 2);
    put(s, 4, share(9, 2, 5), 2);
    put(s, 5, share(9, 2, 5), 1);
    CHECK_EQUAL(dp_shares_gives_way(s, share(7, 0, 0)), 4); /* 7 of side 9, 5 for destination 2, 3 of source 5 */
    dp_shares_leave(s, 4, 2);
    CHECK_EQUAL(dp_shares_gives_way(s, share(8, 0, 0)), 1); /* 5 each: the first */
    CHECK_EQUAL(dp_shares_gives_way(s, share(9, 9, 9)), 3); /* or the one that wants room */
    dp_shares_leave(s, 3, 2);
    CHECK_EQUAL(dp_shares_gives_way(s, share(9, 1, 1)), 1);
    dp_shares_leave(s, 1, 5);
    CHECK_EQUAL(dp_shares_gives_way(s, share(0, 0, 0)), 2);
    dp_shares_free(s);
}

static void test_of_several_with_the_most_it_is_who_wants_room_else_the_first(void)
{
    struct dp_shares *s = dp_shares_new();

    put(s, 1, share(5, 3, 3), 2);
    put(s, 2, share(5, 3, 6), 2);
    put(s, 3, share(5, 8, 3), 4);
    CHECK_EQUAL(dp_shares_gives_way(s, share(5, 3, 3)), 1);
    CHECK_EQUAL(dp_shares_gives_way(s, share(5, 3, 6)), 2);
    CHECK_EQUAL(dp_shares_gives_way(s, share(5, 3, 9)), 1); /* the first source of its destination */
    CHECK_EQUAL(dp_shares_gives_way(s, share(5, 8, 9)), 3);
    CHECK_EQUAL(dp_shares_gives_way(s, share(5, 0, 6)), 1); /* the first destination: its own source says nothing */
    CHECK_EQUAL(dp_shares_gives_way(s, share(4, 8, 6)), 1); /* of another side's, nor its destination */
    dp_shares_free(s);
}

static void test_of_one_share_the_oldest_gives_way(void)
{
    struct dp_shares *s = dp_shares_new();
    static const uint32_t order[5] = {40, 7, DP_SHARE_ITEMS, 1, 9};
    struct dp_share of = share(DP_SHARE_SIDES - 1, DP_SHARE_DESTINATIONS - 1, DP_SHARE_SOURCES - 1);

    for (int i = 0; i < 5; i++)
        put(s, order[i], of, 1 + i);
    dp_shares_leave(s, order[1], 2); /* out of the middle */
    dp_shares_leave(s, order[4], 5); /* and from the end */
    put(s, order[1], of, 1);
    for (int i = 0; i < 4; i++) {
        static const uint32_t left[4] = {40, DP_SHARE_ITEMS, 1, 7}, places[4] = {1, 3, 4, 1};

        CHECK_EQUAL(dp_shares_gives_way(s, of), left[i]);
        dp_shares_leave(s, left[i], places[i]);
    }
    CHECK_EQUAL(dp_shares_gives_way(s, of), 0);
    dp_shares_free(s);
}

/* Whatever the others send: who has no more than an even part keeps it. */
static void test_an_even_part_is_never_taken(void)
{
    enum { PLACES = 256, SIDES = 4, EVEN = PLACES / SIDES };
    struct dp_shares *s = dp_shares_new();
    uint32_t next = 1, taken = 0;

    for (; next <= EVEN; next++, taken++)
        put(s, next, share(2, 0, 0), 1);
    for (uint32_t n = 0; n < 3000; n++, next++) {
        struct dp_share of = share((uint16_t)(n % 7 == 0 ? 0 : n % 5 == 0 ? 1 : 3), n % 11, n % 13);

        if (taken == PLACES) {
            uint32_t gone = dp_shares_gives_way(s, of);

            CHECK(gone > EVEN);
            dp_shares_leave(s, gone, 1);
            taken--;
        }
        put(s, next, of, 1);
        taken++;
    }
    dp_shares_free(s);
}

int main(void)
{
    RUN(test_nobody_is_there);
    RUN(test_the_side_with_the_most_gives_way_then_the_destination_then_the_source);
    RUN(test_of_several_with_the_most_it_is_who_wants_room_else_the_first);
    RUN(test_of_one_share_the_oldest_gives_way);
    RUN(test_an_even_part_is_never_taken);
    return check_result("test_fair_share");
}
