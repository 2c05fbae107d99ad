/*
 * judges.h: the frames of a replay judged on the shards of a plane, by a thread for each.
 *
 * A RUN of frames is cut where one has to be judged alone. What stands between two such goes to its shards (shard.h)
 * and is judged by all threads at once, each its own frames in their order; the caller's thread is the first of them,
 * and where there is little to do it does all. So what comes out is the same with any number of shards, to the byte,
 * but for what bounds of tables make of it (SPEC 4.9).
 *
 * ALONE are the frames that read or change what is not of one connection: DHCP, which a client's zone remembers; where
 * several instances have one address (owners.h), every frame; and what was captured at ports (replay_at_port.h). ARP,
 * neighbour discovery and MLD, which have no connection, are all with the first shard, which keeps their bound.
 *
 * TIME. Each frame is judged at the latest time up to it, of whichever shard; behind a run all shards have the same
 * time and the same number of frames.
 *
 * WHO MAY DO WHAT. Between two calls no thread touches the plane: its owner may change its policy and walk its shards.
 */
#ifndef DP_IO_JUDGES_H
#define DP_IO_JUDGES_H

#include "../plane.h"

struct dp_judges;

/* Threads for a plane of several shards, which must outlive them; 0 or DP_E_MEMORY, also where the system gives no
 * thread. */
int dp_judges_new(struct dp_plane *plane, struct dp_judges **judges);
void dp_judges_free(struct dp_judges *judges);

/* As dp_engine_process; frames are numbered through all shards. */
void dp_judges_process(struct dp_judges *judges, const struct dp_frame *frames, uint32_t n, struct dp_record *records,
                       struct dp_flow *flows);

/* The engine that a frame captured at a port is judged by, as the next after all before; dp_judges_follow afterwards.
 */
struct dp_engine *dp_judges_alone(struct dp_judges *judges, const struct dp_frame *frame);
/* All shards have the time and the number of frames that `engine` has. */
void dp_judges_follow(struct dp_judges *judges, const struct dp_engine *engine);

#endif
