/* test_inbox.c: ports share an inbox, so that one that floods leaves room for the others. */
#include "check.h"
#include "io/inbox.h"

#include <string.h>

enum { SIZE = 1024 * 1024, SMALL = 64, ITEM = DP_INBOX_LEAST, LONG = 16 * 1024, FLOODS = 1, QUIET = 2, ANOTHER = 1023 };

struct item {
    uint32_t size;
    uint32_t port;
    uint32_t times;
};

static bool put_as(struct dp_inbox *inbox, uint32_t port, uint32_t times, uint32_t length)
{
    static const uint8_t tail[LONG];
    struct item item = {0, port, times};

    return dp_inbox_put(inbox, port, times, &item, sizeof item, tail, length - (uint32_t)sizeof item);
}

static bool put_long(struct dp_inbox *inbox, uint32_t port, uint32_t length)
{
    return put_as(inbox, port, 1, length);
}

static bool put(struct dp_inbox *inbox, uint32_t port)
{
    return put_long(inbox, port, SMALL);
}

/* Takes the next item; the port that it came by. */
static uint32_t take(struct dp_inbox *inbox)
{
    uint32_t size = dp_ring_next(&inbox->ring);
    uint8_t bytes[LONG];
    struct item item;

    if (!CHECK(size >= SMALL && size <= LONG))
        return 0;
    dp_ring_take(&inbox->ring, bytes, size);
    memcpy(&item, bytes, sizeof item);
    dp_inbox_count(inbox, item.port, item.times, item.size);
    return item.port;
}

static int put_all(struct dp_inbox *inbox, uint32_t port)
{
    int n = 0;

    while (put(inbox, port))
        n++;
    return n;
}

static void test_one_port_leaves_room_for_others(void)
{
    struct dp_inbox inbox;
    int floods, another;

    if (!CHECK_EQUAL(dp_inbox_init(&inbox, SIZE), 0))
        return;
    floods = put_all(&inbox, FLOODS);
    CHECK_EQUAL(floods, SIZE / ITEM / 2);
    CHECK(put(&inbox, QUIET));
    another = put_all(&inbox, ANOTHER);
    CHECK_EQUAL(another, SIZE / ITEM / 4);
    CHECK(put(&inbox, QUIET));
    CHECK(!put(&inbox, FLOODS));
    dp_inbox_release(&inbox);
}

/* One that goes on flooding as fast as frames are taken keeps nobody out, and nobody's order is another one. */
static void test_a_flood_that_goes_on(void)
{
    struct dp_inbox inbox;
    uint32_t seen = 0;

    if (!CHECK_EQUAL(dp_inbox_init(&inbox, SIZE), 0))
        return;
    put_all(&inbox, FLOODS);
    for (int round = 0; round < 4096; round++) {
        put_all(&inbox, FLOODS);
        if (round % 8 == 0)
            CHECK(put(&inbox, QUIET));
        seen += take(&inbox) == QUIET;
        take(&inbox);
    }
    CHECK(seen > 0);
    dp_inbox_release(&inbox);
}

static void test_what_is_taken_is_given_back(void)
{
    struct dp_inbox inbox;

    if (!CHECK_EQUAL(dp_inbox_init(&inbox, SIZE), 0))
        return;
    for (int round = 0; round < 1000; round++) {
        CHECK_EQUAL(put_all(&inbox, FLOODS), SIZE / ITEM / 2);
        while (dp_ring_next(&inbox.ring))
            CHECK_EQUAL(take(&inbox), FLOODS);
    }
    dp_inbox_release(&inbox);
}

/* By bytes, where they are long: half of the ring for one port. */
static void test_long_ones(void)
{
    struct dp_inbox inbox;
    int n = 0;

    if (!CHECK_EQUAL(dp_inbox_init(&inbox, SIZE), 0))
        return;
    while (put_long(&inbox, FLOODS, LONG))
        n++;
    CHECK_EQUAL(n, SIZE / LONG / 2);
    CHECK(put_long(&inbox, QUIET, LONG));
    for (int i = 0; i <= n; i++)
        take(&inbox);
    CHECK_EQUAL(dp_ring_next(&inbox.ring), 0);
    CHECK_EQUAL(put_all(&inbox, FLOODS), SIZE / ITEM / 2);
    dp_inbox_release(&inbox);
}

/* What takes as long as several counts as several, until it is taken. */
static void test_ones_that_take_long(void)
{
    struct dp_inbox inbox;
    int n = 0;

    if (!CHECK_EQUAL(dp_inbox_init(&inbox, SIZE), 0))
        return;
    while (put_as(&inbox, FLOODS, 16, SMALL))
        n++;
    CHECK_EQUAL(n, SIZE / ITEM / 2 / 16);
    CHECK(put(&inbox, QUIET));
    for (int i = 0; i <= n; i++)
        take(&inbox);
    CHECK_EQUAL(dp_ring_next(&inbox.ring), 0);
    CHECK_EQUAL(put_all(&inbox, FLOODS), SIZE / ITEM / 2);
    dp_inbox_release(&inbox);
}

int main(void)
{
    RUN(test_one_port_leaves_room_for_others);
    RUN(test_a_flood_that_goes_on);
    RUN(test_what_is_taken_is_given_back);
    RUN(test_long_ones);
    RUN(test_ones_that_take_long);
    return check_result("test_inbox");
}
