/*
 * capture_bytes.h: makes captures byte by byte, for tests, in either byte order, and reads them back in every way there
 * is: from memory, from a file, held or opened anew for each reading, and fed in small pieces. All must agree.
 *
 * Packet data is a pattern of the packet's length, so that a frame that points to the wrong place is noticed.
 */
#ifndef DP_TEST_CAPTURE_BYTES_H
#define DP_TEST_CAPTURE_BYTES_H

#include "../../csrc/io/capture.h"
#include "check.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct bytes {
    uint8_t *data;
    size_t size;
    size_t capacity;
    bool swapped;
};

static inline void put_raw(struct bytes *bytes, const void *data, size_t n)
{
    if (bytes->size + n > bytes->capacity) {
        bytes->capacity = (bytes->size + n) * 2;
        bytes->data = realloc(bytes->data, bytes->capacity);
        if (!bytes->data)
            abort();
    }
    if (n)
        memcpy(bytes->data + bytes->size, data, n);
    bytes->size += n;
}

static inline void put16(struct bytes *bytes, uint16_t value)
{
    value = bytes->swapped ? __builtin_bswap16(value) : value;
    put_raw(bytes, &value, sizeof value);
}

static inline void put32(struct bytes *bytes, uint32_t value)
{
    value = bytes->swapped ? __builtin_bswap32(value) : value;
    put_raw(bytes, &value, sizeof value);
}

static inline void put64(struct bytes *bytes, uint64_t value)
{
    value = bytes->swapped ? __builtin_bswap64(value) : value;
    put_raw(bytes, &value, sizeof value);
}

static inline void set32(struct bytes *bytes, size_t at, uint32_t value)
{
    value = bytes->swapped ? __builtin_bswap32(value) : value;
    memcpy(bytes->data + at, &value, sizeof value);
}

static inline uint8_t pattern(uint32_t captured, uint32_t i)
{
    return (uint8_t)(captured * 7 + i);
}

static inline void put_pattern(struct bytes *bytes, uint32_t captured)
{
    for (uint32_t i = 0; i < captured; i++)
        put_raw(bytes, &(uint8_t){pattern(captured, i)}, 1);
}

static inline void clear(struct bytes *bytes)
{
    free(bytes->data);
    *bytes = (struct bytes){0};
}

/* ---- pcap ---- */

static inline void pcap_file(struct bytes *bytes, uint32_t magic, uint16_t minor, uint32_t link_type)
{
    put32(bytes, magic);
    put16(bytes, 2);
    put16(bytes, minor);
    put64(bytes, 0);
    put32(bytes, 65535);
    put32(bytes, link_type);
}

static inline void pcap_record(struct bytes *bytes, uint32_t seconds, uint32_t fraction, uint32_t captured,
                               uint32_t length)
{
    put32(bytes, seconds);
    put32(bytes, fraction);
    put32(bytes, captured);
    put32(bytes, length);
    put_pattern(bytes, captured);
}

/* ---- pcapng ---- */

/* Begins a block; returns its offset, for block_end(), which closes it and sets its length. */
static inline size_t block_begin(struct bytes *bytes, uint32_t type)
{
    size_t at = bytes->size;
    put32(bytes, type);
    put32(bytes, 0);
    return at;
}

static inline size_t block_end(struct bytes *bytes, size_t at)
{
    while (bytes->size % 4)
        put_raw(bytes, "", 1);
    uint32_t length = (uint32_t)(bytes->size + 4 - at);
    put32(bytes, length);
    set32(bytes, at + 4, length);
    return at;
}

static inline void put_option(struct bytes *bytes, uint16_t code, const void *value, uint16_t length)
{
    put16(bytes, code);
    put16(bytes, length);
    put_raw(bytes, value, length);
    while (bytes->size % 4)
        put_raw(bytes, "", 1);
}

static inline size_t put_section(struct bytes *bytes, uint16_t major, uint16_t minor)
{
    size_t at = block_begin(bytes, 0x0a0d0d0a);
    put32(bytes, 0x1a2b3c4d);
    put16(bytes, major);
    put16(bytes, minor);
    put64(bytes, UINT64_MAX);
    return block_end(bytes, at);
}

/* An interface; resolution -1 and offset 0 leave their options out. */
static inline size_t put_interface(struct bytes *bytes, uint16_t link_type, uint32_t snap_length, int resolution,
                                   int64_t offset)
{
    size_t at = block_begin(bytes, 1);
    put16(bytes, link_type);
    put16(bytes, 0);
    put32(bytes, snap_length);
    if (resolution >= 0)
        put_option(bytes, 9, &(uint8_t){(uint8_t)resolution}, 1);
    if (offset) {
        put16(bytes, 14);
        put16(bytes, 8);
        put64(bytes, (uint64_t)offset);
    }
    if (resolution >= 0 || offset)
        put32(bytes, 0);
    return block_end(bytes, at);
}

static inline size_t put_enhanced(struct bytes *bytes, uint32_t interface, uint64_t count, uint32_t captured,
                                  uint32_t length)
{
    size_t at = block_begin(bytes, 6);
    put32(bytes, interface);
    put32(bytes, (uint32_t)(count >> 32));
    put32(bytes, (uint32_t)count);
    put32(bytes, captured);
    put32(bytes, length);
    put_pattern(bytes, captured);
    return block_end(bytes, at);
}

/* ---- reading back ---- */

enum { PACKETS_MAX = 8192 };

struct packet {
    uint64_t time_ns;
    uint32_t captured;
    uint32_t length;
    uint32_t link;
};

struct reading {
    struct dp_capture_status status;
    uint32_t n;
    struct packet packets[PACKETS_MAX];
};

