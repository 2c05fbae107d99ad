/*
 * classifier_draw.h: a table of classifier.h while it is built, and how its classes become words.
 *
 * classifier_build.c sorts the members, makes the classes and owns all of a build. A function that fails returns a
 * negative error code; what it has taken is released with the build and the table.
 */
#ifndef DP_CLASSIFIER_DRAW_H
#define DP_CLASSIFIER_DRAW_H

#include "classifier.h"

struct dp_table_member {
    struct dp_prefix prefix;
    uint32_t remote;
};

/*
 * A class while it is built: its set of remotes is `sets[set .. set + n)`.
 *
 * What look-ups go on with from its children is its JOINT: its rules together with those of its parent's joint, as long
 * as that is small. So deep nesting costs a search for each few levels, not for each.
 */
struct dp_class_draft {
    uint32_t set;
    uint32_t n;
    uint32_t parent;
    uint32_t hash;
    uint32_t place; /* among the table's words */
    uint32_t joint; /* likewise */
    uint32_t outer; /* the draft whose joint follows this joint, DP_NO_DRAFT for none */
    uint32_t size;  /* rules and selectors of the joint */
    uint32_t best;  /* the best rule of this class and all its ancestors */
    bool is_parent;
    bool joins; /* its parent's joint */
};
#define DP_NO_DRAFT 0xffffffffu

struct dp_table_build {
    uint32_t family;
    const struct dp_rule *rules;
    uint32_t n_rules;
    const struct dp_selector *selectors;
    struct dp_table_member *members;
    uint32_t n_members;
    uint32_t *sets;
    uint32_t n_sets;
    struct dp_class_draft *drafts;
    uint32_t n_drafts;
    uint32_t *index; /* open addressing: draft + 1 */
    uint32_t index_mask;
    uint32_t *by_remote; /* rule positions grouped by remote; group r is [remote_at[r], remote_at[r + 1]) */
    uint32_t *remote_at;
    uint32_t n_remotes;
    /* scratch of one class's painting */
    uint32_t *positions;
    uint32_t *bounds;
    uint32_t *painted;
    uint32_t *skip;
    size_t word_room;
};

/* Writes all classes and joints as words of the table. DP_E_MEMORY, DP_E_LIMIT. */
int dp_draw_classes(struct dp_table_build *b, struct dp_rule_table *table);

/* From now on the trie's leaves name places, no longer drafts. */
void dp_name_places(const struct dp_table_build *b, struct dp_trie *trie);

#endif
