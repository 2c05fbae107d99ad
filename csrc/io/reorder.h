/*
 * reorder.h: records kept back so that they leave in the order of their packets, while some wait for a fragment
 * (SPEC 4.6).
 *
 * A queue of consecutive frame numbers, with a record of each plane that judges them: a frame leaves when all planes
 * have decided about it. It owns its arrays, DP_REORDER_MAX long; records are copied in and out.
 */
#ifndef DP_REORDER_H
#define DP_REORDER_H

#include "../dp_api.h"

#include <stdbool.h>

enum { DP_REORDER_MAX = 65536 };

/* Arrays with a place for each frame: those of records by plane; `flows` and `seen` may be NULL. */
struct dp_records {
    struct dp_record **of;
    struct dp_flow *flows;
    struct dp_seen *seen;
};

/* All zeros: empty. */
struct dp_reorder {
    struct dp_record *records; /* DP_REORDER_MAX of each plane, one plane behind the other */
    struct dp_flow *flows;
    struct dp_seen *seen;
    uint32_t planes;
    uint32_t first;
    uint32_t count;
    uint64_t number; /* of the first */
};

/* Memory is taken when it is first needed. 0, or DP_E_MEMORY. */
int dp_reorder_reserve(struct dp_reorder *queue, uint32_t planes);
void dp_reorder_release(struct dp_reorder *queue);
/* Appends the `n` places from `at` on, the first of which has this number; there must be room. */
void dp_reorder_put(struct dp_reorder *queue, uint64_t number, const struct dp_records *from, uint32_t at, uint32_t n);
/* Puts what a plane has decided in the place of what waited; false when its number is not in the queue. */
bool dp_reorder_resolve(struct dp_reorder *queue, uint32_t plane, uint64_t number, const struct dp_record *record);
/* Takes at most `n` frames from the front, up to the first that waits, to the places from `at` on; returns how many. */
uint32_t dp_reorder_take(struct dp_reorder *queue, const struct dp_records *to, uint32_t at, uint32_t n);

#endif
