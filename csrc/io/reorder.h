/*
 * reorder.h: records kept back so that they leave in the order of their packets, while some wait for a fragment
 * (SPEC 4.6).
 *
 * A queue of consecutive frame numbers. It owns its arrays, DP_REORDER_MAX long; records are copied in and out.
 */
#ifndef DP_REORDER_H
#define DP_REORDER_H

#include "dp_api.h"

#include <stdbool.h>

enum { DP_REORDER_MAX = 65536 };

struct dp_reorder {
    struct dp_record *records;
    struct dp_flow *flows;
    struct dp_seen *seen;
    uint32_t first;
    uint32_t count;
    uint64_t number; /* of the first */
};

/* Memory is taken when it is first needed. 0, or DP_E_MEMORY. */
int dp_reorder_reserve(struct dp_reorder *queue);
void dp_reorder_release(struct dp_reorder *queue);
/* Appends `n` records, the first of which has this number; there must be room. `flows` and `seen` may be NULL. */
void dp_reorder_put(struct dp_reorder *queue, uint64_t number, const struct dp_record *records,
                    const struct dp_flow *flows, const struct dp_seen *seen, uint32_t n);
/* Puts a decided record in the place of the one that waited; false when its number is not in the queue. */
bool dp_reorder_resolve(struct dp_reorder *queue, const struct dp_resolution *resolution);
/* Takes at most `n` records from the front, up to the first that waits; returns how many. */
uint32_t dp_reorder_take(struct dp_reorder *queue, struct dp_record *records, struct dp_flow *flows,
                         struct dp_seen *seen, uint32_t n);

#endif
