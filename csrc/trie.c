/* trie.c: building the trie of trie.h. Prefixes come in order of length, so a longer one only refines what is there. */
#include "trie.h"

#include <stdlib.h>
#include <string.h>

void dp_trie_init(struct dp_trie *trie, uint32_t otherwise, const uint8_t *common, uint32_t common_bits)
{
    memset(trie, 0, sizeof *trie);
    trie->root = otherwise;
    trie->otherwise = otherwise;
    trie->skip = common_bits / 4;
    if (trie->skip)
        memcpy(trie->common, common, (common_bits + 7) / 8);
}

void dp_trie_release(struct dp_trie *trie)
{
    free(trie->nodes);
    trie->nodes = NULL;
}

/* A new node whose slots all hold `value`, to stand in place of that value. */
static int new_node(struct dp_trie *trie, uint32_t value, uint32_t *index)
{
    if (trie->n_nodes == trie->room) {
        uint32_t room = trie->room ? trie->room * 2 : 16;
        struct dp_trie_node *nodes = aligned_alloc(64, (size_t)room * sizeof *nodes);

        if (!nodes)
            return DP_E_MEMORY;
        if (trie->n_nodes)
            memcpy(nodes, trie->nodes, (size_t)trie->n_nodes * sizeof *nodes);
        free(trie->nodes);
        trie->nodes = nodes;
        trie->room = room;
    }
    for (int i = 0; i < 16; i++)
        trie->nodes[trie->n_nodes].slot[i] = value;
    *index = trie->n_nodes++;
    return 0;
}

int dp_trie_add(struct dp_trie *trie, const uint8_t *address, uint32_t bits, uint32_t value)
{
    uint32_t step = trie->skip, node = 0, slot = 0, first, count, next;
    bool at_root = true;

    if (bits <= step * 4) {
        trie->root = value;
        return 0;
    }
    for (;;) {
        next = at_root ? trie->root : trie->nodes[node].slot[slot];
        if (!(next & DP_TRIE_NODE)) {
            if (new_node(trie, next, &next) < 0)
                return DP_E_MEMORY;
            if (at_root)
                trie->root = next | DP_TRIE_NODE;
            else
                trie->nodes[node].slot[slot] = next | DP_TRIE_NODE;
        }
        node = next & ~DP_TRIE_NODE;
        at_root = false;
        slot = dp_trie_step(address, step++);
        if (bits <= step * 4)
            break;
    }
    count = 1u << (step * 4 - bits);
    first = slot & ~(count - 1);
    for (uint32_t i = first; i < first + count; i++)
        trie->nodes[node].slot[i] = value;
    return 0;
}

uint32_t dp_prefixes_common_bits(const struct dp_prefix *prefixes, uint32_t n)
{
    uint32_t bits = n ? 128 : 0;

    for (uint32_t i = 0; i < n; i++) {
        if (prefixes[i].bits < bits)
            bits = prefixes[i].bits;
        for (uint32_t b = 0; b < bits; b += 8) {
            uint8_t differ = prefixes[0].address[b / 8] ^ prefixes[i].address[b / 8];

            if (differ) {
                uint32_t same = b + (uint32_t)__builtin_clz(differ) - 24;

                if (same < bits)
                    bits = same;
                break;
            }
        }
    }
    return bits;
}
