/*
 * engine_loop.c: the loop around the engine that bench/engine.py times: a capture in memory, judged in batches.
 *
 * A shared library of its own, so that nothing of the benchmark is in the extension; the engine's function is handed
 * in. A capture is pcap in microseconds, in this machine's byte order and of Ethernet, as workloads.c writes it.
 */
#include "dp_plane.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef int process(struct dp_engine *, const struct dp_frame *, uint32_t, struct dp_record *, struct dp_flow *);

enum { FILE_HEADER = 24, FRAME_HEADER = 16, BATCH_MAX = 1024 };

struct capture {
    struct dp_frame *frames;
    uint32_t n;
    uint64_t duration_ns;
    uint8_t *bytes; /* the whole file */
    size_t size;
};

struct capture *capture_open(const char *path);
void capture_free(struct capture *capture);
uint32_t capture_frames(const struct capture *capture);
double capture_pass(struct capture *capture, process *judge, struct dp_engine *engine, uint32_t batch,
                    uint64_t verdicts[DP_VERDICTS]);

static uint32_t word(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof v);
    return v;
}

void capture_free(struct capture *capture)
{
    if (!capture)
        return;
    if (capture->bytes)
        munmap(capture->bytes, capture->size);
    free(capture->frames);
    free(capture);
}

static bool map(struct capture *capture, const char *path)
{
    struct stat about;
    int fd = open(path, O_RDONLY);
    void *bytes = MAP_FAILED;

    if (fd >= 0 && fstat(fd, &about) == 0)
        bytes = mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    if (fd >= 0)
        close(fd);
    if (bytes == MAP_FAILED)
        return false;
    capture->bytes = bytes;
    capture->size = (size_t)about.st_size;
    capture->frames = malloc((capture->size / FRAME_HEADER + 1) * sizeof *capture->frames);
    return capture->frames;
}

/* The frames that are whole; NULL where the file cannot be read. */
struct capture *capture_open(const char *path)
{
    struct capture *capture = calloc(1, sizeof *capture);
    const uint8_t *bytes;

    if (!capture || !map(capture, path)) {
        capture_free(capture);
        return NULL;
    }
    bytes = capture->bytes;
    for (size_t at = FILE_HEADER; at + FRAME_HEADER <= capture->size;) {
        uint32_t captured = word(bytes + at + 8);

        if (captured > capture->size - at - FRAME_HEADER)
            break;
        capture->frames[capture->n++] =
            (struct dp_frame){.time_ns = word(bytes + at) * 1000000000ull + word(bytes + at + 4) * 1000ull,
                              .data = bytes + at + FRAME_HEADER,
                              .captured = captured,
                              .length = word(bytes + at + 12),
                              .link = DP_LINK_ETHERNET};
        at += FRAME_HEADER + captured;
    }
    if (capture->n)
        capture->duration_ns = capture->frames[capture->n - 1].time_ns - capture->frames[0].time_ns + 1000;
    return capture;
}

uint32_t capture_frames(const struct capture *capture)
{
    return capture->n;
}

/* Processor time: what another program takes meanwhile is not counted. */
static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/*
 * Seconds that one pass over the capture takes, in batches of `batch`; a negative number on an error. Adds to
 * `verdicts` how often each was given. Afterwards the frames are as much later as the capture is long, so that the next
 * pass follows this one in time.
 */
double capture_pass(struct capture *capture, process *judge, struct dp_engine *engine, uint32_t batch,
                    uint64_t verdicts[DP_VERDICTS])
{
    static struct dp_record records[BATCH_MAX];
    double began, seconds;

    if (batch == 0 || batch > BATCH_MAX)
        return -1;
    began = now();
    for (uint32_t i = 0; i < capture->n; i += batch) {
        uint32_t n = capture->n - i < batch ? capture->n - i : batch;

        if (judge(engine, capture->frames + i, n, records, NULL) < 0)
            return -1;
        for (uint32_t k = 0; k < n; k++)
            if (records[k].verdict < DP_VERDICTS)
                verdicts[records[k].verdict]++;
    }
    seconds = now() - began;
    for (uint32_t i = 0; i < capture->n; i++)
        capture->frames[i].time_ns += capture->duration_ns;
    return seconds;
}
