/* classifier_burst.c: many questions for one table of classifier.h at once. */
#include "classifier.h"

_Static_assert(DP_LOOKUPS_MAX == 32 && (int)DP_TRIE_LOOKUPS_MAX == (int)DP_LOOKUPS_MAX, "dp_tables.h names it");

/*
 * Each round asks one class for every question that is still open, whose words the round before has asked memory for;
 * nine in ten of ClassBench's are answered by the first.
 */
static void find_first_many(const struct dp_rule_table *table, const uint8_t *const *remotes, const uint32_t *selectors,
                            uint32_t n, uint32_t *found)
{
    uint32_t place[DP_LOOKUPS_MAX], open = 0;
    uint8_t which[DP_LOOKUPS_MAX];

    if (table->family == 4)
        dp_trie_lookup4_many(&table->trie, remotes, n, place);
    else
        for (uint32_t k = 0; k < n; k++)
            place[k] = dp_trie_lookup(&table->trie, remotes[k]);
    for (uint32_t k = 0; k < n; k++)
        __builtin_prefetch(&table->classes[place[k]]);
    for (uint32_t k = 0; k < n; k++) {
        const uint32_t *class = table->classes + place[k];

        found[k] = dp_class_find(class, selectors[k]);
        place[k] = class[DP_CLASS_NEXT];
        which[open] = (uint8_t)k;
        open += class[DP_CLASS_FURTHER] < found[k];
    }
    while (open) {
        uint32_t asked = open;

        open = 0;
        for (uint32_t i = 0; i < asked; i++)
            __builtin_prefetch(&table->classes[place[which[i]]]);
        for (uint32_t i = 0; i < asked; i++) {
            const uint32_t k = which[i], *class = table->classes + place[k];
            uint32_t best = dp_class_find(class, selectors[k]);

            found[k] = best < found[k] ? best : found[k];
            place[k] = class[DP_CLASS_NEXT];
            which[open] = (uint8_t)k;
            open += class[DP_CLASS_FURTHER] < found[k];
        }
    }
}

void dp_rule_table_find_many(const struct dp_rule_table *table, const uint8_t *const *remotes,
                             const uint32_t *selectors, uint32_t n, uint32_t *found)
{
    const struct dp_rule_patch *patch = table->patch;

    find_first_many(table, remotes, selectors, n, found);
    if (!patch)
        return;
    for (uint32_t k = 0; k < n; k++)
        found[k] = dp_rule_patch_in_base(patch, remotes[k], selectors[k], found[k]);
    if (patch->added) {
        uint32_t added[DP_LOOKUPS_MAX];

        find_first_many(patch->added, remotes, selectors, n, added);
        for (uint32_t k = 0; k < n; k++)
            found[k] = dp_rule_patch_earlier(patch, found[k], added[k]);
    }
}
