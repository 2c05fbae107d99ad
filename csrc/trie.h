/*
 * trie.h: longest prefix match, prefix -> 32-bit value.
 *
 * A multibit trie with four bits a step. A node is sixteen slots, one cache line; a slot is either another node or a
 * value, and values are pushed down to the leaves, so a look-up is one load a step, ends at the first value, and costs
 * at most 8 steps for IPv4 and 32 for IPv6 however many prefixes there are. The steps that all prefixes share are
 * skipped: an address that differs there gets the default value at once.
 *
 * A trie is built once, by adding prefixes in the order of their length, and never changes after that. It owns its
 * nodes; nothing in it points elsewhere.
 */
#ifndef DP_TRIE_H
#define DP_TRIE_H

#include "dp_api.h"

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
};

/* An empty trie that answers `otherwise`; every prefix to come begins with the first `common_bits` of `common`. */
void dp_trie_init(struct dp_trie *trie, uint32_t otherwise, const uint8_t *common, uint32_t common_bits);
void dp_trie_release(struct dp_trie *trie);
/* Adds a prefix no shorter than any added before it. 0, or DP_E_MEMORY. */
int dp_trie_add(struct dp_trie *trie, const uint8_t *address, uint32_t bits, uint32_t value);

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
    while (slot & DP_TRIE_NODE)
        slot = trie->nodes[slot & ~DP_TRIE_NODE].slot[dp_trie_step(address, step++)];
    return slot;
}

/* The same of `n` addresses of IPv4, DP_TRIE_LOOKUPS_MAX at most; eight at once where the processor has AVX2. */
void dp_trie_lookup4_many(const struct dp_trie *trie, const uint8_t *const *addresses, uint32_t n, uint32_t *values);

/* Bits that all of the prefixes begin with, no more than the shortest has. */
uint32_t dp_prefixes_common_bits(const struct dp_prefix *prefixes, uint32_t n);

#endif
