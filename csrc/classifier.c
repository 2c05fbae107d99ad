/*
 * classifier.c: the table of classifier.h: look-ups, its size and its end. classifier_build.c builds it.
 */
#include "classifier.h"

#include <stdlib.h>

static void free_patch(struct dp_rule_patch *patch)
{
    dp_rule_table_free(patch->added);
    dp_rule_table_free(patch->successor);
    dp_rule_table_free(patch->base);
    free(patch->removed);
    free(patch->successor_at);
    free(patch->before);
    free(patch);
}

void dp_rule_table_free(struct dp_rule_table *table)
{
    if (!table || --table->references)
        return;
    if (table->patch) {
        free_patch(table->patch);
        free(table);
        return;
    }
    dp_trie_release(&table->trie);
    free(table->classes);
    free(table->rule_number);
    free(table->rule_action);
    free(table);
}

uint64_t dp_rule_table_size(const struct dp_rule_table *table)
{
    uint64_t size = sizeof *table + ((uint64_t)table->n_words + DP_STARTS) * sizeof *table->classes +
                    (uint64_t)table->n_rules * 5 + dp_trie_size(&table->trie);

    if (table->patch) {
        const struct dp_rule_table *part[] = {table->patch->added, table->patch->successor};

        size += sizeof *table + sizeof *table->patch + table->n_rules / 64 * 8 + 8;
        for (int i = 0; i < 2; i++)
            size += part[i] ? dp_rule_table_size(part[i]) + part[i]->n_rules * 4ull : 0;
    }
    return size;
}

uint32_t dp_rule_table_lookup(const struct dp_rule_table *table, const uint8_t *remote, uint32_t selector,
                              uint32_t *action)
{
    uint32_t found = dp_rule_table_find(table, remote, selector);

    *action = found == DP_NO_MATCH ? DP_DENY : dp_rule_table_action(table, found);
    return found == DP_NO_MATCH ? 0 : dp_rule_table_number(table, found);
}
