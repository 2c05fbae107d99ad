/* test_ring.c: items pass a ring whole and in order, alone and between two threads; a full ring takes no more. */
#include "check.h"
#include "io/ring.h"

#include <pthread.h>
#include <sched.h>

enum { SIZE = 4096, ITEMS = 200000 };

struct item {
    uint32_t size;
    uint32_t number;
};

static uint32_t tail_size(uint32_t number)
{
    return number * 7 % 61;
}

static void test_a_full_ring_takes_no_more(void)
{
    struct dp_ring ring;
    struct item item = {0, 1};
    uint8_t out[64];
    int n = 0;

    if (!CHECK_EQUAL(dp_ring_init(&ring, 256), 0))
        return;
    CHECK_EQUAL(dp_ring_next(&ring), 0);
    while (dp_ring_put(&ring, &item, sizeof item, "12345", 5))
        n++;
    CHECK_EQUAL(n, 256 / 16);
    CHECK_EQUAL(dp_ring_next(&ring), 16);
    dp_ring_take(&ring, out, 16);
    CHECK_EQUAL(memcmp(out + sizeof item, "12345", 5), 0);
    CHECK(dp_ring_put(&ring, &item, sizeof item, NULL, 0));
    CHECK(dp_ring_put(&ring, &item, sizeof item, NULL, 0));
    CHECK(!dp_ring_put(&ring, &item, sizeof item, NULL, 0));
    dp_ring_release(&ring);
}

static void *put_all(void *argument)
{
    uint8_t tail[64];

    for (uint32_t i = 0; i < ITEMS; i++) {
        struct item item = {0, i};

        memset(tail, (int)(i & 0xff), sizeof tail);
        while (!dp_ring_put(argument, &item, sizeof item, tail, tail_size(i)))
            sched_yield();
    }
    return NULL;
}

static void test_two_threads(void)
{
    struct dp_ring ring;
    pthread_t putter;
    uint8_t out[SIZE];

    if (!CHECK_EQUAL(dp_ring_init(&ring, SIZE), 0))
        return;
    pthread_create(&putter, NULL, put_all, &ring);
    for (uint32_t i = 0; i < ITEMS; i++) {
        struct item item;
        uint32_t size;

        while ((size = dp_ring_next(&ring)) == 0)
            sched_yield();
        dp_ring_take(&ring, out, size);
        memcpy(&item, out, sizeof item);
        if (!CHECK_EQUAL(item.number, i) || !CHECK_EQUAL(size, (sizeof item + tail_size(i) + 7) & ~7u))
            break;
        for (uint32_t k = 0; k < tail_size(i); k++)
            if (!CHECK_EQUAL(out[sizeof item + k], i & 0xff))
                break;
    }
    pthread_join(putter, NULL);
    CHECK_EQUAL(dp_ring_next(&ring), 0);
    dp_ring_release(&ring);
}

int main(void)
{
    RUN(test_a_full_ring_takes_no_more);
    RUN(test_two_threads);
    return check_result("test_ring");
}
