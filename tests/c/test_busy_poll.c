/* test_busy_poll.c: the promises of busy_poll.h, by an eventfd that has something or has not. */
#include "check.h"
#include "io/busy_poll.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { SHORT_NS = 1, LONG_NS = 1000000000, SLEEP_MS = 0 };

struct scene {
    struct dp_wait wait;
    struct dp_worker_counters counters;
    int epoll;
    int fd;
};

static bool make(struct scene *s, uint32_t busy_poll_ns)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = 7};

    *s = (struct scene){.wait = {.busy_poll_ns = busy_poll_ns}, .epoll = epoll_create1(0), .fd = eventfd(0, 0)};
    return CHECK(s->epoll >= 0 && s->fd >= 0) && CHECK_EQUAL(epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->fd, &event), 0);
}

static void unmake(struct scene *s)
{
    close(s->epoll);
    close(s->fd);
}

/* One wait, which finds something or does not; returns how often it looked before it slept. */
static uint64_t looks(struct scene *s, bool something, uint64_t bytes)
{
    const uint64_t *count = s->counters.busy_polls;
    uint64_t before = count[DP_BUSY_POLL_FOUND] + count[DP_BUSY_POLL_IN_VAIN], one = 1;
    struct epoll_event event[4];

    if (something)
        CHECK_EQUAL(write(s->fd, &one, sizeof one), sizeof one);
    CHECK_EQUAL(dp_wait(&s->wait, s->epoll, event, 4, SLEEP_MS, bytes, &s->counters), something);
    if (something) {
        CHECK_EQUAL(event[0].data.u32, 7);
        CHECK_EQUAL(read(s->fd, &one, sizeof one), sizeof one);
    }
    return count[DP_BUSY_POLL_FOUND] + count[DP_BUSY_POLL_IN_VAIN] - before;
}

static void become_quiet(struct scene *s)
{
    for (int i = 1; i < DP_WAIT_QUIET; i++)
        CHECK_EQUAL(looks(s, true, DP_WAIT_QUIET_BYTES), 0);
}

static void test_never_where_it_is_not_wanted(void)
{
    struct scene s;

    if (!make(&s, 0))
        return;
    for (int i = 0; i < 100; i++)
        CHECK_EQUAL(looks(&s, i % 2, 0), 0);
    unmake(&s);
}

static void test_only_while_there_is_little_to_do(void)
{
    struct scene s;

    if (!make(&s, LONG_NS))
        return;
    become_quiet(&s);
    for (int i = 0; i < 20; i++)
        CHECK_EQUAL(looks(&s, true, DP_WAIT_QUIET_BYTES), 1);
    CHECK_EQUAL(looks(&s, true, DP_WAIT_QUIET_BYTES + 1), 0);
    become_quiet(&s);
    CHECK_EQUAL(looks(&s, true, 0), 1);
    CHECK_EQUAL(s.counters.busy_polls[DP_BUSY_POLL_FOUND], 21);
    CHECK_EQUAL(s.counters.busy_polls[DP_BUSY_POLL_IN_VAIN], 0);
    unmake(&s);
}

/* The n-th time in a row, it is left out until 2^n waits have brought something. */
static void test_looking_in_vain_makes_it_rarer(void)
{
    struct scene s;

    if (!make(&s, SHORT_NS))
        return;
    become_quiet(&s);
    for (uint32_t n = 1; n <= DP_WAIT_IN_VAIN_MAX + 2; n++) {
        uint32_t without = 1u << (n < DP_WAIT_IN_VAIN_MAX ? n : DP_WAIT_IN_VAIN_MAX);

        CHECK_EQUAL(looks(&s, false, 0), 1);
        CHECK_EQUAL(s.counters.busy_polls[DP_BUSY_POLL_IN_VAIN], n);
        for (uint32_t i = 0; i < without; i++) {
            CHECK_EQUAL(looks(&s, false, 0), 0);
            CHECK_EQUAL(looks(&s, true, 0), 0);
        }
    }
    /* Finding something ends the row. */
    CHECK_EQUAL(looks(&s, true, 0), 1);
    CHECK_EQUAL(looks(&s, false, 0), 1);
    CHECK_EQUAL(looks(&s, true, 0), 0);
    CHECK_EQUAL(looks(&s, true, 0), 0);
    CHECK_EQUAL(looks(&s, true, 0), 1);
    unmake(&s);
}

int main(void)
{
    RUN(test_never_where_it_is_not_wanted);
    RUN(test_only_while_there_is_little_to_do);
    RUN(test_looking_in_vain_makes_it_rarer);
    return check_result("test_wait");
}
