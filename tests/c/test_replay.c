/*
 * test_replay.c: dp_replay: merging by time, `until_ns`, batches (SPEC 7: captures merged by time; SPEC 4.3).
 *
 * Each packet is a UDP datagram whose destination port is its number, so that records and flows tell which it was.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include "capture_bytes.h"
#include "plane.h"

enum { LENGTH_BASE = 100, CAPTURES_MAX = 40, ALL = 20000 };

static struct dp_record records[ALL];
static struct dp_flow flows[ALL];

static struct dp_plane *new_plane(void)
{
    static const struct dp_conntrack_config config = {.max_entries = 1024};
    static const uint64_t seed[2] = {1, 2};
    struct dp_plane *plane = NULL;
    if (dp_plane_new(&config, seed, 1, &plane) != 0)
        abort();
    return plane;
}

/* A capture from its bytes, which it may need for as long as it lives. */
struct fixture {
    struct bytes bytes;
    struct dp_capture *capture;
    size_t piece;
};

static void begin(struct fixture *fixture)
{
    *fixture = (struct fixture){0};
    pcap_file(&fixture->bytes, 0xa1b23c4d, 4, 101);
}

/* Packet `number` (16 bits) at `time_ns`. */
static void add(struct fixture *fixture, uint64_t time_ns, uint32_t number)
{
    uint8_t datagram[28] = {0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2, 0x30, 0x39};
    uint32_t sum = 0;
    datagram[22] = (uint8_t)(number >> 8);
    datagram[23] = (uint8_t)number;
    datagram[25] = 8;
    for (int i = 0; i < 20; i += 2)
        sum += (uint32_t)(datagram[i] << 8 | datagram[i + 1]);
    sum = ~((sum & 0xffff) + (sum >> 16));
    datagram[10] = (uint8_t)(sum >> 8);
    datagram[11] = (uint8_t)sum;
    put32(&fixture->bytes, (uint32_t)(time_ns / 1000000000));
    put32(&fixture->bytes, (uint32_t)(time_ns % 1000000000));
    put32(&fixture->bytes, sizeof datagram);
    put32(&fixture->bytes, LENGTH_BASE + number);
    put_raw(&fixture->bytes, datagram, sizeof datagram);
}

/* From memory, or fed in pieces of `piece` bytes. */
static void open_fixture(struct fixture *fixture, size_t piece)
{
    const struct bytes *bytes = &fixture->bytes;
    int error = piece ? dp_capture_open_fed(1, &fixture->capture)
                      : dp_capture_open_memory(bytes->data, bytes->size, &fixture->capture);
    fixture->piece = piece;
    if (error)
        abort();
}

static void close_fixture(struct fixture *fixture)
{
    dp_capture_free(fixture->capture);
    clear(&fixture->bytes);
}

static struct dp_replay *new_replay(struct fixture *fixtures, uint32_t n, struct dp_plane *plane)
{
    struct dp_capture *captures[CAPTURES_MAX];
    struct dp_replay *replay = NULL;
    for (uint32_t i = 0; i < n; i++)
        captures[i] = fixtures[i].capture;
    if (dp_replay_new(captures, n, &replay) != 0 || dp_replay_judge_by(replay, &plane, 1) != 0)
        abort();
    return replay;
}

/* The next packets of the one plane, to the places from `at` on. */
static int take(struct dp_replay *replay, uint64_t until_ns, uint32_t at, uint32_t n)
{
    struct dp_record *of[] = {records + at};

    return dp_replay_run(replay, until_ns, of, flows + at, NULL, n);
}

/* Checks that the `n` packets from `from` on are these numbers, by record and by flow. */
static void check_numbers(uint32_t from, const uint32_t *numbers, uint32_t n, int line)
{
    for (uint32_t i = 0; i < n; i++) {
        if (records[from + i].length != LENGTH_BASE + numbers[i] || flows[from + i].destination_port != numbers[i]) {
            fprintf(stderr, "line %d: packet %u is number %u with port %u, expected number %u\n", line, from + i,
                    records[from + i].length - LENGTH_BASE, flows[from + i].destination_port, numbers[i]);
            check_failures++;
            return;
        }
    }
}
#define CHECK_NUMBERS(from, ...)                                                                                       \
    check_numbers((from), (const uint32_t[]){__VA_ARGS__}, sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t), \
                  __LINE__)

