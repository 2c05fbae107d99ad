/*
 * flow_log.h: the packets of an engine gathered by flow: a record for each connection, and for each denied flow that
 * never became one (SPEC 8.2). What the functions do is said in dp_findings.h.
 *
 * A CONNECTION is known by what the checks of its packets say: zone, origin and the frame that opened it. So there is
 * no second tracking of connections. How it ended is told by the connection table (dp_conntrack_observe) while frames
 * are judged, which is before their records come, since records may wait for a fragment: an END is noted with the
 * number of the frame and counts just before that frame's record.
 *
 * A DENIED FLOW is known by zone, addresses, protocol and ports (of ICMP by type and code, a reply's being its
 * request's), whichever way its packets go. When a connection opens
 * with these, the flow has become one: its packets are the connection's.
 *
 * BOUNDED. Live connections are as many as the table has. Of the rest, ended connections (by the time of their end) and
 * denied flows (by their last packet) stand in one queue; when it is longer than `most` the first of it are given out.
 * Up to there, the order of all is that of their first packets. What is given out depends on frames alone, not on how
 * they come in batches.
 *
 * LIVE (flow_log_live.h) records are the same; only when they are given out differs, and to whom.
 */
#ifndef DP_FLOW_LOG_H
#define DP_FLOW_LOG_H

#include "engine.h"
#include "flow_pool.h"

/* The end of a connection, which counts before the record of `frame`. */
struct dp_logged_end {
    uint64_t frame;
    uint64_t opened_by;
    uint32_t zone;
    uint8_t origin;
    uint8_t state;
    uint8_t end;
    uint8_t unused;
};

/* Who is given records as soon as there are any, and what then is different (flow_log_live.h); `put` NULL: nobody. */
struct dp_flow_sink {
    void (*put)(void *owner, const struct dp_flow_record *record);
    void *owner;
    uint64_t interval_ns; /* denied flows are gathered for so long */
};

struct dp_flow_log {
    struct dp_engine *engine;
    struct dp_flow_sink sink;
    uint64_t before;      /* frames that the engine had judged */
    uint64_t number;      /* of the frame whose record was added last */
    uint64_t early_drops; /* seen so far */
    struct dp_flow_pool pool;
    uint32_t most;               /* in its queue */
    struct dp_logged_end *ended; /* first_ended .. n_ended are still to count */
    uint32_t first_ended;
    uint32_t n_ended;
    uint32_t ended_room;
    struct dp_flow_record *given; /* first_given .. n_given are still to take */
    uint32_t first_given;
    uint32_t n_given;
    uint32_t given_room;
    bool finished;
    bool out_of_memory;
};

/* The place of a connection, 0 where it is not known. */
uint32_t dp_flow_log_find(const struct dp_flow_log *log, uint32_t zone, uint32_t origin, uint64_t opened_by);
/* Gives out a flow, which is then gone. */
bool dp_flow_log_give(struct dp_flow_log *log, uint32_t place);
/* How an entry stands, or how it ends if it is about to go. */
struct dp_logged_end dp_flow_log_ended(struct dp_flow_log *log, uint32_t entry);
/* Counts the ends that come before the record of `frame`. */
bool dp_flow_log_count_ends(struct dp_flow_log *log, uint64_t frame);
/* A shadow judges a frame otherwise, whose record was added: `after` is what it says. */
void dp_flow_log_note_shadow(struct dp_flow_log *log, const struct dp_record *before, const struct dp_record *after,
                             const struct dp_flow *flow);
/* Adds the record of frame `number`, from 1. */
bool dp_flow_log_add_frame(struct dp_flow_log *log, uint64_t number, const struct dp_record *record,
                           const struct dp_flow *flow);

#endif
