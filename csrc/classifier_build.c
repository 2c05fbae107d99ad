/*
 * classifier_build.c: builds the table of classifier.h.
 *
 * The build goes in the order in which its head tells the structure: (1) every prefix of every remote, sorted by length
 * and address, so that equal ones stand together; (2) each distinct prefix gets the set of its remotes, and with the
 * trie built so far (only shorter prefixes are in it) its parent class; the pair is interned; (3) each class is written
 * as words, by classifier_draw.c. A `struct dp_table_build` owns what is only needed while building.
 */
#include "classifier_draw.h"

#include "prefix.h"

#include <stdlib.h>
#include <string.h>

static int by_length_then_address(const void *a, const void *b)
{
    const struct dp_table_member *x = a, *y = b;
    int order = dp_prefix_order(&x->prefix, &y->prefix);

    if (order)
        return order;
    return (x->remote > y->remote) - (x->remote < y->remote);
}

/* ---- 1. members and rules by remote ---- */

static int collect(struct dp_table_build *b, const struct dp_remote *remotes, const struct dp_prefix *prefixes,
                   uint32_t n_prefixes)
{
    uint64_t n = 0;
    uint32_t bits = b->family == 4 ? 32 : 128;

    for (uint32_t r = 0; r < b->n_remotes; r++) {
        if (remotes[r].first > n_prefixes || remotes[r].count > n_prefixes - remotes[r].first)
            return DP_E_ARGUMENT;
        n += remotes[r].count;
    }
    if (n > DP_TRIE_VALUE_MAX)
        return DP_E_LIMIT;
    b->members = malloc((n + 1) * sizeof *b->members);
    if (!b->members)
        return DP_E_MEMORY;
    for (uint32_t r = 0; r < b->n_remotes; r++) {
        for (uint32_t i = 0; i < remotes[r].count; i++) {
            const struct dp_prefix *prefix = &prefixes[remotes[r].first + i];

            if (prefix->bits > bits)
                return DP_E_ARGUMENT;
            b->members[b->n_members].prefix = *prefix;
            b->members[b->n_members++].remote = r;
        }
    }
    qsort(b->members, b->n_members, sizeof *b->members, by_length_then_address);
    return 0;
}

static int group_rules(struct dp_table_build *b)
{
    uint32_t any = b->n_remotes; /* rules without a remote come behind the others */

    b->remote_at = calloc((size_t)b->n_remotes + 3, sizeof *b->remote_at);
    b->by_remote = malloc(((size_t)b->n_rules + 1) * sizeof *b->by_remote);
    if (!b->remote_at || !b->by_remote)
        return DP_E_MEMORY;
    for (uint32_t i = 0; i < b->n_rules; i++) {
        int32_t remote = b->rules[i].remote;

        if (remote != DP_REMOTE_ANY && (remote < 0 || (uint32_t)remote >= b->n_remotes))
            return DP_E_ARGUMENT;
        b->remote_at[(remote == DP_REMOTE_ANY ? any : (uint32_t)remote) + 2]++;
    }
    for (uint32_t r = 2; r < b->n_remotes + 3; r++)
        b->remote_at[r] += b->remote_at[r - 1];
    for (uint32_t i = 0; i < b->n_rules; i++) {
        int32_t remote = b->rules[i].remote;

        b->by_remote[b->remote_at[(remote == DP_REMOTE_ANY ? any : (uint32_t)remote) + 1]++] = i;
    }
    return 0;
}

/* ---- 2. classes ---- */

static uint32_t hash_set(const uint32_t *set, uint32_t n, uint32_t parent)
{
    uint64_t h = parent * 0x9e3779b97f4a7c15u;

    for (uint32_t i = 0; i < n; i++)
        h = (h ^ set[i]) * 0xff51afd7ed558ccdu ^ h >> 29;
    return (uint32_t)(h ^ h >> 32);
}

/* The class of (the set at the end of `sets`, parent): an old one, or the set is kept and a new class made. */
static uint32_t intern(struct dp_table_build *b, uint32_t n, uint32_t parent)
{
    uint32_t hash = hash_set(b->sets + b->n_sets, n, parent);
    uint32_t at = hash & b->index_mask;

    for (; b->index[at]; at = (at + 1) & b->index_mask) {
        const struct dp_class_draft *d = &b->drafts[b->index[at] - 1];

        if (d->hash == hash && d->n == n && d->parent == parent &&
            memcmp(b->sets + d->set, b->sets + b->n_sets, n * sizeof *b->sets) == 0)
            return b->index[at] - 1;
    }
    b->drafts[b->n_drafts] = (struct dp_class_draft){.set = b->n_sets, .n = n, .parent = parent, .hash = hash};
    b->drafts[parent].is_parent = true;
    b->n_sets += n;
    b->index[at] = ++b->n_drafts;
    return b->n_drafts - 1;
}

