/* flow_table.c: pools and index of flow_table.h. */
#include "flow_table.h"

#include "memory.h"

enum { FIRST_SLOTS = 4096, AHEAD = 16 };

static uint32_t mask_for(uint32_t room)
{
    uint32_t mask = 1;

    while (mask < room)
        mask = mask << 1 | 1;
    return mask;
}

int dp_flow_table_init(struct dp_flow_table *t, uint32_t room, const uint64_t *seed)
{
    memset(t, 0, sizeof *t);
    t->room = room;
    t->entry_mask = mask_for(room);
    t->slot_mask = FIRST_SLOTS - 1;
    t->pair_high = 0;
    t->rearranged = 1;
    dp_hash_secret_init(&t->secret, seed);
    t->entries = dp_reserve_huge(((size_t)room + 1) * sizeof *t->entries);
    t->hashes = dp_reserve_huge(((size_t)room + 1) * sizeof *t->hashes);
    t->pairs = dp_reserve_huge(((size_t)room + 1) * sizeof *t->pairs);
    t->slots = dp_reserve_huge(FIRST_SLOTS * sizeof *t->slots);
    if (t->entries && t->hashes && t->pairs && t->slots)
        return 0;
    dp_flow_table_release(t);
    return DP_E_MEMORY;
}

void dp_flow_table_release(struct dp_flow_table *t)
{
    dp_unreserve(t->entries, ((size_t)t->room + 1) * sizeof *t->entries);
    dp_unreserve(t->hashes, ((size_t)t->room + 1) * sizeof *t->hashes);
    dp_unreserve(t->pairs, ((size_t)t->room + 1) * sizeof *t->pairs);
    dp_unreserve(t->slots, ((size_t)t->slot_mask + 1) * sizeof *t->slots);
}

/* In the first free place from `at` on. */
static void put_slot(uint32_t *slots, uint32_t mask, uint32_t slot, uint32_t at)
{
    at &= mask;
    while (slots[at])
        at = (at + 1) & mask;
    slots[at] = slot;
}

/* Whether an index of `n` slots is as full as it may be. */
static bool is_filled(uint32_t n, uint32_t count)
{
    return count >= n / 4 * 3;
}

/* Lays the index anew with `n` slots (a power of two), whose bits in `mask` name the entry. */
static int lay_index(struct dp_flow_table *t, uint32_t n, uint32_t mask)
{
    uint32_t *slots = dp_reserve_huge((size_t)n * sizeof *slots);

    if (!slots)
        return DP_E_MEMORY;
    for (uint32_t i = 0; i <= t->slot_mask; i++) {
        __builtin_prefetch(&t->hashes[t->slots[(i + AHEAD) & t->slot_mask] & t->entry_mask]);
        if (t->slots[i]) {
            uint32_t entry = t->slots[i] & t->entry_mask, hash = t->hashes[entry];

            put_slot(slots, n - 1, (hash & ~mask) | entry, hash);
        }
    }
    dp_unreserve(t->slots, ((size_t)t->slot_mask + 1) * sizeof *t->slots);
    t->slots = slots;
    t->slot_mask = n - 1;
    t->entry_mask = mask;
    t->rearranged++;
    return 0;
}

int dp_flow_table_resize(struct dp_flow_table *t, uint32_t room)
{
    void *p;

    if (room <= t->room)
        return 0;
    /* More bits for the entry leave fewer for the tag, which does no harm should the pools not grow. */
    if (lay_index(t, t->slot_mask + 1, mask_for(room)) < 0)
        return DP_E_MEMORY;
    p = dp_reserve_again(t->entries, ((size_t)t->room + 1) * sizeof *t->entries,
                         ((size_t)room + 1) * sizeof *t->entries);
    if (!p)
        return DP_E_MEMORY;
    t->entries = p;
    p = dp_reserve_again(t->hashes, ((size_t)t->room + 1) * sizeof *t->hashes, ((size_t)room + 1) * sizeof *t->hashes);
    if (p)
        t->hashes = p;
    else
        goto back;
    p = dp_reserve_again(t->pairs, ((size_t)t->room + 1) * sizeof *t->pairs, ((size_t)room + 1) * sizeof *t->pairs);
    if (p)
        t->pairs = p;
    else
        goto back_hashes;
    t->room = room;
    return 0;

back_hashes:
    t->hashes =
        dp_reserve_again(t->hashes, ((size_t)room + 1) * sizeof *t->hashes, ((size_t)t->room + 1) * sizeof *t->hashes);
back:
    t->entries = dp_reserve_again(t->entries, ((size_t)room + 1) * sizeof *t->entries,
                                  ((size_t)t->room + 1) * sizeof *t->entries);
    return DP_E_MEMORY;
}

