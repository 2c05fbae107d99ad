/*
 * trie.h: longest prefix match, prefix -> 32-bit value.
 *
 * A multibit trie with four bits a step. A node is sixteen slots, one cache line; a slot is either another node or a
 * value, and values are pushed down to the leaves, so a look-up is one load a step, ends at the first value, and costs
 * at most 8 steps for IPv4 and 32 for IPv6 however many prefixes there are. The steps that all prefixes share are
 * skipped: an address that differs there gets the default value at once.
 *
 * A trie is built once, by adding prefixes in the order of their length, and never changes after that. One of IPv4 may
 * then be given a wide top (dp_trie_widen): an array by the first 8, 12 or 16 bits behind the shared ones, which takes
 * the place of as many steps. A trie owns its nodes; nothing in it points elsewhere.
 */
#ifndef DP_TRIE_H
#define DP_TRIE_H

#include "bytes.h"
#include "dp_tables.h"

#include <stdbool.h>

enum { DP_TRIE_VALUE_MAX = 0x7fffffff, DP_TRIE_LOOKUPS_MAX = 32 };

struct dp_trie_node {
    uint32_t slot[16]; /* a value, or DP_TRIE_NODE | index of a node */
};
_Static_assert(sizeof(struct dp_trie_node) == 64, "a trie node is one cache line");

#define DP_TRIE_NODE 0x80000000u

struct dp_trie {
    struct dp_trie_node *nodes;
    uint32_t n_nodes;
    uint32_t room;
    uint32_t skip; /* steps that all prefixes share */
    uint32_t root; /* a slot */
    uint32_t otherwise;
    uint8_t common[16];
    uint32_t *top; /* slots; NULL without */
    uint32_t top_bits;
};

/* An empty trie that answers `otherwise`; every prefix to come begins with the first `common_bits` of `common`. */
void dp_trie_init(struct dp_trie *trie, uint32_t otherwise, const uint8_t *common, uint32_t common_bits);
void dp_trie_release(struct dp_trie *trie);
/* Adds a prefix no shorter than any added before it. 0, or DP_E_MEMORY. */
int dp_trie_add(struct dp_trie *trie, const uint8_t *address, uint32_t bits, uint32_t value);

/*
 * Gives a finished trie of IPv4 a wide top, of a quarter of its nodes' size at most; without memory it stays as it is.
 * From then on no prefix is added.
 */
void dp_trie_widen(struct dp_trie *trie);
uint64_t dp_trie_size(const struct dp_trie *trie);

/* The steps of an address of IPv4 behind the shared ones, the next one highest. */
static inline uint32_t dp_trie_path(const struct dp_trie *trie, const uint8_t *address)
{
    return (uint32_t)((uint64_t)dp_get32(address) << trie->skip * 4);
}

static inline uint32_t dp_trie_step(const uint8_t *address, uint32_t step)
{
    return step & 1 ? address[step >> 1] & 15 : address[step >> 1] >> 4;
}

/* The value of the longest prefix that holds `address`. */
static inline uint32_t dp_trie_lookup(const struct dp_trie *trie, const uint8_t *address)
{
    uint32_t slot = trie->root, step;

    for (step = 0; step < trie->skip; step++)
        if (dp_trie_step(address, step) != dp_trie_step(trie->common, step))
            return trie->otherwise;
    if (trie->top) {
        slot = trie->top[dp_trie_path(trie, address) >> (32 - trie->top_bits)];
        step += trie->top_bits / 4;
    }
    while (slot & DP_TRIE_NODE)
        slot = trie->nodes[slot & ~DP_TRIE_NODE].slot[dp_trie_step(address, step++)];
    return slot;
}

/* The same of `n` addresses of IPv4, DP_TRIE_LOOKUPS_MAX at most; eight at once where the processor has AVX2. */
void dp_trie_lookup4_many(const struct dp_trie *trie, const uint8_t *const *addresses, uint32_t n, uint32_t *values);

/* Bits that all of the prefixes begin with, no more than the shortest has. */
uint32_t dp_prefixes_common_bits(const struct dp_prefix *prefixes, uint32_t n);

#endif