static int classify(struct dp_table_build *b, struct dp_trie *trie)
{
    uint32_t slots = 16;

    while (slots < b->n_members * 2 + 2)
        slots *= 2;
    b->index_mask = slots - 1;
    b->index = calloc(slots, sizeof *b->index);
    b->sets = malloc(((size_t)b->n_members + 1) * sizeof *b->sets);
    b->drafts = malloc(((size_t)b->n_members + 1) * sizeof *b->drafts);
    if (!b->index || !b->sets || !b->drafts)
        return DP_E_MEMORY;
    b->drafts[0] = (struct dp_class_draft){0};
    b->n_drafts = 1;
    for (uint32_t i = 0; i < b->n_members;) {
        const struct dp_prefix *prefix = &b->members[i].prefix;
        uint32_t n = 0, parent = dp_trie_lookup(trie, prefix->address);

        for (; i < b->n_members && dp_prefix_order(&b->members[i].prefix, prefix) == 0; i++)
            if (n == 0 || b->sets[b->n_sets + n - 1] != b->members[i].remote)
                b->sets[b->n_sets + n++] = b->members[i].remote;
        if (dp_trie_add(trie, prefix->address, prefix->bits, intern(b, n, parent)) < 0)
            return DP_E_MEMORY;
    }
    return 0;
}

/* ---- the table ---- */

static int check_selectors(const struct dp_table_build *b, uint32_t n_selectors)
{
    for (uint32_t i = 0; i < b->n_rules; i++) {
        const struct dp_rule *rule = &b->rules[i];

        if (rule->first_selector > n_selectors || rule->selectors > n_selectors - rule->first_selector)
            return DP_E_ARGUMENT;
    }
    for (uint32_t i = 0; i < n_selectors; i++)
        if (b->selectors[i].low > b->selectors[i].high || b->selectors[i].high > DP_SELECTOR_MAX)
            return DP_E_ARGUMENT;
    return 0;
}

static int copy_rules(const struct dp_table_build *b, struct dp_rule_table *table)
{
    table->rule_number = malloc(((size_t)b->n_rules + 1) * sizeof *table->rule_number);
    table->rule_action = malloc((size_t)b->n_rules + 1);
    if (!table->rule_number || !table->rule_action)
        return DP_E_MEMORY;
    table->n_rules = b->n_rules;
    for (uint32_t i = 0; i < b->n_rules; i++) {
        table->rule_number[i] = b->rules[i].number;
        table->rule_action[i] = (uint8_t)b->rules[i].action;
        if (b->rules[i].number > table->largest_rule)
            table->largest_rule = b->rules[i].number;
    }
    return 0;
}

static void release_build(struct dp_table_build *b)
{
    free(b->members);
    free(b->sets);
    free(b->drafts);
    free(b->index);
    free(b->by_remote);
    free(b->remote_at);
    free(b->positions);
    free(b->bounds);
    free(b->painted);
    free(b->skip);
}

int dp_rule_table_new(uint32_t family, const struct dp_rule *rules, uint32_t n_rules, const struct dp_remote *remotes,
                      uint32_t n_remotes, const struct dp_prefix *prefixes, uint32_t n_prefixes,
                      const struct dp_selector *selectors, uint32_t n_selectors, struct dp_rule_table **table)
{
    struct dp_table_build b = {
        .family = family, .rules = rules, .n_rules = n_rules, .selectors = selectors, .n_remotes = n_remotes};
    struct dp_rule_table *t;
    int error;

    *table = NULL;
    if ((family != 4 && family != 6) || n_remotes > DP_TRIE_VALUE_MAX || n_rules > DP_TRIE_VALUE_MAX)
        return DP_E_ARGUMENT;
    t = calloc(1, sizeof *t);
    if (!t)
        return DP_E_MEMORY;
    t->references = 1;
    t->family = family;
    error = check_selectors(&b, n_selectors);
    if (!error)
        error = collect(&b, remotes, prefixes, n_prefixes);
    if (!error)
        error = group_rules(&b);
    if (!error) {
        dp_trie_init(&t->trie, 0, n_prefixes ? prefixes[0].address : NULL,
                     dp_prefixes_common_bits(prefixes, n_prefixes));
        error = classify(&b, &t->trie);
    }
    if (!error)
        error = dp_draw_classes(&b, t);
    if (!error)
        error = copy_rules(&b, t);
    if (!error)
        dp_name_places(&b, &t->trie);
    if (!error && family == 4)
        dp_trie_widen(&t->trie);
    release_build(&b);
    if (error)
        dp_rule_table_free(t);
    else
        *table = t;
    return error;
}