int dp_flow_table_populate(struct dp_flow_table *t, uint32_t most)
{
    uint32_t n = t->slot_mask + 1, entries = most < t->room ? most : t->room;

    while (is_filled(n, entries))
        n *= 2;
    if (lay_index(t, n, t->entry_mask) < 0)
        return DP_E_MEMORY;
    dp_populate(t->slots, (size_t)n * sizeof *t->slots);
    dp_populate(t->entries, ((size_t)entries + 1) * sizeof *t->entries);
    dp_populate(t->hashes, ((size_t)entries + 1) * sizeof *t->hashes);
    t->populated = entries;
    return 0;
}

static uint32_t take_pair(struct dp_flow_table *t)
{
    uint32_t pair = t->pair_free;

    if (!pair)
        return ++t->pair_high;
    t->pair_free = t->pairs[pair].local.word[0];
    return pair;
}

uint32_t dp_flow_table_insert(struct dp_flow_table *t, const struct dp_flow_key *key, uint32_t hash)
{
    uint32_t index = t->free;
    struct dp_entry *e;

    if (t->count >= t->room)
        return 0;
    if (is_filled(t->slot_mask + 1, t->count) && lay_index(t, (t->slot_mask + 1) * 2, t->entry_mask) < 0)
        return 0;
    if (index)
        t->free = t->entries[index].local;
    else
        index = ++t->high;
    e = &t->entries[index];
    memset(e, 0, sizeof *e);
    if (key->family == 4) {
        e->local = key->local.word[0];
        e->remote = key->remote.word[0];
    } else {
        e->local = take_pair(t);
        e->remote = key->vlans;
        e->flags = key->vlans & DP_KEY_IPV4 ? DP_ENTRY_WIDE : DP_ENTRY_WIDE | DP_ENTRY_IPV6;
        t->pairs[e->local].local = key->local;
        t->pairs[e->local].remote = key->remote;
    }
    e->local_port = key->local_port;
    e->remote_port = key->remote_port;
    e->zone_protocol = key->zone_protocol;
    t->hashes[index] = hash;
    put_slot(t->slots, t->slot_mask, (hash & ~t->entry_mask) | index,
             t->vacancy.hash == hash && t->vacancy.rearranged == t->rearranged ? t->vacancy.at : hash);
    t->count++;
    return index;
}

void dp_flow_table_remove(struct dp_flow_table *t, uint32_t index)
{
    struct dp_entry *e = &t->entries[index];
    uint32_t at = t->hashes[index] & t->slot_mask, hole;

    while ((t->slots[at] & t->entry_mask) != index)
        at = (at + 1) & t->slot_mask;
    /* Shift back what the hole would cut off from its home. */
    hole = at;
    for (at = (at + 1) & t->slot_mask; t->slots[at]; at = (at + 1) & t->slot_mask) {
        uint32_t home = t->hashes[t->slots[at] & t->entry_mask] & t->slot_mask;

        if (((at - home) & t->slot_mask) >= ((at - hole) & t->slot_mask)) {
            t->slots[hole] = t->slots[at];
            hole = at;
        }
    }
    t->slots[hole] = 0;
    t->rearranged++;
    if (e->flags & DP_ENTRY_WIDE) {
        t->pairs[e->local].local.word[0] = t->pair_free;
        t->pair_free = e->local;
    }
    e->state = DP_CONN_INVALID;
    e->local = t->free;
    t->free = index;
    t->count--;
}

uint64_t dp_flow_table_bytes(const struct dp_flow_table *t)
{
    return (uint64_t)dp_flow_table_touched(t) * (sizeof *t->entries + sizeof *t->hashes) +
           (uint64_t)t->pair_high * sizeof *t->pairs + ((uint64_t)t->slot_mask + 1) * sizeof *t->slots;
}
