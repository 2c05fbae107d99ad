/*
 * capture_state.h: an opened capture as its readers share it.
 *
 * A capture is a source of bytes, a step that reads the bytes that come next, and a queue of frames that the step has
 * filled. The steps: capture_detect looks at the first bytes and hands over to dp_pcap_header or dp_pcapng_blocks;
 * dp_pcap_header hands over to the step for packet records. When a capture has ended, by its end or by a fault, the
 * step is NULL for good.
 *
 *   ownership  capture.c owns the handle. The step that is running owns the queue's tail and the fields of its format;
 *              the replay owns the head: it takes frames from queue[head] on.
 *   lifetime   Frames in the queue point into the source: they hold until the next dp_capture_fill() or
 *              dp_capture_feed().
 *   units      Frame times are nanoseconds since 1970, saturated to 0 .. DP_TIME_MAX, the range that int64 holds, so
 *              that adding a timeout to one can never overflow and that tools with signed nanoseconds can store it.
 *   errors     A fault is recorded once, in `status`, by dp_capture_fault(); frames queued before it are still good.
 */
#ifndef DP_IO_CAPTURE_STATE_H
#define DP_IO_CAPTURE_STATE_H

#include "../dp_captures.h"
#include "byte_queue.h"
#include "capture_clock.h"
#include "source.h"

#include <stdbool.h>
#include <string.h>

enum {
    DP_FRAME_QUEUE = 1024,
    /* Frames that are read at once where one thread judges them: they are still in its cache then. */
    DP_FRAMES_AT_ONCE = 256,
    /* No link layer knows longer frames (BIG TCP: 512 KiB); a longer one is damage, not data. */
    DP_FRAME_MAX = 16 * 1024 * 1024,
    /* How far ahead of the reader cache lines are asked for. */
    DP_PREFETCH_AHEAD = 4096,
    DP_CACHE_LINE = 64
};

/*
 * Reads what is at hand into the queue and moves source.at behind it. Returns how many bytes it needs at hand to go
 * on, or 0 when the queue is full, the step has changed or the capture has ended.
 */
typedef size_t dp_capture_step(struct dp_capture *capture);

/* How the records of a pcap file are written. */
struct dp_pcap_layout {
    uint32_t link;
    uint32_t header_size;
    uint32_t fraction_ns;
    uint16_t minor;
    bool swapped;
};

/*
 * An interface as a pcapng file describes it. One that has the same place and description in a later section is the
 * same. `name` is a word of at most DP_INTERFACE_NAME bytes, NULL where the file tells none.
 */
enum { DP_INTERFACE_NAME = 255 };
struct dp_capture_interface {
    char *name;
    uint32_t place; /* in its section, from 0 */
    bool uplink;    /* dataplane's own capture says that it leads to the world outside */
    uint8_t *body;  /* of the block that describes it */
    uint32_t size;
    bool swapped;
    uint32_t number; /* the merge's: the one that it has in records, from 1 */
};

/* An interface of a pcapng section; `link` is DP_LINKS when its link type is not supported. */
struct dp_pcapng_interface {
    struct dp_capture_clock clock;
    uint32_t link;
    uint32_t link_type;
    uint32_t snap_length;
    uint32_t described; /* among the capture's interfaces, from 1 */
};

/* Behind n_interfaces stand those of sections before, up to `known`. */
struct dp_pcapng_section {
    struct dp_pcapng_interface *interfaces;
    uint32_t n_interfaces;
    uint32_t known;
    uint32_t capacity;
    bool swapped;
    bool ours; /* dataplane wrote it */
    uint64_t last_time_ns;
};

struct dp_capture {
    struct dp_source source;
    dp_capture_step *step;
    /* What stands at source.at, in words. */
    const char *unit;
    /* Position of this capture among those of a replay. */
    uint32_t index;
    uint32_t head;
    uint32_t tail;
    /* The queue is empty only because the source has to be fed first. */
    bool starved;
    bool concluded;
    struct dp_capture_status status;
    struct dp_pcap_layout pcap;
    struct dp_pcapng_section pcapng;
    /* interface[i] is the one that frames call i + 1. It stays where it is until the next dp_capture_fill(). */
    struct dp_capture_interface *interface;
    uint32_t n_interfaces;
    /* Heads of sections and names, if they are to be kept, as struct dp_kept_block. */
    bool keeps;
    struct dp_byte_queue kept;
    uint32_t room; /* frames that are queued at most, DP_FRAMES_AT_ONCE unless set */
    struct dp_frame queue[DP_FRAME_QUEUE];
};

/* Ends the capture with a fault found at `where`, which lies in the source. */
__attribute__((format(printf, 4, 5))) void dp_capture_fault(struct dp_capture *capture, int error, const uint8_t *where,
                                                            const char *format, ...);
/* Counts packets of a link type that is not supported. */
void dp_capture_count_strange(struct dp_capture *capture, uint32_t link_type, uint32_t packets);

static inline uint16_t dp_load_u16(const uint8_t *bytes, bool swapped)
{
    uint16_t value;
    memcpy(&value, bytes, sizeof value);
    return swapped ? __builtin_bswap16(value) : value;
}

static inline uint32_t dp_load_u32(const uint8_t *bytes, bool swapped)
{
    uint32_t value;
    memcpy(&value, bytes, sizeof value);
    return swapped ? __builtin_bswap32(value) : value;
}

/*
 * Asks for the cache lines up to DP_PREFETCH_AHEAD after `at`; `asked` is how far earlier calls went, and so is the
 * result. Records chain by their lengths, so without this each one waits for memory (measured on mixed sizes: 70 ns a
 * packet without, 15 with).
 */
static inline const uint8_t *dp_prefetch_ahead(const uint8_t *asked, const uint8_t *at, const uint8_t *end)
{
    const uint8_t *until = end - at > DP_PREFETCH_AHEAD ? at + DP_PREFETCH_AHEAD : end;
    if (asked < at)
        asked = at;
    for (; until - asked >= DP_CACHE_LINE; asked += DP_CACHE_LINE)
        __builtin_prefetch(asked);
    return asked;
}

#endif
