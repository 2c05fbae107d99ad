/* flow_pool.c: flow_pool.h in code, in this order: keys, the pool and its index, the queue. */
#include "flow_pool.h"

#include "icmp.h"

#include <stdlib.h>
#include <string.h>

bool dp_make_room(void *array, uint32_t n, uint32_t *room, size_t size)
{
    void **items = array;
    uint32_t more = *room ? *room * 2 : 64;
    void *larger;

    if (n < *room)
        return true;
    if (more <= *room)
        return false;
    larger = realloc(*items, more * size);
    if (!larger)
        return false;
    *items = larger;
    *room = more;
    return true;
}

/* ---- keys ---- */

void dp_logged_flow_key(const struct dp_flow *flow, uint32_t zone, uint32_t direction, struct dp_flow_key *key)
{
    bool in = direction == DP_INGRESS, reply = false;
    uint8_t query = flow->icmp_type;

    memset(key, 0, sizeof *key);
    memcpy(&key->local, in ? flow->destination : flow->source, 16);
    memcpy(&key->remote, in ? flow->source : flow->destination, 16);
    key->zone_protocol = zone << 8 | flow->protocol;
    key->family = 6;
    key->vlans = (uint32_t)flow->family << 1 | flow->arp;
    if (flow->icmp) {
        (void)dp_icmp_query(flow->protocol, flow->icmp_type, &query, &reply);
        key->remote_port = (uint16_t)(query << 8 | flow->icmp_code);
        key->vlans |= 0x100 | (uint32_t)(reply != in) << 9;
    } else {
        key->vlans |= (uint32_t)(dp_has_ports(flow->protocol) && !flow->transport) << 10;
        key->local_port = in ? flow->destination_port : flow->source_port;
        key->remote_port = in ? flow->source_port : flow->destination_port;
    }
}

uint32_t dp_flow_pool_hash_denied(const struct dp_flow_pool *pool, const struct dp_flow_key *key)
{
    return dp_flow_hash(pool->secret, key);
}

uint32_t dp_flow_pool_hash(const struct dp_flow_pool *pool, uint32_t zone, uint32_t origin, uint64_t opened_by)
{
    struct dp_flow_key key = {.zone_protocol = zone, .family = 4};

    key.local.word[0] = (uint32_t)opened_by;
    key.remote.word[0] = (uint32_t)(opened_by >> 32);
    key.local_port = (uint16_t)origin;
    return dp_flow_hash(pool->secret, &key);
}

/* ---- the pool and its index ---- */

uint32_t dp_flow_pool_find(const struct dp_flow_pool *pool, uint32_t hash, uint32_t zone, uint32_t origin,
                           uint64_t opened_by)
{
    uint32_t i = pool->buckets[hash & pool->bucket_mask];

    while (i && !(pool->flows[i].opened_by == opened_by && pool->flows[i].record.zone == zone &&
                  pool->flows[i].record.origin == origin))
        i = pool->flows[i].next;
    return i;
}

uint32_t dp_flow_pool_find_denied(const struct dp_flow_pool *pool, uint32_t hash, const struct dp_flow_key *key)
{
    struct dp_flow_key other;

    for (uint32_t i = pool->buckets[hash & pool->bucket_mask]; i; i = pool->flows[i].next) {
        const struct dp_logged_flow *f = &pool->flows[i];

        if (f->opened_by || f->hash != hash)
            continue;
        dp_logged_flow_key(&f->record.flow, f->record.zone, f->record.direction, &other);
        if (memcmp(&other, key, sizeof other) == 0)
            return i;
    }
    return 0;
}

bool dp_flow_pool_lay_index(struct dp_flow_pool *pool, uint32_t buckets)
{
    uint32_t *laid = calloc(buckets, sizeof *laid);

    if (!laid)
        return false;
    for (uint32_t b = 0; pool->buckets && b <= pool->bucket_mask; b++)
        for (uint32_t i = pool->buckets[b], next; i; i = next) {
            uint32_t *bucket = &laid[pool->flows[i].hash & (buckets - 1)];

            next = pool->flows[i].next;
            pool->flows[i].next = *bucket;
            *bucket = i;
        }
    free(pool->buckets);
    pool->buckets = laid;
    pool->bucket_mask = buckets - 1;
    return true;
}

/* Whether there is room for one more flow. Live there is what there was from the start: nothing is moved. */
static bool has_room(struct dp_flow_pool *pool)
{
    if (pool->fixed)
        return pool->free || pool->high + 1 < pool->room;
    if (pool->count > pool->bucket_mask && pool->bucket_mask < 1u << 30 &&
        !dp_flow_pool_lay_index(pool, 2 * (pool->bucket_mask + 1)))
        return false;
    return pool->free || dp_make_room(&pool->flows, pool->high + 1, &pool->room, sizeof *pool->flows);
}

uint32_t dp_flow_pool_insert(struct dp_flow_pool *pool, uint32_t hash)
{
    uint32_t i = pool->free, *bucket;

    if (!has_room(pool))
        return 0;
    if (i)
        pool->free = pool->flows[i].next;
    else
        i = ++pool->high;
    bucket = &pool->buckets[hash & pool->bucket_mask];
    memset(&pool->flows[i], 0, sizeof pool->flows[i]);
    pool->flows[i].hash = hash;
    pool->flows[i].used = true;
    pool->flows[i].next = *bucket;
    *bucket = i;
    pool->count++;
    return i;
}

/* ---- the queue ---- */

static void dequeue(struct dp_flow_pool *pool, uint32_t i)
{
    struct dp_logged_flow *f = &pool->flows[i];

    if (!f->queued)
        return;
    *(f->older ? &pool->flows[f->older].newer : &pool->oldest) = f->newer;
    *(f->newer ? &pool->flows[f->newer].older : &pool->newest) = f->older;
    f->queued = false;
    pool->queued--;
}

void dp_flow_pool_enqueue(struct dp_flow_pool *pool, uint32_t i)
{
    struct dp_logged_flow *f = &pool->flows[i];

    dequeue(pool, i);
    f->older = pool->newest;
    f->newer = 0;
    *(pool->newest ? &pool->flows[pool->newest].newer : &pool->oldest) = i;
    pool->newest = i;
    f->queued = true;
    pool->queued++;
}

void dp_flow_pool_delete(struct dp_flow_pool *pool, uint32_t i)
{
    uint32_t *at = &pool->buckets[pool->flows[i].hash & pool->bucket_mask];

    dequeue(pool, i);
    while (*at != i)
        at = &pool->flows[*at].next;
    *at = pool->flows[i].next;
    pool->flows[i].next = pool->free;
    pool->flows[i].used = false;
    pool->free = i;
    pool->count--;
}
