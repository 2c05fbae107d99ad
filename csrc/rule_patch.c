/*
 * rule_patch.c: makes the patches of classifier.h, in a small part of the time that a large table takes to be made
 * anew.
 *
 * What a patch has of the base's rules are SUCCESSORS of the removed ones. Where the base finds a removed rule, that is
 * the first of all that match; the first that counts stands behind it, and since it matches the same packet, its remote
 * and selectors meet those of the removed one. So the successors of a rule are those behind it that it meets, as far as
 * the first that covers it whole: where that one is removed too, its own successors go on behind it. They are found by
 * one walk over the rules, in which nearly all are told apart by comparing one prefix; rules that do not meet may be
 * among them, none that does is missing. A patch that follows another takes its successors over, and adds those of the
 * rules that were removed since.
 *
 * What is not worth it is told: where the walks or the small tables come to a part of what the table is made from.
 */
#include "classifier.h"
#include "prefix.h"
#include "rule_subset.h"

#include <stdlib.h>
#include <string.h>

/* A walk costs per rule or prefix a twentieth of what making a table does. */
enum { WALKS_MOST = 4 };
/* Rules and prefixes of the small tables: so many, or this part of the base's. */
enum { SMALL_MOST = 1024, PART = 8 };
/* Prefixes of a removed rule that are compared one by one with those of what may be a successor. */
enum { EXACT_MOST = 32 };

/* The addresses that begin with the first `bits` of these words, as the prefix has them. */
struct region {
    uint64_t high;
    uint64_t low;
    uint32_t bits;
};

enum meeting { UNKNOWN, APART, MEETING };

struct patching {
    const struct dp_rule_changes *changes;
    uint32_t family;
    uint64_t *removed;
    uint64_t *wanted; /* by position: a bit for each successor */
    uint8_t *meeting; /* of each remote with the region looked at */
    uint64_t work;    /* that is left */
    uint64_t room;    /* of the small tables, likewise */
};

static uint32_t words_of(uint32_t bits)
{
    return bits / 64 + 1;
}

static bool has(const uint64_t *bits, uint32_t at)
{
    return bits[at / 64] >> at % 64 & 1;
}

static void add(uint64_t *bits, uint32_t at)
{
    bits[at / 64] |= 1ull << at % 64;
}

/* ---- what meets what ---- */

static uint64_t word_at(const uint8_t *address)
{
    uint64_t word;

    memcpy(&word, address, sizeof word);
    return __builtin_bswap64(word);
}

static bool meets(const struct dp_prefix *prefix, const struct region *region)
{
    uint32_t bits = prefix->bits < region->bits ? prefix->bits : region->bits;
    uint64_t high = word_at(prefix->address) ^ region->high;

    if (bits <= 64)
        return bits == 0 || high >> (64 - bits) == 0;
    return high == 0 && (word_at(prefix->address + 8) ^ region->low) >> (128 - bits) == 0;
}

/* The least region around a set of prefixes. */
static struct region around(const struct dp_prefix *prefixes, uint32_t n)
{
    uint32_t bits = dp_prefixes_common_bits(prefixes, n);

    return bits ? (struct region){word_at(prefixes->address), word_at(prefixes->address + 8), bits}
                : (struct region){0};
}

/* Whether the remote of a rule meets a region; that of a large set is remembered. */
static bool remote_meets(struct patching *p, const struct dp_rule *rule, const struct region *region)
{
    const struct dp_remote *remote;
    const struct dp_prefix *prefixes = p->changes->prefixes;

    if (rule->remote == DP_REMOTE_ANY)
        return true;
    remote = &p->changes->remotes[rule->remote];
    if (remote->count == 1)
        return meets(&prefixes[remote->first], region);
    if (p->meeting[rule->remote] == UNKNOWN) {
        bool met = false;

        for (uint32_t i = 0; i < remote->count && !met; i++) {
            met = meets(&prefixes[remote->first + i], region);
            p->work -= p->work > 0;
        }
        p->meeting[rule->remote] = met ? MEETING : APART;
    }
    return p->meeting[rule->remote] == MEETING;
}

static bool selectors_meet(const struct dp_rule_changes *c, const struct dp_rule *a, const struct dp_rule *b)
{
    for (uint32_t i = 0; i < a->selectors; i++)
        for (uint32_t k = 0; k < b->selectors; k++) {
            const struct dp_selector *x = &c->selectors[a->first_selector + i];
            const struct dp_selector *y = &c->selectors[b->first_selector + k];

            if (x->low <= y->high && y->low <= x->high)
                return true;
        }
    return false;
}

