/*
 * piece.h: some frames of a stream (judges.h), shared out among shards.
 *
 * LAYING copies what is known of each frame behind the others of its shard, for a thread that is not the one that lays
 * with the bytes of a small frame, and past the caches (stream_store.h): two processors that wrote and read the same
 * lines in turn would wait for each other longer than they judge. A piece is laid again by the same thread, so that
 * what it judges itself stays in its cache.
 *
 *   ownership  A piece is its thread's memory. Records and flows are the stream's owner's; so are the bytes of frames
 *              that were not copied, until the piece has been judged.
 */
#ifndef DP_IO_PIECE_H
#define DP_IO_PIECE_H

#include "../pipeline.h"

enum { DP_PIECE = 1024, DP_CACHE_ALIGN = 64 };

/* Those frames of a piece that one shard judges: where they begin, and how many they are; how many it has denied. */
struct dp_piece_share {
    _Alignas(DP_CACHE_ALIGN) uint32_t first;
    uint32_t n;
    uint32_t denied;
};

struct dp_piece {
    _Alignas(DP_CACHE_ALIGN) uint32_t n;
    uint64_t number; /* of the first, among all that the plane has judged */
    uint64_t now;    /* the latest time up to its end */
    uint64_t token;  /* all up to it may be given back behind it */
    struct dp_record *records;
    struct dp_flow *flows; /* or NULL */
    struct dp_piece_share share[DP_SHARDS_MAX];
    _Alignas(DP_CACHE_ALIGN) struct dp_selected frame[DP_PIECE];
    struct dp_denied_frame was_denied[DP_PIECE]; /* from share.first of each shard on */
};

/* Puts `n` frames, DP_PIECE at most, of these shards into a piece; `now` is the latest time before them. What the shard
 * `mine` judges is for the calling thread. */
void dp_piece_lay(struct dp_piece *piece, const struct dp_frame *frames, const uint8_t *shard, uint32_t n,
                  uint32_t shards, uint32_t mine, uint64_t now);
/* Judges what a shard has of it. */
void dp_piece_judge(struct dp_piece *piece, struct dp_engine *engine, uint32_t shard);
/* Counts what all shards have denied of it, in the order of the frames. */
void dp_piece_count_denied(const struct dp_piece *piece, uint32_t shards, struct dp_denied_flows *denied,
                           uint64_t *consequences);

#endif
