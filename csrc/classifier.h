/*
 * classifier.h: the rules of one direction and family as an immutable table; the first rule that matches, found
 * without walking the rules.
 *
 * THE PROBLEM. A packet is a remote address and a selector (protocol and port in one number). The rules stand in the
 * order in which they are tried; the answer is the first whose remote set holds the address and whose selector ranges
 * hold the selector.
 *
 * THE STRUCTURE. Decompose by field, then combine.
 *   1. The remote address goes through one trie (trie.h) over the prefixes of all remotes; the leaf names a CLASS.
 *   2. A class is a pair (set of remotes that have exactly this prefix, class of the next shorter prefix around it).
 *      Classes are interned, so the 6,000 members of a group that nothing else tells apart share one class. Class 0 has
 *      the rules without a remote, and ends every chain.
 *   3. A class has its own rules drawn as disjoint selector intervals, each with the best (earliest) rule in it: one
 *      search. What a look-up reads of a class lies together, mostly in one cache line (DP_CLASS_...).
 *   4. The look-up goes from the leaf's class to those around it and keeps the best rule; it stops as soon as none
 *      further out can do better (DP_CLASS_FURTHER). Of classes around others, small ones are drawn together once more
 *      for this, so that it has a few steps in deep nesting too.
 *
 * THE COST. Look-up: at most 8 (IPv4; 5 in a large table) or 32 (IPv6) trie steps, then a search in the leaf's class,
 * and where what is around may do better, one for each dozen or so of its rules. It does not grow with the number of
 * rules elsewhere. Several look-ups at once (dp_rule_table_find_many) wait for memory together, and guess no branch for
 * each step. Build: O(n log n) in rules and prefixes; a set of prefixes is stored once a table, not once a rule.
 *
 * PATCHES. Where few rules are others than those of a table that took long to build, the table of now is a patch on
 * that one (rule_patch.c): which of its rules no longer count; a table of those of its rules that may decide where one
 * of these did; and a table of the rules added, each with its place among the others. A look-up asks the patched table
 * first, and then one or two small ones.
 *
 * OWNERSHIP. A table owns all it has and is reference-counted: dp_rule_table_new and dp_rule_table_patch give the first
 * reference, dp_rule_table_free takes one back. It never changes, so any thread may look up in it. A patch has a
 * reference to the table that it is on, and what it shows of that table's it does not own.
 */
#ifndef DP_CLASSIFIER_H
#define DP_CLASSIFIER_H

#include "dp_tables.h"
#include "trie.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum { DP_SELECTOR_MAX = 0xffffff };
#define DP_NO_MATCH 0xffffffffu

/*
 * A class is words, and is told by the place of its first: how many intervals it has behind the first, where look-ups
 * go on, and the best rule of all that is there and further out (DP_NO_MATCH where nothing is); where the intervals
 * behind the first one start (that starts at 0); and for each interval the position of its rule, DP_NO_MATCH where
 * none. An interval ends where the next begins. Class 0 is at 0.
 */
enum { DP_CLASS_MORE, DP_CLASS_NEXT, DP_CLASS_FURTHER, DP_CLASS_STARTS };
/* Starts that are compared at once; the words behind the last class are as many more. */
enum { DP_STARTS = 8 };
/* Look-ups at once. */
enum { DP_LOOKUPS_MAX = 32 };

struct dp_rule_table {
    _Atomic uint32_t references; /* taken and given back by several threads */
    uint32_t family;
    uint32_t n_classes;
    uint32_t n_words;
    uint32_t *classes;
    struct dp_rule_patch *patch; /* NULL but in a table that is a patch: all else is then that of its base */
    uint32_t *rule_number;       /* by position */
    uint8_t *rule_action;
    uint32_t n_rules;
    uint32_t largest_rule; /* the largest rule number */
    struct dp_trie trie;   /* of places of classes */
};

/* Positions in a patch are those of the base, and behind all of these the positions of `added`. */
struct dp_rule_patch {
    struct dp_rule_table *base;
    uint64_t *removed;               /* by position in the base: a bit for each that no longer counts */
    struct dp_rule_table *successor; /* the rules of the base that may decide where a removed one did; NULL for none */
    uint32_t *successor_at;          /* by position among these: that in the base */
    struct dp_rule_table *added;     /* NULL for none */
    uint32_t *before;                /* by position among these: that in the base which it stands right before */
};

