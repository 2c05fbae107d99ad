/*
 * test_judges.c: judges.h: what several threads say of a replay is what one says (SPEC 7), whatever they read ahead.
 *
 * Frames are large and small, so that some are copied for other threads and some are judged where they were read, and
 * their checksums are verified: a byte that was written over while it was waited for makes a packet malformed.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include "capture_bytes.h"
#include "one_instance.h"

enum { FRAMES = 20000, SMALL = 46, LARGE = 1400, BATCH = 20000, SHARDS = 4, CAPTURES = 2, DENIED = 64 };

static struct dp_record records[2][FRAMES];
static struct dp_flow flows[2][FRAMES];

static uint32_t sum_of(const uint8_t *bytes, uint32_t n)
{
    uint32_t sum = 0;

    for (uint32_t i = 0; i < n; i++)
        sum += i % 2 ? bytes[i] : (uint32_t)bytes[i] << 8;
    return sum;
}

static uint16_t checksum(uint32_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

/* UDP from one of 200 hosts to the instance, mostly to a port that is allowed; some are for DHCP, some are fragments of
 * datagrams whose first comes later or never. */
static void put_frame(struct bytes *file, uint32_t number, uint64_t time_ns)
{
    uint32_t random = number * 2654435761u, body = number % 3 ? SMALL - 42 : LARGE;
    uint8_t frame[42 + LARGE] = {[12] = 8,   [14] = 0x45, [22] = 64, [23] = 17,
                                 [26] = 192, [28] = 2,    [30] = 10, [33] = 1};
    uint32_t length = 28 + body, udp;

    frame[16] = (uint8_t)(length >> 8);
    frame[17] = (uint8_t)length;
    frame[29] = (uint8_t)(random >> 24) % 200;
    frame[34] = 0x30;
    frame[35] = (uint8_t)(random >> 16);
    frame[37] = number % 5 ? 53 : 54;
    if (number % 501 == 0) {
        frame[35] = 68;
        frame[34] = 0;
        frame[37] = 67;
    } else if (number % 301 == 0) {
        frame[19] = (uint8_t)(number / 301);
        frame[20] = number % 2 ? 0x20 : 0;
        frame[21] = number % 2 ? 0 : 8;
    }
    frame[38] = (uint8_t)((8 + body) >> 8);
    frame[39] = (uint8_t)(8 + body);
    for (uint32_t i = 0; i < body; i++)
        frame[42 + i] = (uint8_t)(random >> (i % 24));
    udp = checksum(sum_of(frame + 26, 8) + 17 + 8 + body + sum_of(frame + 34, 8 + body));
    udp = udp ? udp : 0xffff;
    frame[40] = (uint8_t)(udp >> 8);
    frame[41] = (uint8_t)udp;
    udp = checksum(sum_of(frame + 14, 20));
    frame[24] = (uint8_t)(udp >> 8);
    frame[25] = (uint8_t)udp;
    put32(file, (uint32_t)(time_ns / 1000000000));
    put32(file, (uint32_t)(time_ns % 1000000000));
    put32(file, 42 + body);
    put32(file, 42 + body);
    put_raw(file, frame, 42 + body);
}

/* Files of the frames, in turn; the descriptors are the caller's. */
static void write_files(int *fd)
{
    for (uint32_t c = 0; c < CAPTURES; c++) {
        struct bytes file = {0};

        pcap_file(&file, 0xa1b23c4d, 4, 1);
        for (uint32_t i = c; i < FRAMES; i += CAPTURES)
            put_frame(&file, i, UINT64_C(1000000000) + i * UINT64_C(1000000));
        fd[c] = memfd_create("frames", MFD_CLOEXEC);
        if (fd[c] < 0 || write(fd[c], file.data, file.size) != (ssize_t)file.size)
            abort();
        clear(&file);
    }
}

/* Replays them on so many shards, `batch` frames a call; how many there were. */
static uint32_t replay_on(uint32_t shards, const int *fd, uint32_t batch, struct dp_record *to, struct dp_flow *flow,
                          struct dp_counters *counters, struct dp_denied *denied)
{
    struct dp_conntrack_config config = settings_of(1 << 16, UINT64_C(30000000000));
    struct dp_capture *captures[CAPTURES];
    struct dp_endpoints *endpoints;
    struct dp_replay *replay = NULL;
    struct dp_rule_table *rules;
    struct dp_plane *plane;
    uint32_t n = 0;
    int got;

    config.verify_checksums = DP_VERIFY_ALWAYS;
    if (!one_instance_on(shards, &config, &plane, &endpoints, &rules))
        return 0;
    for (uint32_t i = 0; i < CAPTURES; i++)
        CHECK_EQUAL(dp_capture_open(fd[i], NULL, &captures[i]), 0);
    CHECK_EQUAL(dp_replay_new(captures, CAPTURES, &replay), 0);
    CHECK_EQUAL(dp_replay_judge_by(replay, &plane, 1), 0);
    do {
        got = dp_replay_run(replay, UINT64_MAX, &(struct dp_record *){to + n}, flow + n, NULL,
                            batch < FRAMES - n ? batch : FRAMES - n);
        n += got > 0 ? (uint32_t)got : 0;
    } while (got > 0);
    CHECK_EQUAL(got, 0);
    dp_plane_counters(plane, counters);
    memset(denied, 0, DENIED * sizeof *denied);
    CHECK(dp_plane_denied(plane, denied, DENIED) > 0);
    dp_replay_free(replay);
    for (uint32_t i = 0; i < CAPTURES; i++)
        dp_capture_free(captures[i]);
    dp_plane_free(plane);
    dp_endpoints_free(endpoints);
    dp_rule_table_free(rules);
    return n;
}

static void several_threads_say_what_one_says(void)
{
    static const uint32_t batches[] = {BATCH, 3000, 200};
    static struct dp_denied denied[2][DENIED];
    struct dp_counters counters[2];
    int fd[CAPTURES];

    write_files(fd);
    CHECK_EQUAL(replay_on(1, fd, BATCH, records[0], flows[0], &counters[0], denied[0]), FRAMES);
    CHECK(counters[0].verdict[DP_ALLOW].packets > FRAMES / 2);
    CHECK(counters[0].verdict[DP_DENY].packets > FRAMES / 10);
    CHECK_EQUAL(counters[0].cause[DP_CAUSE_BAD_CHECKSUM].packets, 0);
    for (uint32_t i = 0; i < sizeof batches / sizeof batches[0]; i++) {
        memset(records[1], 0, sizeof records[1]);
        CHECK_EQUAL(replay_on(SHARDS, fd, batches[i], records[1], flows[1], &counters[1], denied[1]), FRAMES);
        CHECK(memcmp(records[0], records[1], sizeof records[0]) == 0);
        CHECK(memcmp(flows[0], flows[1], sizeof flows[0]) == 0);
        CHECK(memcmp(denied[0], denied[1], sizeof denied[0]) == 0);
        CHECK(memcmp(counters[0].verdict, counters[1].verdict, sizeof counters[0].verdict) == 0);
        CHECK(memcmp(counters[0].cause, counters[1].cause, sizeof counters[0].cause) == 0);
    }
    for (uint32_t i = 0; i < CAPTURES; i++)
        close(fd[i]);
}

int main(void)
{
    RUN(several_threads_say_what_one_says);
    return check_result("test_judges");
}