static void merged_by_time_ties_in_the_order_given(void)
{
    struct dp_plane *plane = new_plane();
    struct fixture a[3];
    for (int i = 0; i < 3; i++)
        begin(&a[i]);
    add(&a[0], 10, 1);
    add(&a[0], 30, 2);
    add(&a[0], 30, 3);
    add(&a[1], 10, 4);
    add(&a[1], 20, 5);
    add(&a[1], 40, 6);
    add(&a[2], 5, 7);
    add(&a[2], 30, 8);
    for (int i = 0; i < 3; i++)
        open_fixture(&a[i], 0);
    struct dp_replay *replay = new_replay(a, 3, plane);
    CHECK_EQUAL(take(replay, UINT64_MAX, 0, ALL), 8);
    CHECK_NUMBERS(0, 7, 1, 4, 5, 2, 3, 8, 6);
    CHECK_EQUAL(records[0].time_ns, 5);
    CHECK_EQUAL(records[7].time_ns, 40);
    CHECK_EQUAL(take(replay, UINT64_MAX, 0, ALL), 0);
    dp_replay_free(replay);
    for (int i = 0; i < 3; i++)
        close_fixture(&a[i]);
    dp_plane_free(plane);
}

/* A capture keeps its order where its times run backwards; only heads are compared. */
static void own_order_is_kept(void)
{
    struct dp_plane *plane = new_plane();
    struct fixture a[2];
    begin(&a[0]);
    begin(&a[1]);
    add(&a[0], 50, 1);
    add(&a[0], 10, 2);
    add(&a[0], 60, 3);
    add(&a[1], 40, 4);
    add(&a[1], 55, 5);
    add(&a[1], 20, 6);
    open_fixture(&a[0], 0);
    open_fixture(&a[1], 0);
    struct dp_replay *replay = new_replay(a, 2, plane);
    CHECK_EQUAL(take(replay, UINT64_MAX, 0, ALL), 6);
    CHECK_NUMBERS(0, 4, 1, 2, 5, 6, 3);
    dp_replay_free(replay);
    close_fixture(&a[0]);
    close_fixture(&a[1]);
    dp_plane_free(plane);
}

/* SPEC 7, --changes: stops before the first packet at or after a time; a time that runs backwards counts as the latest.
 */
static void until_a_time(uint32_t n_captures)
{
    struct dp_plane *plane = new_plane();
    struct fixture a[2];
    uint64_t time = 0;
    begin(&a[0]);
    begin(&a[1]);
    add(&a[0], 10, 1);
    add(&a[0], 5, 2);
    add(&a[0], 20, 3);
    add(&a[0], 15, 4);
    add(&a[0], 21, 5);
    add(&a[1], 100, 6);
    open_fixture(&a[0], 0);
    open_fixture(&a[1], 0);
    struct dp_replay *replay = new_replay(a, n_captures, plane);
    CHECK_EQUAL(dp_replay_next_time(replay, &time), 1);
    CHECK_EQUAL(time, 10);
    CHECK_EQUAL(take(replay, 10, 0, ALL), 0);
    CHECK_EQUAL(take(replay, 11, 0, 1), 1);
    CHECK_EQUAL(dp_replay_next_time(replay, &time), 1);
    CHECK_EQUAL(time, 10);
    CHECK_EQUAL(take(replay, 10, 1, ALL), 0);
    CHECK_EQUAL(take(replay, 20, 1, ALL), 1);
    CHECK_EQUAL(dp_replay_next_time(replay, &time), 1);
    CHECK_EQUAL(time, 20);
    CHECK_EQUAL(take(replay, 21, 2, ALL), 2);
    CHECK_EQUAL(dp_replay_next_time(replay, &time), 1);
    CHECK_EQUAL(time, 21);
    CHECK_EQUAL(take(replay, UINT64_MAX, 4, ALL - 4), n_captures);
    CHECK_NUMBERS(0, 1, 2, 3, 4, 5);
    CHECK_EQUAL(dp_replay_next_time(replay, &time), 0);
    dp_replay_free(replay);
    close_fixture(&a[0]);
    close_fixture(&a[1]);
    dp_plane_free(plane);
}

/* The merge once more, as slow and plain as can be: the first of the smallest heads. */
static uint32_t plain_merge(uint32_t n_captures, uint64_t times[][400], const uint32_t *counts, uint32_t *numbers)
{
    uint32_t next[CAPTURES_MAX] = {0};
    uint32_t n = 0;
    for (;;) {
        uint32_t first = n_captures;
        for (uint32_t i = 0; i < n_captures; i++) {
            if (next[i] < counts[i] && (first == n_captures || times[i][next[i]] < times[first][next[first]]))
                first = i;
        }
        if (first == n_captures)
            return n;
        numbers[n++] = first * 400 + next[first]++;
    }
}

