/*
 * test_remap.c: dp_remap_frames: where addresses are replaced, and that nothing outside of a frame is touched.
 *
 * Frames stand in buffers of their own size, so that the sanitizer sees a byte too far.
 */
#include "check.h"
#include "io/remap.h"

#include <stdlib.h>

enum { ETHERNET = 14, IPV4 = 20, FRAME = 80 };

static const struct dp_mapping mappings[] = {
    {{10}, {11}, 4, 8}, {{0xfd, 0x55}, {0xfd, 0x00}, 6, 16}, {{10, 1, 2, 3}, {192, 0, 2, 9}, 4, 32}};

static struct dp_remap *new_remap(void)
{
    struct dp_remap *remap = NULL;

    if (dp_remap_new(mappings, 3, &remap) != 0)
        abort();
    return remap;
}

/* An ICMP error from 10.0.0.1 to 10.1.2.3, which quotes what that sent to 10.0.0.9. */
static void put_error(uint8_t *frame)
{
    static const uint8_t bytes[] = {2,  0, 0, 0, 0,  1, 2,    0,    0,    0,    0, 2,  8,  0, 0x45, 0,  0,    56,
                                    0,  0, 0, 0, 64, 1, 0x64, 0xc2, 10,   0,    0, 1,  10, 1, 2,    3,  3,    3,
                                    0,  0, 0, 0, 0,  0, 0x45, 0,    0,    28,   0, 0,  0,  0, 64,   17, 0x64, 0xc6,
                                    10, 1, 2, 3, 10, 0, 0,    9,    0x0b, 0xb8, 0, 53, 0,  8, 0,    0};

    memset(frame, 0, FRAME);
    memcpy(frame, bytes, sizeof bytes);
}

static uint16_t sum_of(const uint8_t *header)
{
    uint32_t sum = 0;

    for (int i = 0; i < IPV4; i += 2)
        sum += (uint32_t)(header[i] << 8 | header[i + 1]);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

static void addresses_are_replaced_and_sums_follow(void)
{
    struct dp_remap *remap = new_remap();
    uint8_t frame[FRAME];
    const uint8_t *ip, *quoted;

    put_error(frame);
    struct dp_frame seen = {.data = frame, .captured = FRAME, .length = FRAME};
    const struct dp_frame *judged = dp_remap_frames(remap, &seen, 1);
    CHECK(judged->data != frame);
    ip = judged->data + ETHERNET;
    quoted = ip + IPV4 + 8;
    CHECK_EQUAL(memcmp(ip + 12, (uint8_t[]){11, 0, 0, 1, 192, 0, 2, 9}, 8), 0);
    CHECK_EQUAL(memcmp(quoted + 12, (uint8_t[]){192, 0, 2, 9, 11, 0, 0, 9}, 8), 0);
    CHECK_EQUAL(sum_of(frame + ETHERNET), sum_of(ip));
    CHECK_EQUAL(sum_of(frame + ETHERNET + IPV4 + 8), sum_of(quoted));
    /* The rest is as it was, and so is the frame. */
    CHECK_EQUAL(memcmp(judged->data, frame, ETHERNET + 10), 0);
    CHECK_EQUAL(memcmp(quoted + IPV4, frame + ETHERNET + IPV4 + 8 + IPV4, FRAME - ETHERNET - 2 * IPV4 - 8), 0);
    CHECK_EQUAL(frame[ETHERNET + 12], 10);
    dp_remap_free(remap);
}

static void a_frame_without_such_addresses_is_not_copied(void)
{
    struct dp_remap *remap = new_remap();
    uint8_t frames[3][FRAME];
    struct dp_frame seen[3] = {{0}};

    for (int i = 0; i < 3; i++) {
        put_error(frames[i]);
        seen[i] = (struct dp_frame){.data = frames[i], .captured = FRAME, .length = FRAME, .time_ns = (uint64_t)i};
    }
    for (int at = ETHERNET + 12; at < ETHERNET + IPV4; at += 4)
        frames[1][at] = frames[1][at + IPV4 + 8] = 172;
    const struct dp_frame *judged = dp_remap_frames(remap, seen, 3);
    CHECK(judged[1].data == frames[1]);
    CHECK(judged[0].data != frames[0] && judged[2].data == judged[0].data + FRAME);
    CHECK_EQUAL(memcmp(judged[0].data, judged[2].data, FRAME), 0);
    CHECK_EQUAL(judged[2].time_ns, 2);
    dp_remap_free(remap);
}

/* Cut at each length, and with each byte of the headers changed to some values. */
static void nothing_outside_of_a_frame_is_touched(void)
{
    struct dp_remap *remap = new_remap();
    uint8_t whole[FRAME];
    uint64_t copied = 0;

    for (uint32_t size = 0; size <= FRAME; size++)
        for (uint32_t at = 0; at < 60; at++)
            for (uint32_t value = 0; value < 256; value += 15) {
                uint8_t *cut = malloc(size ? size : 1);
                if (!cut)
                    abort();
                put_error(whole);
                whole[at] = (uint8_t)value;
                memcpy(cut, whole, size);
                struct dp_frame seen = {.data = cut, .captured = size, .length = FRAME};
                const struct dp_frame *judged = dp_remap_frames(remap, &seen, 1);
                copied += judged->data != cut;
                CHECK_EQUAL(judged->captured, size);
                free(cut);
            }
    CHECK(copied > 1000);
    dp_remap_free(remap);
}

static void arguments(void)
{
    struct dp_mapping wrong[2] = {mappings[2], mappings[0]};
    struct dp_remap *remap = NULL;

    CHECK_EQUAL(dp_remap_new(wrong, 2, &remap), DP_E_ARGUMENT);
    wrong[0].family = 5;
    CHECK_EQUAL(dp_remap_new(wrong, 1, &remap), DP_E_ARGUMENT);
    wrong[0] = (struct dp_mapping){.family = 4, .bits = 33};
    CHECK_EQUAL(dp_remap_new(wrong, 1, &remap), DP_E_ARGUMENT);
    CHECK_EQUAL(dp_remap_new(NULL, 1, &remap), DP_E_ARGUMENT);
    CHECK_EQUAL(dp_remap_new(NULL, 0, &remap), 0);
    dp_remap_free(remap);
    dp_remap_free(NULL);
}

int main(void)
{
    addresses_are_replaced_and_sums_follow();
    a_frame_without_such_addresses_is_not_copied();
    nothing_outside_of_a_frame_is_touched();
    arguments();
    return check_result("test_remap");
}