static inline void dp_rule_table_reference(struct dp_rule_table *table)
{
    if (table)
        table->references++;
}

/* How many of `n` sorted starts, fewer than DP_STARTS, are not above the selector; DP_STARTS can be read. */
static inline uint32_t dp_starts_until(const uint32_t *start, uint32_t n, uint32_t selector)
{
#ifdef __SSE2__
    const __m128i wanted = _mm_set1_epi32((int)selector);
    __m128i low = _mm_cmpgt_epi32(_mm_loadu_si128((const __m128i *)start), wanted);
    __m128i high = _mm_cmpgt_epi32(_mm_loadu_si128((const __m128i *)(start + 4)), wanted);
    __m128i above = _mm_packs_epi16(_mm_packs_epi32(low, high), _mm_setzero_si128());

    return (uint32_t)__builtin_ctz((uint32_t)_mm_movemask_epi8(above) | 1u << n);
#else
    uint32_t found = 0;

    for (uint32_t i = 0; i < DP_STARTS; i++)
        found += (uint32_t)(i < n) & (uint32_t)(start[i] <= selector);
    return found;
#endif
}

/* The position of the best rule of a class alone. */
static inline uint32_t dp_class_find(const uint32_t *class, uint32_t selector)
{
    const uint32_t *start = class + DP_CLASS_STARTS, *rule = start + class[DP_CLASS_MORE];
    uint32_t n = class[DP_CLASS_MORE], at = 0;

    if (n == 0)
        return rule[0];
    while (n >= DP_STARTS) {
        uint32_t half = n / 2 + 1, below = start[at + half - 1] <= selector;

        at += below ? half : 0;
        n = below ? n - half : half - 1;
    }
    return rule[at + dp_starts_until(start + at, n, selector)];
}

/* The same of a table without its patch. */
static inline uint32_t dp_rule_table_find_first(const struct dp_rule_table *table, const uint8_t *remote,
                                                uint32_t selector)
{
    const uint32_t *class = table->classes + dp_trie_lookup(&table->trie, remote);
    uint32_t best = dp_class_find(class, selector);

    while (class[DP_CLASS_FURTHER] < best) {
        uint32_t found;

        class = table->classes + class[DP_CLASS_NEXT];
        found = dp_class_find(class, selector);
        if (found < best)
            best = found;
    }
    return best;
}

/* Where the base of a patch has found a position: that of the base's rule which decides among those that count. */
static inline uint32_t dp_rule_patch_in_base(const struct dp_rule_patch *patch, const uint8_t *remote,
                                             uint32_t selector, uint32_t found)
{
    if (found == DP_NO_MATCH || !(patch->removed[found / 64] >> found % 64 & 1))
        return found;
    if (!patch->successor)
        return DP_NO_MATCH;
    found = dp_rule_table_find_first(patch->successor, remote, selector);
    return found == DP_NO_MATCH ? found : patch->successor_at[found];
}

/* Of the position that decides in the base, and that among the rules added, the one that is tried first. */
static inline uint32_t dp_rule_patch_earlier(const struct dp_rule_patch *patch, uint32_t in_base, uint32_t added)
{
    return added != DP_NO_MATCH && patch->before[added] <= in_base ? patch->base->n_rules + added : in_base;
}

/* The position of the rule that decides, DP_NO_MATCH for none. */
static inline uint32_t dp_rule_table_find(const struct dp_rule_table *table, const uint8_t *remote, uint32_t selector)
{
    uint32_t best = dp_rule_table_find_first(table, remote, selector);

    if (__builtin_expect(table->patch != NULL, 0)) {
        const struct dp_rule_patch *patch = table->patch;

        best = dp_rule_patch_in_base(patch, remote, selector, best);
        if (patch->added)
            best = dp_rule_patch_earlier(patch, best, dp_rule_table_find_first(patch->added, remote, selector));
    }
    return best;
}

/* What is at a position that was found. */
static inline uint32_t dp_rule_table_number(const struct dp_rule_table *table, uint32_t position)
{
    return position < table->n_rules ? table->rule_number[position]
                                     : table->patch->added->rule_number[position - table->n_rules];
}

static inline enum dp_verdict dp_rule_table_action(const struct dp_rule_table *table, uint32_t position)
{
    return (enum dp_verdict)(position < table->n_rules ? table->rule_action[position]
                                                       : table->patch->added->rule_action[position - table->n_rules]);
}

#endif
