/*
 * classifier.c: builds the table of classifier.h.
 *
 * The build goes in the order in which its head tells the structure: (1) every prefix of every remote, sorted by length
 * and address, so that equal ones stand together; (2) each distinct prefix gets the set of its remotes, and with the
 * trie built so far (only shorter prefixes are in it) its parent class; the pair is interned; (3) each class paints its
 * rules, best first, over the boundaries of their selectors, skipping what is painted already by a union-find, and is
 * written as words, whose place the trie's leaves name from then on.
 * A `struct build` owns what is only needed while building.
 */
#include "classifier.h"

#include "prefix.h"

#include <stdlib.h>
#include <string.h>

struct member {
    struct dp_prefix prefix;
    uint32_t remote;
};

/*
 * A class while it is built: its set of remotes is `sets[set .. set + n)`.
 *
 * What look-ups go on with from its children is its JOINT: its rules together with those of its parent's joint, as long
 * as that is small. So deep nesting costs a search for each few levels, not for each.
 */
struct draft {
    uint32_t set;
    uint32_t n;
    uint32_t parent;
    uint32_t hash;
    uint32_t place; /* among the table's words */
    uint32_t joint; /* likewise */
    uint32_t outer; /* the draft whose joint follows this joint, NO_DRAFT for none */
    uint32_t size;  /* rules and selectors of the joint */
    uint32_t best;  /* the best rule of this class and all its ancestors */
    bool is_parent;
    bool joins; /* its parent's joint */
};
#define NO_DRAFT 0xffffffffu
/* Rules and selectors of a joint of several classes. */
enum { JOINT_MOST = 40 };

struct build {
    uint32_t family;
    const struct dp_rule *rules;
    uint32_t n_rules;
    const struct dp_selector *selectors;
    struct member *members;
    uint32_t n_members;
    uint32_t *sets;
    uint32_t n_sets;
    struct draft *drafts;
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

static int by_length_then_address(const void *a, const void *b)
{
    const struct member *x = a, *y = b;
    int order = dp_prefix_order(&x->prefix, &y->prefix);

    if (order)
        return order;
    return (x->remote > y->remote) - (x->remote < y->remote);
}

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

/* ---- 1. members and rules by remote ---- */

static int collect(struct build *b, const struct dp_remote *remotes, const struct dp_prefix *prefixes,
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

static int group_rules(struct build *b)
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
static uint32_t intern(struct build *b, uint32_t n, uint32_t parent)
{
    uint32_t hash = hash_set(b->sets + b->n_sets, n, parent);
    uint32_t at = hash & b->index_mask;

    for (; b->index[at]; at = (at + 1) & b->index_mask) {
        const struct draft *d = &b->drafts[b->index[at] - 1];

        if (d->hash == hash && d->n == n && d->parent == parent &&
            memcmp(b->sets + d->set, b->sets + b->n_sets, n * sizeof *b->sets) == 0)
            return b->index[at] - 1;
    }
    b->drafts[b->n_drafts] = (struct draft){.set = b->n_sets, .n = n, .parent = parent, .hash = hash};
    b->drafts[parent].is_parent = true;
    b->n_sets += n;
    b->index[at] = ++b->n_drafts;
    return b->n_drafts - 1;
}

static int classify(struct build *b, struct dp_trie *trie)
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
    b->drafts[0] = (struct draft){0};
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

/* ---- 3. intervals ---- */

static int reserve_words(struct build *b, struct dp_rule_table *table, size_t more)
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
static uint32_t gather_bounds(struct build *b, uint32_t n_positions)
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
static void paint(struct build *b, uint32_t n, uint32_t n_positions)
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
static int draw(struct build *b, struct dp_rule_table *table, uint32_t outer, uint32_t n_positions)
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
    class[DP_CLASS_NEXT] = outer == NO_DRAFT ? 0 : b->drafts[outer].joint;
    class[DP_CLASS_FURTHER] = outer == NO_DRAFT ? DP_NO_MATCH : b->drafts[outer].best;
    memcpy(class + DP_CLASS_STARTS, b->bounds + 1, (intervals - 1) * sizeof *class);
    memcpy(class + DP_CLASS_STARTS + intervals - 1, b->painted, intervals * sizeof *class);
    table->n_words += DP_CLASS_STARTS + 2 * intervals - 1;
    memset(table->classes + table->n_words, 0, DP_STARTS * sizeof *class);
    return 0;
}

/* Adds the positions of a draft's own rules to the `n` there are; returns how many there are then. */
static uint32_t gather_rules(struct build *b, const struct draft *draft, uint32_t n)
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
static void measure_draft(const struct build *b, uint32_t d, uint64_t *rules, uint64_t *selectors, uint32_t *best)
{
    const struct draft *draft = &b->drafts[d];

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
static int plan_joints(struct build *b)
{
    uint64_t most_rules = JOINT_MOST, most_selectors = JOINT_MOST;

    for (uint32_t d = 0; d < b->n_drafts; d++) {
        struct draft *draft = &b->drafts[d];
        const struct draft *parent = &b->drafts[draft->parent];
        uint64_t rules, selectors;

        measure_draft(b, d, &rules, &selectors, &draft->best);
        if (rules > most_rules)
            most_rules = rules;
        if (selectors > most_selectors)
            most_selectors = selectors;
        draft->size = rules + selectors > JOINT_MOST ? JOINT_MOST + 1 : (uint32_t)(rules + selectors);
        draft->outer = NO_DRAFT;
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

static int draw_classes(struct build *b, struct dp_rule_table *table)
{
    int error = plan_joints(b);
    uint32_t *words;

    table->n_classes = b->n_drafts;
    for (uint32_t d = 0; d < b->n_drafts && !error; d++) {
        struct draft *draft = &b->drafts[d];

        draft->place = draft->joint = table->n_words;
        error = draw(b, table, d ? draft->parent : NO_DRAFT, gather_rules(b, draft, 0));
        if (draft->joins && !error) {
            const struct draft *joined = draft;
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

/* From now on the trie's leaves name places, no longer drafts. */
static void name_places(const struct build *b, struct dp_trie *trie)
{
    if (!(trie->root & DP_TRIE_NODE))
        trie->root = b->drafts[trie->root].place;
    for (uint32_t i = 0; i < trie->n_nodes; i++)
        for (uint32_t s = 0; s < 16; s++)
            if (!(trie->nodes[i].slot[s] & DP_TRIE_NODE))
                trie->nodes[i].slot[s] = b->drafts[trie->nodes[i].slot[s]].place;
}

/* ---- the table ---- */

static int check_selectors(const struct build *b, uint32_t n_selectors)
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

static int copy_rules(const struct build *b, struct dp_rule_table *table)
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

static void release_build(struct build *b)
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
    struct build b = {
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
        error = draw_classes(&b, t);
    if (!error)
        error = copy_rules(&b, t);
    if (!error)
        name_places(&b, &t->trie);
    if (!error && family == 4)
        dp_trie_widen(&t->trie);
    release_build(&b);
    if (error)
        dp_rule_table_free(t);
    else
        *table = t;
    return error;
}

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
