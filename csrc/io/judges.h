/*
 * judges.h: the frames of a replay judged on the shards of a plane, by a thread for each.
 *
 * A STREAM is frames one behind the other, which whoever owns it brings a run at a time. They are shared out among the
 * shards (frame_shard.h) in pieces, and each thread judges its own frames of each piece in their order. No thread waits
 * for the others behind a piece: a few pieces may be read, shared out and not judged by all yet. Reading and sharing
 * out is done by whichever thread is ahead of the others, one at a time; so what a stream's owner does when it is asked
 * for more is done beside the judging. Few frames are all judged by the caller.
 *
 * What comes out is the same with any number of shards, to the byte, but for what bounds of tables make of it (SPEC
 * 4.9).
 *
 * ALONE, while all threads rest, are judged the frames that frame_shard.h says; and where several instances have one
 * address (owners.h), every frame; and what was captured at ports (replay_at_port.h). ARP, neighbour discovery and MLD,
 * which have no connection, are all with the first shard, which keeps their bound.
 *
 * TIME. Each frame is judged at the latest time up to it, of whichever shard; behind a stream all shards have the same
 * time and the same number of frames.
 *
 * THE BOUND of the table is shared out anew (dp_plane_balance) after a number of frames that follows from what is free:
 * before any shard can have used up its part.
 *
 * WHO MAY DO WHAT. Between two calls no thread touches the plane: its owner may change its policy and walk its shards.
 */
#ifndef DP_IO_JUDGES_H
#define DP_IO_JUDGES_H

#include "../plane.h"

struct dp_judges;

/* Frames of a stream that come next, none at its end; `token` is what they are given back with. */
struct dp_brought {
    const struct dp_frame *frames;
    uint32_t n;
    uint64_t token;
};

/* Whoever brings frames. Both functions are called by one thread at a time, whichever it is. */
struct dp_bringer {
    void *owner;
    /* Asked by thread number `thread`. The frames themselves last until it is asked again, their bytes until they are
     * given back. */
    struct dp_brought (*next)(void *owner, uint32_t thread);
    /* All up to those with this token have been judged; NULL where nobody wants to know. */
    void (*give_back)(void *owner, uint64_t token);
};

/* Threads for a plane of several shards, which must outlive them; 0 or DP_E_MEMORY, also where the system gives no
 * thread. */
int dp_judges_new(struct dp_plane *plane, struct dp_judges **judges);
void dp_judges_free(struct dp_judges *judges);

/* Judges a stream to its end: its nth frame into records[n], and flows[n] if that is not NULL. Returns how many. */
uint32_t dp_judges_stream(struct dp_judges *judges, const struct dp_bringer *bringer, struct dp_record *records,
                          struct dp_flow *flows);
/* Whether a fragment of the stream that is judged waits, or did and has its answer, as far as is known yet; for
 * `next`. Once one does, at most DP_JUDGES_AHEAD frames are judged that were brought before. */
enum { DP_JUDGES_AHEAD = 12288 };
bool dp_judges_wait(const struct dp_judges *judges);

/* As dp_engine_process; frames are numbered through all shards. */
void dp_judges_process(struct dp_judges *judges, const struct dp_frame *frames, uint32_t n, struct dp_record *records,
                       struct dp_flow *flows);

/* The engine that a frame captured at a port is judged by, as the next after all before; dp_judges_follow afterwards.
 */
struct dp_engine *dp_judges_alone(struct dp_judges *judges, const struct dp_frame *frame);
/* All shards have the time and the number of frames that `engine` has. */
void dp_judges_follow(struct dp_judges *judges, const struct dp_engine *engine);

#endif
