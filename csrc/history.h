/*
 * history.h: what happens to a few connections, noted while packets are judged: for an explanation of one packet.
 *
 * A connection is known by the frame that opened it, its zone and its origin, so a replay is judged once to learn these
 * and once more with a history. It stands on the observer of the connection table, of which there is one: an engine has
 * one history at a time, and is freed after it. What is judged without one pays nothing.
 *
 * Memory is bounded: DP_HISTORY_EVENTS of a connection are kept, the first ones; those behind them are counted as lost.
 */
#ifndef DP_HISTORY_H
#define DP_HISTORY_H

#include "dp_findings.h"
#include "table_walk.h"

struct dp_history_of {
    struct dp_watched watched;
    uint32_t entry; /* 0: not open yet, or gone */
    uint32_t n_events;
    uint64_t lost;
    struct dp_history_event events[DP_HISTORY_EVENTS];
};

struct dp_history {
    struct dp_engine *engine;
    uint32_t n;
    struct dp_history_of of[];
};

#endif
