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
 *      binary search.
 *   4. The look-up walks from the leaf's class to class 0 and keeps the best rule; it stops as soon as no class further
 *      up can do better (`best_above`).
 *
 * THE COST. Look-up: at most 8 (IPv4) or 32 (IPv6) trie steps, then one binary search a level of nesting among the
 * policy's prefixes, of which real policies have two or three. Neither grows with the number of rules. Build:
 * O(n log n) in rules and prefixes; a set of prefixes is stored once a table, not once a rule.
 *
 * OWNERSHIP. A table owns all it has and is reference-counted: dp_rule_table_new gives the first reference,
 * dp_rule_table_free takes one back. It never changes, so any thread may look up in it.
 */
#ifndef DP_CLASSIFIER_H
#define DP_CLASSIFIER_H

#include "dp_api.h"
#include "trie.h"

enum { DP_SELECTOR_MAX = 0xffffff };
#define DP_NO_MATCH 0xffffffffu

struct dp_class {
    uint32_t first; /* intervals [first, first + count) */
    uint32_t count;
    uint32_t parent;
    uint32_t best_above; /* the best rule of this class and all its ancestors */
};

struct dp_rule_table {
    _Atomic uint32_t references; /* taken and given back by several threads */
    uint32_t n_classes;
    struct dp_class *classes;
    uint32_t *interval_start; /* an interval ends where the next begins */
    uint32_t *interval_rule;  /* position of the rule in the order, DP_NO_MATCH where none */
    uint32_t *rule_number;    /* by position */
    uint8_t *rule_action;
    uint32_t n_rules;
    uint32_t largest_rule; /* the largest rule number */
    uint32_t n_intervals;
    struct dp_trie trie;
};

static inline void dp_rule_table_reference(struct dp_rule_table *table)
{
    if (table)
        table->references++;
}

/* The position of the rule that decides, DP_NO_MATCH for none. */
static inline uint32_t dp_rule_table_find(const struct dp_rule_table *table, const uint8_t *remote, uint32_t selector)
{
    uint32_t best = DP_NO_MATCH, id = dp_trie_lookup(&table->trie, remote);

    for (;;) {
        const struct dp_class *class = &table->classes[id];
        const uint32_t *start = table->interval_start + class->first;
        uint32_t n = class->count, at = 0, found;

        if (class->best_above >= best)
            return best;
        while (n > 1) {
            uint32_t half = n / 2;

            at += start[at + half] <= selector ? half : 0;
            n -= half;
        }
        found = table->interval_rule[class->first + at];
        if (found < best)
            best = found;
        if (id == 0)
            return best;
        id = class->parent;
    }
}

#endif
