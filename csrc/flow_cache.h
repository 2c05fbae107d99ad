/*
 * flow_cache.h: which connection a packet is likely to be of, by its own 5-tuple: an exact-match cache before the
 * look-ups of its addresses and of its flow key.
 *
 * A SET is a few connections' tags and their entries' numbers; both directions of a connection have one tag. The last
 * that came stands first, and the oldest gives way. A tag is 32 bits of a keyed hash, so what is found is only likely
 * to be the packet's connection.
 *
 * WHAT MAKES IT SURE is in the entry. Its key has to be the packet's, seen from either end; and DP_ENTRY_ALONE marks
 * that a packet of that key, of untagged IPv4, crosses the entry's zone and no other. An entry is marked as it is put
 * in, when the addresses have just been looked up; it has no mark when it is made. All sets are cleared when the
 * endpoints of the policy change: then marks that are left say nothing, but nothing leads to them either, before
 * the addresses have been looked up once more.
 *
 * TRIALS. To ask in vain costs more than an answer wins, and with very many connections at once most are asked about in
 * vain. So each trial of some bursts is counted; if too few were known the cache rests, after each such trial twice as
 * long as after the one before.
 *
 * OWNERSHIP. The engine's own. It takes memory when it is first used.
 */
#ifndef DP_FLOW_CACHE_H
#define DP_FLOW_CACHE_H

#include "flow_key.h"

#include <string.h>

enum { DP_FLOW_CACHE_BITS = 11, DP_FLOW_CACHE_SETS = 1 << DP_FLOW_CACHE_BITS, DP_FLOW_CACHE_WAYS = 4 };
/* Bursts of a trial; of the first rest, and of the longest. */
enum { DP_FLOW_CACHE_TRIAL = 32, DP_FLOW_CACHE_REST_LEAST = 64, DP_FLOW_CACHE_REST_MOST = 1 << 14 };

typedef uint32_t dp_cached4 __attribute__((vector_size(DP_FLOW_CACHE_WAYS * sizeof(uint32_t))));
struct dp_flow_set {
    dp_cached4 tag;   /* of those with an entry, no two are the same */
    dp_cached4 entry; /* 0: free */
};
_Static_assert(sizeof(struct dp_flow_set) == 32, "two to a cache line");

struct dp_flow_cache {
    struct dp_flow_set set[DP_FLOW_CACHE_SETS];
    uint32_t rest;      /* bursts */
    uint32_t last_rest; /* 0 after a trial in which enough were known */
    uint32_t tried;
    uint32_t asked; /* packets of this trial, */
    uint32_t known; /* and those that it knew */
    bool used;
};

/* NULL without memory. */
struct dp_flow_cache *dp_flow_cache_new(void);
void dp_flow_cache_free(struct dp_flow_cache *cache);
void dp_flow_cache_clear(struct dp_flow_cache *cache);
/* Puts a connection in; `hash` is that of its packets. */
void dp_flow_cache_fill(struct dp_flow_cache *cache, uint64_t hash, uint32_t entry);
/* Takes out whatever has the tag of that hash. */
void dp_flow_cache_forget(struct dp_flow_cache *cache, uint64_t hash);

/* Whether it is not to be asked about this burst. */
static inline bool dp_flow_cache_rests(struct dp_flow_cache *cache)
{
    if (!cache->rest)
        return false;
    cache->rest--;
    return true;
}

/* It was asked about so many packets of a burst. */
static inline void dp_flow_cache_count(struct dp_flow_cache *cache, uint32_t asked, uint32_t known)
{
    cache->asked += asked;
    cache->known += known;
    if (++cache->tried < DP_FLOW_CACHE_TRIAL)
        return;
    if (cache->known >= cache->asked - cache->asked / 4)
        cache->last_rest = 0;
    else if (cache->last_rest < DP_FLOW_CACHE_REST_MOST)
        cache->last_rest = cache->last_rest ? 2 * cache->last_rest : DP_FLOW_CACHE_REST_LEAST;
    cache->rest = cache->last_rest;
    cache->tried = cache->asked = cache->known = 0;
}

/*
 * The hash of packets between two addresses, for both directions; `ports` is a number that they have in common. It is
 * keyed as dp_flow_hash is, so nobody outside can choose who shares a set.
 */
static inline uint64_t dp_flow_cache_hash(const struct dp_hash_secret *secret, uint32_t a, uint32_t b, uint32_t ports)
{
    uint64_t h = (secret->multiplier[2] + a) * (secret->multiplier[2] + b) + secret->multiplier[0] * ports;

    return (h ^ h >> 32) * 0x9e3779b97f4a7c15u;
}

/* The entry that it has for a hash, 0 for none; no branch depends on that. */
static inline uint32_t dp_flow_cache_find(const struct dp_flow_cache *cache, uint64_t hash)
{
    const struct dp_flow_set *set = &cache->set[hash >> (64 - DP_FLOW_CACHE_BITS)];
    const uint32_t tag = (uint32_t)hash;
    const dp_cached4 wanted = {tag, tag, tag, tag};
    const dp_cached4 fitting = (dp_cached4)(set->tag == wanted) & set->entry;
    uint64_t halves[2], found;

    memcpy(halves, &fitting, sizeof halves);
    found = halves[0] | halves[1];
    return (uint32_t)(found | found >> 32);
}

#endif
