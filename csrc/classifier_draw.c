/*
 * classifier_draw.c: writes the classes of a table that is built as the words of classifier.h.
 *
 * Each class paints its rules, best first, over the boundaries of their selectors, skipping what is painted already by
 * a union-find, and is written as words, whose place the trie's leaves name from then on. Which classes share a joint
 * is planned before that.
 */
#include "classifier_draw.h"

#include <stdlib.h>
#include <string.h>

/* Rules and selectors of a joint of several classes. */
enum { JOINT_MOST = 40 };

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

/* Most classes have few rules: for these the library's function is slow. */
static void sort(uint32_t *values, uint32_t n)
{
    enum { FEW = 96 };

    if (n > FEW) {
        qsort(values, n, sizeof *values, by_value);
        return;
    }
    for (uint32_t i = 1; i < n; i++) {
        uint32_t value = values[i], at = i;

        for (; at > 0 && values[at - 1] > value; at--)
            values[at] = values[at - 1];
        values[at] = value;
    }
}

static int reserve_words(struct dp_table_build *b, struct dp_rule_table *table, size_t more)
{
    size_t need = table->n_words + more, room = b->word_room ? b->word_room : 64;
    uint32_t *words;

    if (need <= b->word_room)
        return 0;
    if (need > DP_TRIE_VALUE_MAX)
        return DP_E_LIMIT;
    while (room < need)
        room *= 2;
    words = realloc(table->classes, room * sizeof *words);
    if (!words)
        return DP_E_MEMORY;
    table->classes = words;
    b->word_room = room;
    return 0;
}

static uint32_t unpainted(uint32_t *skip, uint32_t i)
{
    while (skip[i] != i) {
        skip[i] = skip[skip[i]];
        i = skip[i];
    }
    return i;
}

static uint32_t bound_at(const uint32_t *bounds, uint32_t n, uint32_t value)
{
    uint32_t low = 0;

    while (n > 1) {
        uint32_t half = n / 2;

        low += bounds[low + half] <= value ? half : 0;
        n -= half;
    }
    return low;
}

/* The sorted, distinct bounds of all selectors of the rules at `positions`; 0 and the end are among them. */
static uint32_t gather_bounds(struct dp_table_build *b, uint32_t n_positions)
{
    uint32_t n = 0, kept = 0;

    b->bounds[n++] = 0;
    b->bounds[n++] = DP_SELECTOR_MAX + 1;
    for (uint32_t i = 0; i < n_positions; i++) {
        const struct dp_rule *rule = &b->rules[b->positions[i]];

        for (uint32_t s = 0; s < rule->selectors; s++) {
            b->bounds[n++] = b->selectors[rule->first_selector + s].low;
            b->bounds[n++] = b->selectors[rule->first_selector + s].high + 1;
        }
    }
    sort(b->bounds, n);
    for (uint32_t i = 0; i < n; i++)
        if (kept == 0 || b->bounds[kept - 1] != b->bounds[i])
            b->bounds[kept++] = b->bounds[i];
    return kept;
}

/* Paints the rules at `positions` (in order), best first, over their bounds. */
static void paint(struct dp_table_build *b, uint32_t n, uint32_t n_positions)
{
    for (uint32_t i = 0; i <= n; i++) {
        b->painted[i] = DP_NO_MATCH;
        b->skip[i] = i;
    }
    for (uint32_t p = 0; p < n_positions; p++) {
        const struct dp_rule *rule = &b->rules[b->positions[p]];

        for (uint32_t s = 0; s < rule->selectors; s++) {
            const struct dp_selector *range = &b->selectors[rule->first_selector + s];
            uint32_t end = bound_at(b->bounds, n + 1, range->high + 1);

            for (uint32_t i = unpainted(b->skip, bound_at(b->bounds, n + 1, range->low)); i < end;
                 i = unpainted(b->skip, i)) {
                b->painted[i] = b->positions[p];
                b->skip[i] = i + 1;
            }
        }
    }
}

/* Draws the rules at `positions` as the next words of the table; what follows is the joint of `outer`. */
static int draw(struct dp_table_build *b, struct dp_rule_table *table, uint32_t outer, uint32_t n_positions)
{
    uint32_t n, intervals = 0, *class;
    int error;

    sort(b->positions, n_positions);
    n = gather_bounds(b, n_positions) - 1;
    error = reserve_words(b, table, DP_CLASS_STARTS + 2 * (size_t)n + DP_STARTS);
    if (error)
        return error;
    paint(b, n, n_positions);
    for (uint32_t i = 0; i < n; i++) {
        if (i > 0 && b->painted[i] == b->painted[intervals - 1])
            continue;
        b->bounds[intervals] = b->bounds[i];
        b->painted[intervals++] = b->painted[i];
    }
    class = table->classes + table->n_words;
    class[DP_CLASS_MORE] = intervals - 1;
    class[DP_CLASS_NEXT] = outer == DP_NO_DRAFT ? 0 : b->drafts[outer].joint;
    class[DP_CLASS_FURTHER] = outer == DP_NO_DRAFT ? DP_NO_MATCH : b->drafts[outer].best;
    memcpy(class + DP_CLASS_STARTS, b->bounds + 1, (intervals - 1) * sizeof *class);
    memcpy(class + DP_CLASS_STARTS + intervals - 1, b->painted, intervals * sizeof *class);
    table->n_words += DP_CLASS_STARTS + 2 * intervals - 1;
    memset(table->classes + table->n_words, 0, DP_STARTS * sizeof *class);
    return 0;
}

