/*
 * capture.c: the handle of a capture: opening, telling the format, filling the queue, status.
 *
 * Life-cycle: dp_capture_open looks at the descriptor only; the first dp_capture_fill reads the first bytes and chooses
 * the reader by the magic number alone, never by a file's name. From then on the reader fills the queue until the
 * bytes end or a fault is met. There is one pass, forward, but for dp_capture_rewind: a replay of many captures learns
 * when each begins and reads it once its time comes.
 *
 * Guarantees
 *   1. Frames are delivered up to the fault or the end, the same whether the bytes come from a file or are fed in
 *      pieces of any size.
 *   2. A fault keeps its first cause, byte offset and words; nothing is read after it.
 *   3. A capture that ends between two records has no fault, one that ends within one has DP_E_TRUNCATED there.
 *   4. A file that was cut short or written over while it was read is a fault, whatever was found in it.
 *   5. captured <= length holds for each frame: a record that claims less on the wire than it holds is taken to be as
 *      long as what it holds.
 */
#include "capture.h"

#include "pcap.h"
#include "pcapng.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static size_t capture_detect(struct dp_capture *capture);

static struct dp_capture *capture_new(void)
{
    struct dp_capture *capture = calloc(1, sizeof *capture);
    if (capture) {
        capture->step = capture_detect;
        capture->unit = "file header";
        capture->room = DP_FRAMES_AT_ONCE;
    }
    return capture;
}

int dp_capture_open(int fd, const char *path, struct dp_capture **capture)
{
    if (!capture)
        return DP_E_ARGUMENT;
    struct dp_capture *opened = capture_new();
    if (!opened)
        return DP_E_MEMORY;
    int error = dp_source_open(&opened->source, fd, path);
    if (error) {
        dp_capture_free(opened);
        return error;
    }
    *capture = opened;
    return 0;
}

int dp_capture_open_fed(int repeatable, struct dp_capture **capture)
{
    if (!capture)
        return DP_E_ARGUMENT;
    struct dp_capture *opened = capture_new();
    if (!opened)
        return DP_E_MEMORY;
    dp_source_open_fed(&opened->source, repeatable != 0);
    *capture = opened;
    return 0;
}

int dp_capture_open_memory(const uint8_t *data, size_t size, struct dp_capture **capture)
{
    struct dp_capture *opened = capture_new();
    if (!opened)
        return DP_E_MEMORY;
    dp_source_open_memory(&opened->source, data, size);
    *capture = opened;
    return 0;
}

static void forget_interfaces(struct dp_capture *capture)
{
    for (uint32_t i = 0; i < capture->n_interfaces; i++) {
        free(capture->interface[i].name);
        free(capture->interface[i].body);
    }
    dp_byte_queue_release(&capture->kept);
    free(capture->interface);
    capture->interface = NULL;
    capture->n_interfaces = 0;
}

void dp_capture_free(struct dp_capture *capture)
{
    if (!capture)
        return;
    dp_source_close(&capture->source);
    free(capture->pcapng.interfaces);
    forget_interfaces(capture);
    free(capture);
}

bool dp_capture_rewind(struct dp_capture *capture)
{
    if (!dp_source_rewind(&capture->source))
        return false;
    struct dp_pcapng_interface *interfaces = capture->pcapng.interfaces;
    uint32_t capacity = capture->pcapng.capacity;
    capture->status = (struct dp_capture_status){0};
    capture->pcap = (struct dp_pcap_layout){0};
    capture->pcapng = (struct dp_pcapng_section){.interfaces = interfaces, .capacity = capacity};
    forget_interfaces(capture);
    capture->head = capture->tail = 0;
    capture->starved = capture->concluded = false;
    capture->step = capture_detect;
    capture->unit = "file header";
    return true;
}

uint64_t dp_capture_wanted(const struct dp_capture *capture)
{
    return dp_source_offset(&capture->source, capture->source.end);
}