/* Many captures of many lengths, from memory and from pipes, taken in steps of any size. */
static void many_captures(uint32_t n_captures, uint32_t step, size_t piece)
{
    static uint64_t times[CAPTURES_MAX][400];
    static uint32_t numbers[CAPTURES_MAX * 400];
    static struct fixture a[CAPTURES_MAX];
    struct dp_plane *plane = new_plane();
    uint32_t counts[CAPTURES_MAX];
    uint32_t random = 12345;
    for (uint32_t i = 0; i < n_captures; i++) {
        begin(&a[i]);
        counts[i] = i % 5 == 4 ? 0 : i % 5 == 3 ? 400 : i * 53 % 300;
        uint64_t time = 1000;
        for (uint32_t j = 0; j < counts[i]; j++) {
            random = random * 1664525 + 1013904223;
            time += (random >> 24) % 7;
            times[i][j] = (random >> 16) % 50 ? time : time - 500;
            add(&a[i], times[i][j], i * 400 + j);
        }
        open_fixture(&a[i], i % 2 ? piece : 0);
    }
    uint32_t expected = plain_merge(n_captures, times, counts, numbers);
    struct dp_replay *replay = new_replay(a, n_captures, plane);
    uint32_t done = 0;
    for (;;) {
        uint64_t time;
        int got = take(replay, UINT64_MAX, done, step);
        int64_t starved = dp_replay_starved(replay);
        if (got >= 0 && starved >= 0) {
            const struct food food = {a[starved].bytes.data, a[starved].bytes.size, a[starved].piece};
            feed(a[starved].capture, &food);
            done += (uint32_t)got;
            continue;
        }
        CHECK(got >= 0 && (uint32_t)got <= step);
        done += (uint32_t)got;
        if ((uint32_t)got < step) {
            CHECK_EQUAL(dp_replay_next_time(replay, &time), 0);
            break;
        }
    }
    CHECK_EQUAL(done, expected);
    check_numbers(0, numbers, expected, __LINE__);
    dp_replay_free(replay);
    for (uint32_t i = 0; i < n_captures; i++)
        close_fixture(&a[i]);
    dp_plane_free(plane);
}

/* A fault ends its own capture: what stands before it and the others are judged. */
static void a_fault_ends_one_capture(void)
{
    struct dp_plane *plane = new_plane();
    struct fixture a[2];
    struct dp_capture_status status;
    begin(&a[0]);
    begin(&a[1]);
    add(&a[0], 1, 1);
    size_t at = a[0].bytes.size;
    add(&a[0], 3, 2);
    a[0].bytes.size -= 5;
    add(&a[1], 2, 3);
    add(&a[1], 4, 4);
    open_fixture(&a[0], 0);
    open_fixture(&a[1], 0);
    struct dp_replay *replay = new_replay(a, 2, plane);
    CHECK_EQUAL(take(replay, UINT64_MAX, 0, ALL), 3);
    CHECK_NUMBERS(0, 1, 3, 4);
    dp_capture_status(a[0].capture, &status);
    CHECK_EQUAL(status.error, DP_E_TRUNCATED);
    CHECK_EQUAL(status.offset, at);
    CHECK_EQUAL(status.packets, 1);
    dp_capture_status(a[1].capture, &status);
    CHECK_EQUAL(status.error, 0);
    CHECK_EQUAL(status.packets, 2);
    dp_replay_free(replay);
    close_fixture(&a[0]);
    close_fixture(&a[1]);
    dp_plane_free(plane);
}

static void frames_know_their_capture(void)
{
    struct dp_plane *plane = new_plane();
    struct fixture a[2];
    uint64_t time;
    for (int i = 0; i < 2; i++) {
        begin(&a[i]);
        add(&a[i], 1, 1);
        open_fixture(&a[i], 0);
    }
    struct dp_replay *replay = new_replay(a, 2, plane);
    CHECK_EQUAL(dp_replay_next_time(replay, &time), 1);
    CHECK_EQUAL(a[0].capture->queue[0].capture, 0);
    CHECK_EQUAL(a[1].capture->queue[0].capture, 1);
    dp_replay_free(replay);
    close_fixture(&a[0]);
    close_fixture(&a[1]);
    dp_plane_free(plane);
}

