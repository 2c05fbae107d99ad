/* flow_cache.c: flow_cache.h in code: what is put in and taken out. */
#include "flow_cache.h"

#include "memory.h"

struct dp_flow_cache *dp_flow_cache_new(void)
{
    return dp_reserve(sizeof(struct dp_flow_cache));
}

void dp_flow_cache_free(struct dp_flow_cache *cache)
{
    dp_unreserve(cache, sizeof *cache);
}

void dp_flow_cache_clear(struct dp_flow_cache *cache)
{
    if (cache->used)
        memset(cache->set, 0, sizeof cache->set);
    cache->used = false;
}

/* Where the tag of a hash stands in its set; DP_FLOW_CACHE_WAYS for nowhere. */
static int place_of(const struct dp_flow_set *set, uint64_t hash)
{
    int at = 0;

    while (at < DP_FLOW_CACHE_WAYS && set->tag[at] != (uint32_t)hash)
        at++;
    return at;
}

static struct dp_flow_set *set_of(struct dp_flow_cache *cache, uint64_t hash)
{
    return &cache->set[hash >> (64 - DP_FLOW_CACHE_BITS)];
}

void dp_flow_cache_fill(struct dp_flow_cache *cache, uint64_t hash, uint32_t entry)
{
    struct dp_flow_set *set = set_of(cache, hash);
    int at = place_of(set, hash);

    if (at == DP_FLOW_CACHE_WAYS)
        at--;
    for (; at > 0; at--) {
        set->tag[at] = set->tag[at - 1];
        set->entry[at] = set->entry[at - 1];
    }
    set->tag[0] = (uint32_t)hash;
    set->entry[0] = entry;
    cache->used = true;
}

void dp_flow_cache_forget(struct dp_flow_cache *cache, uint64_t hash)
{
    struct dp_flow_set *set = set_of(cache, hash);
    int at = place_of(set, hash);

    if (at < DP_FLOW_CACHE_WAYS)
        set->entry[at] = 0;
}