/* What is fed to a capture, `piece` bytes at a time. */
struct food {
    const uint8_t *data;
    size_t size;
    size_t piece;
};

/* Feeds a capture, or says that there is no more. */
static inline void feed(struct dp_capture *capture, const struct food *food)
{
    size_t at = (size_t)dp_capture_wanted(capture);
    size_t n = food->size - at < food->piece ? food->size - at : food->piece;
    if (dp_capture_feed(capture, food->data + at, n) != 0)
        abort();
}

/* Reads all of it and gives the capture back; checks the pattern of each frame. */
static inline void read_to_end(struct dp_capture *capture, const struct food *food, struct reading *reading)
{
    memset(reading, 0, sizeof *reading);
    for (;;) {
        dp_capture_fill(capture);
        if (capture->starved) {
            feed(capture, food);
            continue;
        }
        if (!capture->tail)
            break;
        for (uint32_t i = 0; i < capture->tail && reading->n < PACKETS_MAX; i++) {
            const struct dp_frame *frame = &capture->queue[i];
            uint32_t wrong = 0;
            for (uint32_t j = 0; j < frame->captured; j++)
                wrong += frame->data[j] != pattern(frame->captured, j);
            CHECK_EQUAL(wrong, 0);
            reading->packets[reading->n++] =
                (struct packet){frame->time_ns, frame->captured, frame->length, frame->link};
        }
    }
    dp_capture_status(capture, &reading->status);
    CHECK_EQUAL(reading->status.packets, reading->n);
    dp_capture_free(capture);
}

static inline void read_memory(const uint8_t *data, size_t size, struct reading *reading)
{
    struct dp_capture *capture;
    /* A copy of exact size lets a sanitizer see the first byte too many. */
    uint8_t *copy = malloc(size + (size == 0));
    if (!copy)
        abort();
    if (size)
        memcpy(copy, data, size);
    if (dp_capture_open_memory(copy, size, &capture) != 0)
        abort();
    read_to_end(capture, NULL, reading);
    free(copy);
}

/* A descriptor of a regular file in memory that holds these bytes. */
static inline int make_file(const uint8_t *data, size_t size)
{
    int fd = memfd_create("capture", 0);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    return fd;
}

static inline void read_fd(int fd, const char *path, struct reading *reading)
{
    struct dp_capture *capture;
    if (dp_capture_open(fd, path, &capture) != 0)
        abort();
    read_to_end(capture, NULL, reading);
    close(fd);
}

static inline void read_fed(const uint8_t *data, size_t size, size_t piece, struct reading *reading)
{
    struct dp_capture *capture;
    struct food food = {data, size, piece};
    if (dp_capture_open_fed(0, &capture) != 0)
        abort();
    read_to_end(capture, &food, reading);
}

static inline bool same_reading(const struct reading *a, const struct reading *b)
{
    return a->n == b->n && memcmp(a->packets, b->packets, a->n * sizeof a->packets[0]) == 0 &&
           a->status.error == b->status.error && a->status.offset == b->status.offset &&
           a->status.format == b->status.format && a->status.position == b->status.position &&
           a->status.link_type == b->status.link_type && a->status.sections == b->status.sections &&
           a->status.interfaces == b->status.interfaces && strcmp(a->status.detail, b->status.detail) == 0;
}

/* Reads the bytes in all ways, checks that they agree, and empties them. */
static inline void read_capture(struct bytes *bytes, struct reading *reading)
{
    static struct reading other;
    read_memory(bytes->data, bytes->size, reading);
    CHECK_EQUAL(reading->status.size, bytes->size);
    int fd = make_file(bytes->data, bytes->size);
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    read_fd(dup(fd), NULL, &other);
    CHECK(same_reading(reading, &other));
    read_fd(fd, path, &other);
    CHECK(same_reading(reading, &other));
    read_fed(bytes->data, bytes->size, bytes->size > 20000 ? 5001 : 7, &other);
    CHECK(same_reading(reading, &other));
    clear(bytes);
}

/* A fault as expected: its code, its place and words that its detail must hold. */
static inline void check_fault(const struct reading *reading, int error, uint64_t offset, const char *words, int line)
{
    const struct dp_capture_status *status = &reading->status;
    bool said = error ? strstr(status->detail, words) != NULL : status->detail[0] == 0;
    if (status->error != error || status->offset != offset || !said) {
        fprintf(stderr, "line %d: error %d at byte %" PRIu64 " \"%s\", expected %d at byte %" PRIu64 " \"%s\"\n", line,
                status->error, status->offset, status->detail, error, offset, words);
        check_failures++;
    }
}
#define CHECK_FAULT(reading, error, offset, words) check_fault((reading), (error), (offset), (words), __LINE__)
#define CHECK_NO_FAULT(reading) check_fault((reading), 0, 0, "", __LINE__)

static inline void check_packet(const struct reading *reading, uint32_t i, uint64_t time_ns, uint32_t captured,
                                uint32_t length, int line)
{
    const struct packet *packet = &reading->packets[i];
    if (i >= reading->n || packet->time_ns != time_ns || packet->captured != captured || packet->length != length) {
        fprintf(stderr,
                "line %d: packet %u of %u is %" PRIu64 " ns, %u of %u bytes, expected %" PRIu64 " ns, %u of %u bytes\n",
                line, i, reading->n, packet->time_ns, packet->captured, packet->length, time_ns, captured, length);
        check_failures++;
    }
}
#define CHECK_PACKET(reading, i, time_ns, captured, length)                                                            \
    check_packet((reading), (i), (time_ns), (captured), (length), __LINE__)

#endif
