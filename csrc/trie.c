/* trie.c: building the trie of trie.h. Prefixes come in order of length, so a longer one only refines what is there. */
#include "trie.h"

#include <stdlib.h>
#include <string.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

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
    free(trie->top);
    trie->nodes = NULL;
    trie->top = NULL;
}

uint64_t dp_trie_size(const struct dp_trie *trie)
{
    return (uint64_t)trie->room * sizeof *trie->nodes + (trie->top ? sizeof *trie->top << trie->top_bits : 0);
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

/* ---- a wide top ---- */

/* What the first `bits` of a path lead to. */
static uint32_t slot_at(const struct dp_trie *trie, uint32_t path, uint32_t bits)
{
    uint32_t slot = trie->root;

    for (; bits && slot & DP_TRIE_NODE; bits -= 4)
        slot = trie->nodes[slot & ~DP_TRIE_NODE].slot[path >> (bits - 4) & 15];
    return slot;
}

void dp_trie_widen(struct dp_trie *trie)
{
    size_t size = (size_t)trie->n_nodes * sizeof *trie->nodes / 4;
    uint32_t bits = 16;

    while (bits >= 8 && (bits + trie->skip * 4 > 32 || sizeof *trie->top << bits > size))
        bits -= 4;
    if (bits < 8)
        return;
    trie->top = malloc(sizeof *trie->top << bits);
    trie->top_bits = bits;
    for (uint32_t i = 0; trie->top && i < 1u << bits; i++)
        trie->top[i] = slot_at(trie, i, bits);
}

/* ---- several at once ---- */

#ifdef __x86_64__

/* Words of all nodes, as far as an index of 32 bits goes. */
enum { GATHERED_NODES_MAX = 1 << 27 };

/*
 * Steps from `slot`, sixteen lanes at once: what has come to a value, whose highest bit is 0, stays there.
 * `path` has the steps that are left, the next one highest.
 */
static __attribute__((target("avx2"))) void walk_by_avx2(const struct dp_trie *trie, const uint32_t *path,
                                                         uint32_t *slot)
{
    const int *words = (const int *)trie->nodes;
    __m256i p = _mm256_loadu_si256((const __m256i *)path), q = _mm256_loadu_si256((const __m256i *)(path + 8));
    __m256i s = _mm256_loadu_si256((const __m256i *)slot), t = _mm256_loadu_si256((const __m256i *)(slot + 8));

    while (_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_or_si256(s, t)))) {
        __m256i i = _mm256_or_si256(_mm256_slli_epi32(s, 4), _mm256_srli_epi32(p, 28));
        __m256i j = _mm256_or_si256(_mm256_slli_epi32(t, 4), _mm256_srli_epi32(q, 28));

        s = _mm256_mask_i32gather_epi32(s, words, i, s, 4);
        t = _mm256_mask_i32gather_epi32(t, words, j, t, 4);
        p = _mm256_slli_epi32(p, 4);
        q = _mm256_slli_epi32(q, 4);
    }
    _mm256_storeu_si256((__m256i *)slot, s);
    _mm256_storeu_si256((__m256i *)(slot + 8), t);
}

/* False where it cannot be done. */
static bool lookup4_by_avx2(const struct dp_trie *trie, const uint8_t *const *addresses, uint32_t n, uint32_t *values)
{
    uint32_t path[DP_TRIE_LOOKUPS_MAX] = {0}, slot[DP_TRIE_LOOKUPS_MAX] = {0};
    uint32_t common = dp_get32(trie->common), left = 32 - trie->skip * 4;
    const uint32_t *top = trie->top;

    if (n < 4 || trie->n_nodes > GATHERED_NODES_MAX || !__builtin_cpu_supports("avx2"))
        return false;
    for (uint32_t k = 0; k < n; k++) {
        uint64_t address = dp_get32(addresses[k]);

        path[k] = dp_trie_path(trie, addresses[k]);
        slot[k] = top ? top[path[k] >> (32 - trie->top_bits)] : trie->root;
        path[k] <<= trie->top_bits;
        if ((address ^ common) >> left)
            slot[k] = trie->otherwise;
    }
    for (uint32_t k = 0; k < n; k += 16)
        walk_by_avx2(trie, path + k, slot + k);
    memcpy(values, slot, n * sizeof *values);
    return true;
}

#else

static bool lookup4_by_avx2(const struct dp_trie *trie, const uint8_t *const *addresses, uint32_t n, uint32_t *values)
{
    (void)trie, (void)addresses, (void)n, (void)values;
    return false;
}

#endif

void dp_trie_lookup4_many(const struct dp_trie *trie, const uint8_t *const *addresses, uint32_t n, uint32_t *values)
{
    if (lookup4_by_avx2(trie, addresses, n, values))
        return;
    for (uint32_t k = 0; k < n; k++)
        values[k] = dp_trie_lookup(trie, addresses[k]);
}
