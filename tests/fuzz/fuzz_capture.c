/*
 * fuzz_capture.c: the capture readers over any bytes (libFuzzer).
 *
 * The input is read twice, from memory and in pieces through a pipe. Every byte of every frame is touched, so that a
 * sanitizer sees a frame that leaves the input; times and lengths must be within their bounds; and both ways of reading
 * must find the same frames and the same fault.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include "../../csrc/io/capture.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

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

static void read_all(struct dp_capture *capture, struct reading *reading)
{
    uint64_t frames = 0;
    reading->hash = 0;
    do {
        dp_capture_fill(capture);
        for (uint32_t i = 0; i < capture->tail; i++) {
            const struct dp_frame *frame = &capture->queue[i];
            must(frame->time_ns <= DP_TIME_MAX && frame->captured <= frame->length && frame->link < DP_LINKS);
            reading->hash = mix(reading->hash, &frame->time_ns, sizeof frame->time_ns);
            reading->hash = mix(reading->hash, &frame->length, sizeof frame->length);
            reading->hash = mix(reading->hash, frame->data, frame->captured);
        }
        frames += capture->tail;
    } while (capture->tail);
    dp_capture_status(capture, &reading->status);
    must(reading->status.packets == frames);
    must(reading->status.error == 0 || reading->status.detail[0]);
}

static void read_memory(const uint8_t *data, size_t size, struct reading *reading)
{
    struct dp_capture *capture;
    must(dp_capture_open_memory(data, size, &capture) == 0);
    read_all(capture, reading);
    must(reading->status.offset <= size && reading->status.position <= size);
    dp_capture_free(capture);
}

/* A pipe in packet mode hands over one written piece with each read. */
static void read_pipe(const uint8_t *data, size_t size, struct reading *reading)
{
    enum { PIECES = 12 };
    size_t piece = size / PIECES + 1;
    int ends[2];
    struct dp_capture *capture;
    must(pipe2(ends, O_DIRECT) == 0);
    for (size_t at = 0; at < size; at += piece) {
        size_t n = size - at < piece ? size - at : piece;
        must(write(ends[1], data + at, n) == (ssize_t)n);
    }
    close(ends[1]);
    must(dp_capture_open(ends[0], &capture) == 0);
    read_all(capture, reading);
    dp_capture_free(capture);
    close(ends[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reading memory;
    struct reading piped;
    read_memory(data, size, &memory);
    if (size > 32768)
        return 0;
    read_pipe(data, size, &piped);
    must(memory.hash == piped.hash);
    piped.status.size = memory.status.size;
    must(memcmp(&memory.status, &piped.status, sizeof memory.status) == 0);
    return 0;
}
