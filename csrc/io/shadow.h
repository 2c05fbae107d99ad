/*
 * shadow.h: another policy that judges a worker's frames beside the one in force, and enforces nothing.
 *
 * A SHADOW is a plane of its own, with its own connections, whose shards have the workers' numbers; instances, rules
 * and balancers have the same numbers in both. A worker lets it judge a burst when the burst's frames have been sent,
 * copies for everybody when they have been judged; what differs is counted and kept as in difference.h, and noted in
 * the worker's flow log. Fragments that wait for their datagram's first are judged and not compared.
 *
 * TAKING OVER. A shadow that begins judges from the first burst on, and is not compared until it has all connections
 * that live. Each is put into its table between two bursts, as it stands, in the place of whatever the shadow has made
 * of its packets since, so that nothing of a connection passes between what is put in and what is judged next.
 *
 * An instance that the shadow's policy does not have is nobody to it: its frames are checked at the other end only.
 *
 * COST. One judgement more for each frame, and the places of difference.h (10 MB a worker, touched as they are used).
 */
#ifndef DP_IO_SHADOW_H
#define DP_IO_SHADOW_H

#include "../difference.h"
#include "../engine.h"

struct dp_shadow {
    struct dp_engine *engine; /* the shadow plane's shard */
    struct dp_difference *difference;
    bool comparing; /* it has taken over what lives */
};

/*
 * Takes over some of an engine's connections, from *cursor on, as in table_walk.h; returns how many. Those of instances
 * that the shadow does not know are left out.
 */
uint32_t dp_shadow_take_over(struct dp_shadow *shadow, struct dp_engine *engine, uint64_t *cursor);

/* Judges frames that an engine has judged as `records`, and its flow log has added, if there is one. */
void dp_shadow_judge(struct dp_shadow *shadow, struct dp_engine *engine, const struct dp_frame *frames,
                     const struct dp_place *places, const struct dp_record *records, const struct dp_flow *flows,
                     uint32_t n);
/* Lets its time pass. */
void dp_shadow_advance(struct dp_shadow *shadow, uint64_t now_ns);

#endif
