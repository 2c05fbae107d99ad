/*
 * rule_subset.h: a table of some rules out of many, with the prefixes and selectors of these alone: what it takes to
 * make follows from them, not from all that there are.
 */
#ifndef DP_RULE_SUBSET_H
#define DP_RULE_SUBSET_H

#include "classifier.h"

#include <stdbool.h>

/* Whether all that a rule refers to is there. */
bool dp_rule_is_sound(const struct dp_rule_changes *changes, const struct dp_rule *rule);
/*
 * The table of `n` rules, which refer to what `changes` has; afterwards they no longer do. `room` is how many rules,
 * prefixes and selectors there may be, and loses those that there are. 0, DP_E_ARGUMENT where a rule is not sound,
 * DP_E_LIMIT without room, or what dp_rule_table_new says.
 */
int dp_rule_subset_table(const struct dp_rule_changes *changes, uint32_t family, struct dp_rule *rules, uint32_t n,
                         uint64_t *room, struct dp_rule_table **table);

#endif
