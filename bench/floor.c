/*
 * floor.c: what the machine itself takes for the work: a capture, mapped, is gone through without a firewall.
 *
 *   floor FILE headers|parse|table|single
 *
 *   headers  a word of each frame is read
 *   parse    5-tuples of IPv4 are read and hashed
 *   table    the same, and a plain table of entries of a cache line counts packets and bytes of each connection, both
 *            ways; places are asked for 32 packets ahead
 *   single   as table, one packet after the other
 *
 * No checks, no states, no times, no bound but the table's size: less than any firewall can do. Prints nanoseconds a
 * packet of each of four passes; the first meets the file's pages for the first time and finds nothing in the table,
 * whose memory is there already. A table has 2^22 places.
 * FILE is pcap of Ethernet in this machine's byte order.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { FILE_HEADER = 24, FRAME_HEADER = 16, ETHERNET = 14, BURST = 32, PASSES = 4 };
#define PLACES (1ull << 22)

struct key {
    uint64_t low, high; /* the smaller endpoint and the greater; `low` is never 0 */
};

struct entry {
    struct key key;
    uint64_t packets[2], bytes[2];
    uint64_t last;
    uint64_t unused;
};
_Static_assert(sizeof(struct entry) == 64, "an entry is a cache line");

struct capture {
    const uint8_t *bytes;
    size_t size;
};

/* Processor time: what another program takes meanwhile is not counted. */
static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static uint16_t read16(const uint8_t *p)
{
    uint16_t v;

    memcpy(&v, p, sizeof v);
    return v;
}

static uint32_t read32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof v);
    return v;
}

/* Where the next frame's bytes begin, and its length; false at the end. */
static inline bool next_frame(const struct capture *capture, size_t *at, const uint8_t **frame, uint32_t *length)
{
    if (*at + FRAME_HEADER > capture->size)
        return false;
    *length = read32(capture->bytes + *at + 8);
    *frame = capture->bytes + *at + FRAME_HEADER;
    *at += FRAME_HEADER + *length;
    return *at <= capture->size;
}

/* The key of an IPv4 packet and its direction; false for other packets. */
static inline bool parse(const uint8_t *frame, struct key *key, bool *reverse)
{
    const uint8_t *ip = frame + ETHERNET, *ports = ip + (ip[0] & 15) * 4;
    uint64_t source, destination;

    if (read16(frame + 12) != 0x0008)
        return false;
    source = (uint64_t)read32(ip + 12) << 16 | read16(ports);
    destination = (uint64_t)read32(ip + 16) << 16 | read16(ports + 2);
    *reverse = source > destination;
    key->low = (*reverse ? destination : source) | (uint64_t)ip[9] << 56 | 1ull << 55;
    key->high = *reverse ? source : destination;
    return true;
}

__attribute__((target("sse4.2"))) static inline uint64_t hash(struct key key)
{
    return _mm_crc32_u64(_mm_crc32_u64(0, key.low), key.high) * 0x9e3779b97f4a7c15ull;
}

static inline void count(struct entry *table, uint64_t place, struct key key, bool reverse, uint32_t length, uint64_t n)
{
    while (table[place].key.low && (table[place].key.low != key.low || table[place].key.high != key.high))
        place = (place + 1) % PLACES;
    if (!table[place].key.low)
        table[place].key = key;
    table[place].packets[reverse]++;
    table[place].bytes[reverse] += length;
    table[place].last = n;
}

/* The passes return how many packets there were; `kept` is written so that nothing is left out. */
static uint64_t headers(const struct capture *capture, uint64_t *kept)
{
    const uint8_t *frame;
    uint32_t length;
    uint64_t n = 0;

    for (size_t at = FILE_HEADER; next_frame(capture, &at, &frame, &length); n++)
        *kept += read32(frame + 26);
    return n;
}

__attribute__((target("sse4.2"))) static uint64_t parsed(const struct capture *capture, uint64_t *kept)
{
    const uint8_t *frame;
    uint32_t length;
    uint64_t n = 0;
    struct key key;
    bool reverse;

    for (size_t at = FILE_HEADER; next_frame(capture, &at, &frame, &length); n++)
        if (parse(frame, &key, &reverse))
            *kept += hash(key);
    return n;
}

__attribute__((target("sse4.2"))) static uint64_t counted(const struct capture *capture, struct entry *table,
                                                          uint32_t burst)
{
    struct key keys[BURST];
    uint64_t places[BURST], n = 0;
    uint32_t lengths[BURST], k;
    bool reverse[BURST];
    size_t at = FILE_HEADER;

    do {
        const uint8_t *frame;
        uint32_t length;

        for (k = 0; k < burst && next_frame(capture, &at, &frame, &length);) {
            n++;
            if (!parse(frame, &keys[k], &reverse[k]))
                continue;
            places[k] = (hash(keys[k]) >> 20) % PLACES;
            lengths[k] = length;
            __builtin_prefetch(&table[places[k]], 1);
            k++;
        }
        for (uint32_t i = 0; i < k; i++)
            count(table, places[i], keys[i], reverse[i], lengths[i], n);
    } while (k == burst);
    return n;
}

static void *mapped(size_t size, int fd)
{
    void *memory = mmap(NULL, size, fd < 0 ? PROT_READ | PROT_WRITE : PROT_READ,
                        fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_PRIVATE, fd, 0);

    if (memory == MAP_FAILED) {
        perror("floor");
        exit(1);
    }
    return memory;
}

int main(int argc, char **argv)
{
    const char *work = argc == 3 ? argv[2] : "";
    bool table = !strcmp(work, "table"), single = !strcmp(work, "single");
    struct capture capture;
    struct entry *entries = NULL;
    struct stat about;
    uint64_t kept = 0;
    double began;
    int fd;

    if (!table && !single && strcmp(work, "headers") && strcmp(work, "parse")) {
        fprintf(stderr, "usage: floor FILE headers|parse|table|single\n");
        return 2;
    }
    if ((fd = open(argv[1], O_RDONLY)) < 0 || fstat(fd, &about) < 0) {
        perror(argv[1]);
        return 1;
    }
    if (table || single) {
        entries = mapped(PLACES * sizeof *entries, -1);
        madvise(entries, PLACES * sizeof *entries, MADV_HUGEPAGE);
        memset(entries, 0, PLACES * sizeof *entries);
    }
    capture = (struct capture){mapped((size_t)about.st_size, fd), (size_t)about.st_size};
    madvise((void *)capture.bytes, capture.size, MADV_SEQUENTIAL);
    began = now();
    for (int pass = 0; pass < PASSES; pass++) {
        uint64_t n = table            ? counted(&capture, entries, BURST)
                     : single         ? counted(&capture, entries, 1)
                     : work[0] == 'p' ? parsed(&capture, &kept)
                                      : headers(&capture, &kept);
        double seconds = now() - began;

        printf("pass %d: %llu packets, %.2f ns/packet\n", pass, (unsigned long long)n, seconds / (double)n * 1e9);
        began = now();
    }
    /* Never so: who compiles this cannot know. */
    return kept == 1 ? 3 : 0;
}
