/*
 * fuzz_capture.c: the capture readers over any bytes (libFuzzer).
 *
 * The input is read twice, from memory and fed in pieces. Every byte of every frame is touched, so that a
 * sanitizer sees a frame that leaves the input; times and lengths must be within their bounds; and both ways of reading
 * must find the same frames and the same fault.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include "../../csrc/io/capture.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct reading {
    uint64_t hash;
    struct dp_capture_status status;
};

static void must(bool holds)
{
    if (!holds)
        abort();
}

static uint64_t mix(uint64_t hash, const void *bytes, size_t n)
{
    const uint8_t *at = bytes;
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ at[i]) * UINT64_C(1099511628211);
    return hash;
}

/* What is fed, `piece` bytes at a time. */
struct food {
    const uint8_t *data;
    size_t size;
    size_t piece;
};

static void feed(struct dp_capture *capture, const struct food *food)
{
    size_t at = (size_t)dp_capture_wanted(capture);
    size_t n = food->size - at < food->piece ? food->size - at : food->piece;
    must(dp_capture_feed(capture, food->data + at, n) == 0);
}

static void read_all(struct dp_capture *capture, const struct food *food, struct reading *reading)
{
    uint64_t frames = 0;
    reading->hash = 0;
    do {
        dp_capture_fill(capture);
        if (capture->starved)
            feed(capture, food);
        for (uint32_t i = 0; i < capture->tail; i++) {
            const struct dp_frame *frame = &capture->queue[i];
            must(frame->time_ns <= DP_TIME_MAX && frame->captured <= frame->length && frame->link <= DP_LINKS);
            reading->hash = mix(reading->hash, &frame->time_ns, sizeof frame->time_ns);
            reading->hash = mix(reading->hash, &frame->length, sizeof frame->length);
            reading->hash = mix(reading->hash, frame->data, frame->captured);
        }
        frames += capture->tail;
    } while (capture->tail || capture->starved);
    dp_capture_status(capture, &reading->status);
    must(reading->status.packets == frames);
    must(reading->status.error == 0 || reading->status.detail[0]);
}

static void read_memory(const uint8_t *data, size_t size, struct reading *reading)
{
    struct dp_capture *capture;
    must(dp_capture_open_memory(data, size, &capture) == 0);
    capture->keeps = true;
    read_all(capture, NULL, reading);
    must(reading->status.offset <= size && reading->status.position <= size);
    dp_capture_free(capture);
}

/* Fed in pieces, the first of them twice: after a rewind everything is there again. */
static void read_fed(const uint8_t *data, size_t size, struct reading *reading)
{
    struct food food = {data, size, size / 12 + 1};
    struct dp_capture *capture;
    must(dp_capture_open_fed(1, &capture) == 0);
    feed(capture, &food);
    dp_capture_fill(capture);
    must(dp_capture_rewind(capture) && dp_capture_wanted(capture) == 0);
    read_all(capture, &food, reading);
    dp_capture_free(capture);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reading memory;
    struct reading fed;
    read_memory(data, size, &memory);
    read_fed(data, size, &fed);
    must(memory.hash == fed.hash);
    fed.status.size = memory.status.size;
    must(memcmp(&memory.status, &fed.status, sizeof memory.status) == 0);
    return 0;
}
