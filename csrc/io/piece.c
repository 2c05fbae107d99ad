/* piece.c: piece.h in code. */
#include "piece.h"

#include "../stream_store.h"

#include <string.h>

/* Frames for other threads that are put down at once: what was just written in parts cannot be read as a whole at once.
 */
enum { HANDED = 16 };
/* Frames that are asked for at once, while as many before them are judged: they come from memory. */
enum { FETCHED = 128 };

struct handing {
    uint32_t n;
    struct dp_selected *to[HANDED];
    struct dp_selected one[HANDED];
};

static void hand_over(struct handing *h)
{
    for (uint32_t i = 0; i < h->n; i++) {
        if (h->one[i].frame.captured <= DP_SELECTED_BYTES) {
            h->one[i].frame.data = h->to[i]->bytes;
            dp_stream_line(h->to[i]->bytes, h->one[i].bytes);
        }
        dp_stream_line(h->to[i], &h->one[i]);
    }
    h->n = 0;
}

static inline void select_frame(struct dp_selected *one, const struct dp_frame *frame, uint32_t at, uint64_t now)
{
    one->frame = *frame;
    one->now_ns = now;
    one->at = at;
}

static inline void hand(struct handing *h, struct dp_selected *to, const struct dp_frame *frame, uint32_t at,
                        uint64_t now)
{
    struct dp_selected *one = &h->one[h->n];

    select_frame(one, frame, at, now);
    if (frame->captured <= DP_SELECTED_BYTES)
        memcpy(one->bytes, frame->data, frame->captured);
    h->to[h->n++] = to;
    if (h->n == HANDED)
        hand_over(h);
}

/* Where the frames of each shard are to begin. */
static void part(struct dp_piece *piece, uint32_t shards, const uint8_t *shard, uint32_t n)
{
    uint32_t frames[DP_SHARDS_MAX] = {0}, first = 0;

    for (uint32_t i = 0; i < n; i++)
        frames[shard[i]]++;
    for (uint32_t i = 0; i < shards; i++) {
        piece->share[i] = (struct dp_piece_share){.first = first};
        first += frames[i];
    }
}

void dp_piece_lay(struct dp_piece *piece, const struct dp_frame *frames, const uint8_t *shard, uint32_t n,
                  uint32_t shards, uint32_t mine, uint64_t now)
{
    struct handing handing;

    handing.n = 0;
    part(piece, shards, shard, n);
    for (uint32_t i = 0; i < n; i++) {
        struct dp_piece_share *share = &piece->share[shard[i]];
        struct dp_selected *to = &piece->frame[share->first + share->n++];

        now = frames[i].time_ns > now ? frames[i].time_ns : now;
        if (shard[i] == mine)
            select_frame(to, &frames[i], i, now);
        else
            hand(&handing, to, &frames[i], i, now);
    }
    hand_over(&handing);
    dp_stream_end();
    piece->n = n;
    piece->now = now;
}

static void fetch(const struct dp_selected *some, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        __builtin_prefetch(&some[i].frame);
        __builtin_prefetch(&some[i].bytes);
    }
}

static uint32_t at_most(uint32_t n)
{
    return n < FETCHED ? n : FETCHED;
}

void dp_piece_judge(struct dp_piece *piece, struct dp_engine *engine, uint32_t shard)
{
    struct dp_piece_share *share = &piece->share[shard];
    const struct dp_selected *some = &piece->frame[share->first];
    struct dp_denied_frame *denied = &piece->was_denied[share->first];

    fetch(some, at_most(share->n));
    for (uint32_t i = 0, n; i < share->n; i += n) {
        n = at_most(share->n - i);
        fetch(some + i + n, at_most(share->n - i - n));
        share->denied += dp_engine_process_selected(engine, some + i, n, piece->number, piece->records, piece->flows,
                                                    denied + share->denied);
    }
    engine->frames = piece->number + piece->n;
    dp_conntrack_advance(&engine->conntrack, piece->now);
    dp_fragments_expire(engine->fragments, piece->now);
}

/* The first of what the shards have denied, from `at` of each on; NULL behind the last. */
static const struct dp_denied_frame *next_denied(const struct dp_piece *piece, uint32_t shards, uint32_t *at)
{
    const struct dp_denied_frame *first = NULL;
    uint32_t of = 0;

    for (uint32_t i = 0; i < shards; i++) {
        const struct dp_piece_share *share = &piece->share[i];
        const struct dp_denied_frame *denied = &piece->was_denied[share->first + at[i]];

        if (at[i] < share->denied && (!first || denied->at < first->at)) {
            first = denied;
            of = i;
        }
    }
    at[of] += first != NULL;
    return first;
}

void dp_piece_count_denied(const struct dp_piece *piece, uint32_t shards, struct dp_denied_flows *denied,
                           uint64_t *consequences)
{
    uint32_t at[DP_SHARDS_MAX] = {0};
    const struct dp_denied_frame *next;

    while ((next = next_denied(piece, shards, at)))
        dp_count_denied_frame(denied, &next->frame, &next->record, consequences);
}