/* Whether two sets of prefixes meet; yes, unless it is worth comparing all. */
static bool sets_meet(struct patching *p, const struct dp_rule *removed, const struct dp_rule *rule)
{
    const struct dp_rule_changes *c = p->changes;
    const struct dp_remote *a, *b;

    if (removed->remote == DP_REMOTE_ANY || rule->remote == DP_REMOTE_ANY)
        return true;
    a = &c->remotes[removed->remote];
    b = &c->remotes[rule->remote];
    if (a->count == 1 || a->count > EXACT_MOST)
        return true;
    for (uint32_t i = 0; i < a->count; i++) {
        struct region one = around(&c->prefixes[a->first + i], 1);

        p->work -= p->work < b->count ? p->work : b->count;
        for (uint32_t k = 0; k < b->count; k++)
            if (meets(&c->prefixes[b->first + k], &one))
                return true;
    }
    return false;
}

/* Whether a rule, whose remote meets the region, matches all that the removed one did. */
static bool covers(const struct dp_rule_changes *c, const struct dp_rule *rule, const struct region *region,
                   const struct dp_rule *removed)
{
    if (rule->remote != DP_REMOTE_ANY) {
        const struct dp_remote *remote = &c->remotes[rule->remote];

        if (remote->count != 1 || c->prefixes[remote->first].bits > region->bits)
            return false;
    }
    for (uint32_t i = 0; i < removed->selectors; i++) {
        const struct dp_selector *wanted = &c->selectors[removed->first_selector + i];
        bool within = false;

        for (uint32_t k = 0; k < rule->selectors && !within; k++) {
            const struct dp_selector *range = &c->selectors[rule->first_selector + k];

            within = range->low <= wanted->low && wanted->high <= range->high;
        }
        if (!within)
            return false;
    }
    return true;
}

/* ---- successors ---- */

static int want_successors(struct patching *p, uint32_t position)
{
    const struct dp_rule_changes *c = p->changes;
    const struct dp_rule *removed = &c->rules[position];
    struct region region = {0};

    if (!dp_rule_is_sound(c, removed))
        return DP_E_ARGUMENT;
    if (removed->remote != DP_REMOTE_ANY) {
        const struct dp_remote *remote = &c->remotes[removed->remote];

        if (remote->count == 0)
            return 0;
        region = around(&c->prefixes[remote->first], remote->count);
    }
    memset(p->meeting, UNKNOWN, c->n_remotes);
    for (uint32_t i = position + 1; i < c->n_rules; i++) {
        const struct dp_rule *rule = &c->rules[i];

        if (p->work == 0)
            return DP_E_LIMIT;
        p->work--;
        if (!dp_rule_is_sound(c, rule))
            return DP_E_ARGUMENT;
        if (!remote_meets(p, rule, &region) || !selectors_meet(c, removed, rule) || !sets_meet(p, removed, rule))
            continue;
        add(p->wanted, i);
        if (covers(c, rule, &region, removed))
            break;
    }
    return 0;
}

/* Which rules are removed now, and which ones may decide where they did. */
static int find_successors(struct patching *p, const struct dp_rule_patch *before)
{
    const struct dp_rule_changes *c = p->changes;
    int error = 0;

    for (uint32_t i = 0; i < c->n_removed; i++) {
        if (c->removed[i] >= c->n_rules)
            return DP_E_ARGUMENT;
        add(p->removed, c->removed[i]);
    }
    if (before) {
        for (uint32_t w = 0; w < words_of(c->n_rules); w++)
            if (before->removed[w] & ~p->removed[w])
                return DP_E_ARGUMENT;
        for (uint32_t i = 0; before->successor && i < before->successor->n_rules; i++)
            add(p->wanted, before->successor_at[i]);
    }
    for (uint32_t i = 0; i < c->n_removed && !error; i++)
        if (!before || !has(before->removed, c->removed[i]))
            error = want_successors(p, c->removed[i]);
    for (uint32_t w = 0; w < words_of(c->n_rules); w++)
        p->wanted[w] &= ~p->removed[w];
    return error;
}

/* ---- the small tables ---- */