/* Adds the positions of a draft's own rules to the `n` there are; returns how many there are then. */
static uint32_t gather_rules(struct dp_table_build *b, const struct dp_class_draft *draft, uint32_t n)
{
    bool root = draft == b->drafts;

    for (uint32_t s = 0; s < (root ? 1 : draft->n); s++) {
        uint32_t remote = root ? b->n_remotes : b->sets[draft->set + s];
        uint32_t count = b->remote_at[remote + 1] - b->remote_at[remote];

        memcpy(b->positions + n, b->by_remote + b->remote_at[remote], count * sizeof *b->positions);
        n += count;
    }
    return n;
}

/* The rules of a draft, and the selectors of these. */
static void measure_draft(const struct dp_table_build *b, uint32_t d, uint64_t *rules, uint64_t *selectors,
                          uint32_t *best)
{
    const struct dp_class_draft *draft = &b->drafts[d];

    *rules = *selectors = 0;
    *best = DP_NO_MATCH;
    for (uint32_t s = 0; s < (d ? draft->n : 1); s++) {
        uint32_t remote = d ? b->sets[draft->set + s] : b->n_remotes;

        for (uint32_t i = b->remote_at[remote]; i < b->remote_at[remote + 1]; i++) {
            ++*rules;
            *selectors += b->rules[b->by_remote[i]].selectors;
            if (b->rules[b->by_remote[i]].selectors && b->by_remote[i] < *best)
                *best = b->by_remote[i];
        }
    }
}

/* What each joint holds, a parent's before its children's; and room for the scratch of the largest class or joint. */
static int plan_joints(struct dp_table_build *b)
{
    uint64_t most_rules = JOINT_MOST, most_selectors = JOINT_MOST;

    for (uint32_t d = 0; d < b->n_drafts; d++) {
        struct dp_class_draft *draft = &b->drafts[d];
        const struct dp_class_draft *parent = &b->drafts[draft->parent];
        uint64_t rules, selectors;

        measure_draft(b, d, &rules, &selectors, &draft->best);
        if (rules > most_rules)
            most_rules = rules;
        if (selectors > most_selectors)
            most_selectors = selectors;
        draft->size = rules + selectors > JOINT_MOST ? JOINT_MOST + 1 : (uint32_t)(rules + selectors);
        draft->outer = DP_NO_DRAFT;
        if (d == 0)
            continue;
        if (parent->best < draft->best)
            draft->best = parent->best;
        if (draft->is_parent && parent->best != DP_NO_MATCH && draft->size + parent->size <= JOINT_MOST) {
            draft->size += parent->size;
            draft->outer = parent->outer;
            draft->joins = true;
        } else {
            draft->outer = draft->parent;
        }
    }
    b->positions = malloc((most_rules + 1) * sizeof *b->positions);
    b->bounds = malloc((most_selectors * 2 + 2) * sizeof *b->bounds);
    b->painted = malloc((most_selectors * 2 + 2) * sizeof *b->painted);
    b->skip = malloc((most_selectors * 2 + 2) * sizeof *b->skip);
    return b->positions && b->bounds && b->painted && b->skip ? 0 : DP_E_MEMORY;
}

int dp_draw_classes(struct dp_table_build *b, struct dp_rule_table *table)
{
    int error = plan_joints(b);
    uint32_t *words;

    table->n_classes = b->n_drafts;
    for (uint32_t d = 0; d < b->n_drafts && !error; d++) {
        struct dp_class_draft *draft = &b->drafts[d];

        draft->place = draft->joint = table->n_words;
        error = draw(b, table, d ? draft->parent : DP_NO_DRAFT, gather_rules(b, draft, 0));
        if (draft->joins && !error) {
            const struct dp_class_draft *joined = draft;
            uint32_t n = gather_rules(b, draft, 0);

            do {
                joined = &b->drafts[joined->parent];
                n = gather_rules(b, joined, n);
            } while (joined->joins);
            draft->joint = table->n_words;
            error = draw(b, table, draft->outer, n);
        }
    }
    if (error)
        return error;
    words = realloc(table->classes, ((size_t)table->n_words + DP_STARTS) * sizeof *words);
    if (words)
        table->classes = words;
    return 0;
}

void dp_name_places(const struct dp_table_build *b, struct dp_trie *trie)
{
    if (!(trie->root & DP_TRIE_NODE))
        trie->root = b->drafts[trie->root].place;
    for (uint32_t i = 0; i < trie->n_nodes; i++)
        for (uint32_t s = 0; s < 16; s++)
            if (!(trie->nodes[i].slot[s] & DP_TRIE_NODE))
                trie->nodes[i].slot[s] = b->drafts[trie->nodes[i].slot[s]].place;
}
