/* rule_subset.c: rule_subset.h in code. */
#include "rule_subset.h"

#include <stdlib.h>
#include <string.h>

bool dp_rule_is_sound(const struct dp_rule_changes *c, const struct dp_rule *rule)
{
    if (rule->first_selector > c->n_selectors || rule->selectors > c->n_selectors - rule->first_selector)
        return false;
    if (rule->remote == DP_REMOTE_ANY)
        return true;
    return rule->remote >= 0 && (uint32_t)rule->remote < c->n_remotes &&
           c->remotes[rule->remote].first <= c->n_prefixes &&
           c->remotes[rule->remote].count <= c->n_prefixes - c->remotes[rule->remote].first;
}

static int by_value(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;

    return (x > y) - (x < y);
}

/* Some rules, with the prefixes and selectors of these alone. */
struct subset {
    struct dp_rule *rules;
    int32_t *named; /* remotes among all, each once, in their order */
    struct dp_remote *remotes;
    struct dp_prefix *prefixes;
    struct dp_selector *selectors;
    uint32_t n_rules, n_remotes, n_prefixes, n_selectors;
};

static void release(struct subset *subset)
{
    free(subset->named);
    free(subset->remotes);
    free(subset->prefixes);
    free(subset->selectors);
}

/* Which remotes the rules of a subset name, and how much room all takes. */
static int measure(const struct dp_rule_changes *c, struct subset *subset, uint64_t *room)
{
    uint64_t prefixes = 0, selectors = 0;
    uint32_t named = 0;

    subset->named = malloc(((size_t)subset->n_rules + 1) * sizeof *subset->named);
    if (!subset->named)
        return DP_E_MEMORY;
    for (uint32_t i = 0; i < subset->n_rules; i++) {
        if (!dp_rule_is_sound(c, &subset->rules[i]))
            return DP_E_ARGUMENT;
        selectors += subset->rules[i].selectors;
        if (subset->rules[i].remote != DP_REMOTE_ANY)
            subset->named[named++] = subset->rules[i].remote;
    }
    qsort(subset->named, named, sizeof *subset->named, by_value);
    for (uint32_t i = 0; i < named; i++)
        if (subset->n_remotes == 0 || subset->named[subset->n_remotes - 1] != subset->named[i]) {
            prefixes += c->remotes[subset->named[i]].count;
            subset->named[subset->n_remotes++] = subset->named[i];
        }
    if (subset->n_rules + prefixes + selectors > *room)
        return DP_E_LIMIT;
    *room -= subset->n_rules + prefixes + selectors;
    subset->remotes = malloc(((size_t)subset->n_remotes + 1) * sizeof *subset->remotes);
    subset->prefixes = malloc((prefixes + 1) * sizeof *subset->prefixes);
    subset->selectors = malloc((selectors + 1) * sizeof *subset->selectors);
    return subset->remotes && subset->prefixes && subset->selectors ? 0 : DP_E_MEMORY;
}

/* From now on the rules refer to what is the subset's own. */
static void copy(const struct dp_rule_changes *c, struct subset *subset)
{
    for (uint32_t i = 0; i < subset->n_remotes; i++) {
        const struct dp_remote *remote = &c->remotes[subset->named[i]];

        subset->remotes[i] = (struct dp_remote){subset->n_prefixes, remote->count};
        memcpy(subset->prefixes + subset->n_prefixes, c->prefixes + remote->first,
               remote->count * sizeof *subset->prefixes);
        subset->n_prefixes += remote->count;
    }
    for (uint32_t i = 0; i < subset->n_rules; i++) {
        struct dp_rule *rule = &subset->rules[i];

        if (rule->remote != DP_REMOTE_ANY) {
            const int32_t *at =
                bsearch(&rule->remote, subset->named, subset->n_remotes, sizeof *subset->named, by_value);

            rule->remote = (int32_t)(at - subset->named);
        }
        for (uint32_t s = 0; s < rule->selectors; s++)
            subset->selectors[subset->n_selectors + s] = c->selectors[rule->first_selector + s];
        rule->first_selector = subset->n_selectors;
        subset->n_selectors += rule->selectors;
    }
}

int dp_rule_subset_table(const struct dp_rule_changes *changes, uint32_t family, struct dp_rule *rules, uint32_t n,
                         uint64_t *room, struct dp_rule_table **table)
{
    struct subset subset = {.rules = rules, .n_rules = n};
    int error = measure(changes, &subset, room);

    if (!error) {
        copy(changes, &subset);
        error = dp_rule_table_new(family, rules, n, subset.remotes, subset.n_remotes, subset.prefixes,
                                  subset.n_prefixes, subset.selectors, subset.n_selectors, table);
    }
    release(&subset);
    return error;
}