int dp_capture_feed(struct dp_capture *capture, const uint8_t *data, size_t size)
{
    return dp_source_feed(&capture->source, data, size);
}

void dp_capture_status(const struct dp_capture *capture, struct dp_capture_status *status)
{
    *status = capture->status;
    status->size = dp_source_size(&capture->source);
    status->position = dp_source_offset(&capture->source, capture->source.at);
}

/* The magic numbers of pcap, in the order of this machine or swapped; the same bytes either way for pcapng. */
static size_t capture_detect(struct dp_capture *capture)
{
    const uint8_t *at = capture->source.at;
    if (dp_source_left(&capture->source) < 4)
        return 4;
    for (int swapped = 0; swapped < 2; swapped++) {
        switch (dp_load_u32(at, swapped)) {
        case 0xa1b2c3d4:
        case 0xa1b23c4d:
        case 0xa1b2cd34:
            capture->pcap.swapped = swapped;
            capture->status.format = DP_CAPTURE_PCAP;
            capture->step = dp_pcap_header;
            return 0;
        case 0x0a0d0d0a:
            capture->status.format = DP_CAPTURE_PCAPNG;
            capture->step = dp_pcapng_blocks;
            capture->unit = "block";
            return 0;
        default:
            break;
        }
    }
    dp_capture_fault(capture, DP_E_FORMAT, at,
                     "the file begins with bytes %02x %02x %02x %02x, which is neither pcap nor pcapng", at[0], at[1],
                     at[2], at[3]);
    return 0;
}

/* No byte comes after those at hand, and they are too few for what must stand there. */
static void end_of_bytes(struct dp_capture *capture, size_t need)
{
    const struct dp_source *source = &capture->source;
    size_t left = dp_source_left(source);
    if (left == 0 && capture->status.format != DP_CAPTURE_UNKNOWN)
        capture->step = NULL;
    else if (left == 0)
        dp_capture_fault(capture, DP_E_TRUNCATED, source->at, "the file is empty");
    else
        dp_capture_fault(capture, DP_E_TRUNCATED, source->at, "the %s is cut short: %zu of its %s%zu bytes are there",
                         capture->unit, left, capture->status.format == DP_CAPTURE_UNKNOWN ? "first " : "", need);
}

/* Once, at the end: whether the file is still what it was. */
static void conclude(struct dp_capture *capture)
{
    struct dp_capture_status *status = &capture->status;
    const char *changed = dp_source_changed(&capture->source);
    char detail[sizeof status->detail];
    capture->concluded = true;
    if (changed && !status->error) {
        dp_capture_fault(capture, DP_E_TRUNCATED, capture->source.at, "%s", changed);
    } else if (changed) {
        memcpy(detail, status->detail, sizeof detail);
        (void)snprintf(status->detail, sizeof status->detail, "%s: %.100s", changed, detail);
    }
    dp_source_drop(&capture->source);
}

void dp_capture_fill(struct dp_capture *capture)
{
    struct dp_source *source = &capture->source;
    capture->head = capture->tail = 0;
    capture->starved = false;
    while (capture->step) {
        size_t need = capture->step(capture);
        if (capture->tail)
            break;
        if (!need)
            continue;
        int more = dp_source_more(source, need);
        if (more == DP_SOURCE_STARVED) {
            capture->starved = true;
            return;
        }
        if (more == 0)
            end_of_bytes(capture, need);
        else if (more == DP_E_IO)
            dp_capture_fault(capture, DP_E_IO, source->end, "reading failed: %s",
                             errno == ESTALE ? "another file has taken its name" : strerror(errno));
        else if (more < 0)
            dp_capture_fault(capture, more, source->at, "no memory for a %s of %zu bytes", capture->unit, need);
    }
    capture->status.packets += capture->tail;
    for (uint32_t i = 0; i < capture->tail; i++)
        capture->status.bytes += capture->queue[i].length;
    if (!capture->step && !capture->tail && !capture->concluded)
        conclude(capture);
}
