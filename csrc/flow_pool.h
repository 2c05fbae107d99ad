/*
 * flow_pool.h: the flows of a flow log, found by what they are known by, and queued in the order in which they may be
 * given out (flow_log.h says what a flow is).
 *
 * Memory: 184 bytes a flow and 4 to 8 of the index; the pool doubles as it fills, or is of one size (`fixed`), and then
 * its memory is its owner's. Hashes are keyed by the engine's secret.
 */
#ifndef DP_FLOW_POOL_H
#define DP_FLOW_POOL_H

#include "dp_findings.h"
#include "flow_key.h"

struct dp_logged_flow {
    struct dp_flow_record record;
    uint64_t opened_by; /* 0: a denied flow */
    uint32_t hash;
    uint32_t next; /* in its bucket, or among the free */
    uint32_t newer;
    uint32_t older;
    uint8_t check; /* which check of its first packet: egress before ingress */
    bool queued;
    bool used;
    uint8_t unused[5];
};
_Static_assert(sizeof(struct dp_logged_flow) == 184, "as said above");

struct dp_flow_pool {
    const struct dp_hash_secret *secret;
    struct dp_logged_flow *flows; /* from 1 */
    uint32_t *buckets;
    uint32_t bucket_mask;
    uint32_t room;
    uint32_t high; /* those above have not been used yet */
    uint32_t count;
    uint32_t free;
    uint32_t queued; /* how many are in the queue, which is empty where `oldest` is 0 */
    uint32_t oldest;
    uint32_t newest;
    bool fixed;
};

/*
 * The key of a flow in its zone. ICMP has no ports: the kind of a query stands there and which side asked, of other
 * messages type and code, and which side sent them.
 */
void dp_logged_flow_key(const struct dp_flow *flow, uint32_t zone, uint32_t direction, struct dp_flow_key *key);

/* Lays the index in so many buckets, a power of two; false without memory. */
bool dp_flow_pool_lay_index(struct dp_flow_pool *pool, uint32_t buckets);
uint32_t dp_flow_pool_hash(const struct dp_flow_pool *pool, uint32_t zone, uint32_t origin, uint64_t opened_by);
uint32_t dp_flow_pool_hash_denied(const struct dp_flow_pool *pool, const struct dp_flow_key *key);
/* The place of a connection, or of a denied flow, with this hash; 0 where it is not known. */
uint32_t dp_flow_pool_find(const struct dp_flow_pool *pool, uint32_t hash, uint32_t zone, uint32_t origin,
                           uint64_t opened_by);
uint32_t dp_flow_pool_find_denied(const struct dp_flow_pool *pool, uint32_t hash, const struct dp_flow_key *key);
/* A new flow in the index; 0 when there is no room, or no memory. */
uint32_t dp_flow_pool_insert(struct dp_flow_pool *pool, uint32_t hash);
/* Takes a flow out of the index, and of the queue if it is there. */
void dp_flow_pool_delete(struct dp_flow_pool *pool, uint32_t place);
/* Puts a flow behind all others of the queue, wherever it was there. */
void dp_flow_pool_enqueue(struct dp_flow_pool *pool, uint32_t place);

/* Makes room for one more of `n` items of `size` bytes in *array, which has `room`; false without memory. */
bool dp_make_room(void *array, uint32_t n, uint32_t *room, size_t size);

#endif