static int make_successors(struct patching *p, struct dp_rule_patch *patch)
{
    const struct dp_rule_changes *c = p->changes;
    struct dp_rule *rules;
    uint32_t n = 0, have = 0;
    int error;

    for (uint32_t w = 0; w < words_of(c->n_rules); w++)
        for (uint64_t rest = p->wanted[w]; rest; rest &= rest - 1)
            n++;
    if (n == 0)
        return 0;
    if (n > p->room)
        return DP_E_LIMIT;
    rules = malloc(n * sizeof *rules);
    patch->successor_at = malloc(n * sizeof *patch->successor_at);
    if (!rules || !patch->successor_at) {
        error = DP_E_MEMORY;
    } else {
        for (uint32_t w = 0; w < words_of(c->n_rules); w++)
            for (uint64_t rest = p->wanted[w]; rest; rest &= rest - 1) {
                uint32_t position = w * 64 + (uint32_t)__builtin_ctzll(rest);

                patch->successor_at[have] = position;
                rules[have++] = c->rules[position];
            }
        error = dp_rule_subset_table(c, p->family, rules, n, &p->room, &patch->successor);
    }
    free(rules);
    return error;
}

static int make_added(struct patching *p, struct dp_rule_patch *patch)
{
    const struct dp_rule_changes *c = p->changes;
    struct dp_rule *rules;
    int error;

    if (c->n_added == 0)
        return 0;
    for (uint32_t i = 0; i < c->n_added; i++)
        if (c->before[i] > c->n_rules || (i > 0 && c->before[i] < c->before[i - 1]))
            return DP_E_ARGUMENT;
    rules = malloc(c->n_added * sizeof *rules);
    patch->before = malloc(c->n_added * sizeof *patch->before);
    if (!rules || !patch->before) {
        error = DP_E_MEMORY;
    } else {
        memcpy(rules, c->added, c->n_added * sizeof *rules);
        memcpy(patch->before, c->before, c->n_added * sizeof *patch->before);
        error = dp_rule_subset_table(c, p->family, rules, c->n_added, &p->room, &patch->added);
    }
    free(rules);
    return error;
}

/* ---- the patch ---- */

/* A table that shows what the base has, with a patch in which nothing is yet. */
static struct dp_rule_table *on_base(struct dp_rule_table *base)
{
    struct dp_rule_table *table = malloc(sizeof *table);
    struct dp_rule_patch *patch = calloc(1, sizeof *patch);

    if (!table || !patch) {
        free(table);
        free(patch);
        return NULL;
    }
    dp_rule_table_reference(base);
    patch->base = base;
    patch->removed = calloc(words_of(base->n_rules), sizeof *patch->removed);
    *table = (struct dp_rule_table){
        .references = 1,
        .family = base->family,
        .n_classes = base->n_classes,
        .n_words = base->n_words,
        .classes = base->classes,
        .patch = patch,
        .rule_number = base->rule_number,
        .rule_action = base->rule_action,
        .n_rules = base->n_rules,
        .largest_rule = base->largest_rule,
        .trie = base->trie,
    };
    return table;
}

static int fill(const struct dp_rule_table *before, const struct dp_rule_changes *changes, struct dp_rule_table *table)
{
    struct dp_rule_patch *patch = table->patch;
    const uint64_t whole = (uint64_t)changes->n_rules + changes->n_prefixes;
    struct patching p = {.changes = changes, .family = table->family, .removed = patch->removed};
    int error = DP_E_MEMORY;

    p.work = WALKS_MOST * whole + SMALL_MOST;
    p.room = whole / PART > SMALL_MOST ? whole / PART : SMALL_MOST;
    p.wanted = calloc(words_of(changes->n_rules), sizeof *p.wanted);
    p.meeting = malloc((size_t)changes->n_remotes + 1);
    if (p.wanted && p.meeting && p.removed)
        error = find_successors(&p, before->patch);
    if (!error)
        error = make_successors(&p, patch);
    if (!error)
        error = make_added(&p, patch);
    free(p.wanted);
    free(p.meeting);
    if (patch->added && patch->added->largest_rule > table->largest_rule)
        table->largest_rule = patch->added->largest_rule;
    return error;
}

int dp_rule_table_patch(const struct dp_rule_table *before, const struct dp_rule_changes *changes,
                        struct dp_rule_table **table)
{
    /* A reference is all that the base is asked for. */
    struct dp_rule_table *base = before->patch ? before->patch->base : (struct dp_rule_table *)before, *made;
    int error;

    *table = NULL;
    if (changes->n_rules != base->n_rules || changes->n_added > DP_TRIE_VALUE_MAX - base->n_rules)
        return DP_E_ARGUMENT;
    made = on_base(base);
    if (!made)
        return DP_E_MEMORY;
    error = fill(before, changes, made);
    if (error)
        dp_rule_table_free(made);
    else
        *table = made;
    return error;
}

uint32_t dp_rule_position(const uint32_t *numbers, uint32_t n, uint32_t number)
{
    uint32_t at = 0;

    while (at < n && numbers[at] != number)
        at++;
    return at;
}