/* A reading feeds several planes: each gets every packet, in the same places, with the times of its own clock. */
static void one_reading_for_several_planes(void)
{
    enum { PLANES = 3 };
    static struct dp_record other[PLANES][ALL];
    struct dp_plane *planes[PLANES];
    struct dp_record *of[PLANES];
    struct dp_capture *capture;
    struct dp_replay *replay;
    struct fixture a;
    uint32_t done = 0;
    int got;
    begin(&a);
    for (uint32_t i = 0; i < 1000; i++)
        add(&a, i, i);
    open_fixture(&a, 0);
    for (int i = 0; i < PLANES; i++)
        planes[i] = new_plane();
    /* One of them has judged before. */
    dp_plane_advance(planes[2], 500);
    capture = a.capture;
    CHECK_EQUAL(dp_replay_new(&capture, 1, &replay), 0);
    CHECK_EQUAL(dp_replay_judge_by(replay, planes, PLANES), 0);
    do {
        for (int i = 0; i < PLANES; i++)
            of[i] = other[i] + done;
        got = dp_replay_run(replay, UINT64_MAX, of, flows + done, NULL, 333);
        done += (uint32_t)got;
    } while (got == 333);
    CHECK_EQUAL(done, 1000);
    for (uint32_t i = 0; i < done; i++) {
        for (int k = 0; k < PLANES; k++)
            if (!CHECK_EQUAL(other[k][i].length, LENGTH_BASE + i))
                return;
        CHECK_EQUAL(flows[i].destination_port, i);
    }
    for (int k = 0; k < PLANES; k++) {
        struct dp_counters counters;

        dp_plane_counters(planes[k], &counters);
        CHECK_EQUAL(counters.verdict[DP_BYPASS].packets, 1000);
    }
    dp_replay_free(replay);
    close_fixture(&a);
    for (int i = 0; i < PLANES; i++)
        dp_plane_free(planes[i]);
}

static void arguments(void)
{
    struct dp_plane *plane = new_plane();
    struct fixture a;
    struct dp_replay *replay;
    uint64_t time;
    begin(&a);
    open_fixture(&a, 0);
    struct dp_capture *twice[2] = {a.capture, a.capture};
    struct dp_capture *missing[2] = {a.capture, NULL};
    CHECK_EQUAL(dp_replay_new(twice, 2, &replay), DP_E_ARGUMENT);
    CHECK_EQUAL(dp_replay_new(missing, 2, &replay), DP_E_ARGUMENT);
    CHECK_EQUAL(dp_replay_new(NULL, 1, &replay), DP_E_ARGUMENT);
    CHECK_EQUAL(dp_replay_new(NULL, 0, &replay), 0);
    CHECK_EQUAL(dp_replay_next_time(replay, &time), 0);
    CHECK_EQUAL(take(replay, UINT64_MAX, 0, ALL), DP_E_ARGUMENT);
    struct dp_plane *same[2] = {plane, plane};
    CHECK_EQUAL(dp_replay_set_ports(replay, 0, NULL, 0, -1), DP_E_ARGUMENT);
    CHECK_EQUAL(dp_replay_judge_by(replay, same, 0), DP_E_ARGUMENT);
    CHECK_EQUAL(dp_replay_judge_by(replay, same, 2), DP_E_ARGUMENT);
    CHECK_EQUAL(dp_replay_judge_by(replay, same, 1), 0);
    CHECK_EQUAL(dp_replay_judge_by(replay, same, 1), DP_E_ARGUMENT);
    CHECK_EQUAL(dp_replay_set_ports(replay, 1, NULL, 0, -1), DP_E_ARGUMENT);
    CHECK_EQUAL(take(replay, UINT64_MAX, 0, ALL), 0);
    dp_replay_free(replay);
    dp_replay_free(NULL);
    dp_capture_free(NULL);
    close_fixture(&a);
    dp_plane_free(plane);
}

int main(void)
{
    RUN(merged_by_time_ties_in_the_order_given);
    RUN(own_order_is_kept);
    until_a_time(1);
    until_a_time(2);
    many_captures(1, 100, 0);
    many_captures(4, 1, 0);
    many_captures(4, ALL - 1, 0);
    many_captures(CAPTURES_MAX, 333, 0);
    many_captures(CAPTURES_MAX, 7, 777);
    many_captures(CAPTURES_MAX, ALL - 1, 4096);
    RUN(a_fault_ends_one_capture);
    RUN(frames_know_their_capture);
    RUN(one_reading_for_several_planes);
    RUN(arguments);
    return check_result("test_replay");
}
