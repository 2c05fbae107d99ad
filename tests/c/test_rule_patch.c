/*
 * test_rule_patch.c: tables that are patches on others (classifier.h) against a plain walk over the rules of now
 * (SPEC 3.1, 5.1): rules are removed and added by chance, one patch after the other; every answer is that of a table
 * made anew, one by one and in bursts.
 */
#include "check.h"
#include "classifier.h"
#include "random_rules.h"

#include <stdlib.h>

enum { TABLES = 300, STEPS = 12, LOOKUPS = 150, ADDED_MAX = 40 };

/* The rules in the order in which they are tried; those of the base are told by their position there, others by -1. */
struct order {
    struct dp_rule rule[RULES_MAX + ADDED_MAX];
    int32_t position[RULES_MAX + ADDED_MAX];
    uint32_t n;
};

/* What a patch is told of an order. */
struct told {
    uint32_t removed[RULES_MAX];
    struct dp_rule added[RULES_MAX + ADDED_MAX];
    uint32_t before[RULES_MAX + ADDED_MAX];
    struct dp_rule_changes changes;
};

static void tell(const struct policy *p, const struct order *order, struct told *told)
{
    uint32_t next = 0, n_added = 0, n_removed = 0;

    for (uint32_t i = 0; i < order->n; i++) {
        if (order->position[i] < 0) {
            told->added[n_added++] = order->rule[i];
            continue;
        }
        for (; next < (uint32_t)order->position[i]; next++)
            told->removed[n_removed++] = next;
        next++;
    }
    for (; next < p->n_rules; next++)
        told->removed[n_removed++] = next;
    /* One may stand before any of the removed ones that follow it. */
    for (uint32_t i = 0, added = 0; i < order->n; i++) {
        uint32_t least = 0, most = p->n_rules;

        if (order->position[i] >= 0)
            continue;
        for (uint32_t k = 0; k < i; k++)
            least = order->position[k] >= 0 ? (uint32_t)order->position[k] + 1 : least;
        for (uint32_t k = order->n; k-- > i;)
            most = order->position[k] >= 0 ? (uint32_t)order->position[k] : most;
        if (added && told->before[added - 1] > least)
            least = told->before[added - 1];
        told->before[added++] = least + below(most - least + 1);
    }
    told->changes = (struct dp_rule_changes){
        p->rules,       p->remotes,    p->prefixes, p->selectors, p->n_rules, p->n_remotes, p->n_prefixes,
        p->n_selectors, told->removed, told->added, told->before, n_removed,  n_added,
    };
}

/* One rule comes, goes or is another one at its place. */
static void change(const struct policy *p, struct order *order, uint32_t number)
{
    uint32_t at = below(order->n + 1), kind = below(3);
    struct dp_rule rule = p->rules[below(p->n_rules)];

    rule.number = number;
    rule.action = below(2) ? DP_ALLOW : DP_DENY;
    if (kind == 0 || at == order->n) {
        if (order->n == RULES_MAX + ADDED_MAX)
            return;
        memmove(order->rule + at + 1, order->rule + at, (order->n - at) * sizeof *order->rule);
        memmove(order->position + at + 1, order->position + at, (order->n - at) * sizeof *order->position);
        order->n++;
    } else if (kind == 1) {
        order->n--;
        memmove(order->rule + at, order->rule + at + 1, (order->n - at) * sizeof *order->rule);
        memmove(order->position + at, order->position + at + 1, (order->n - at) * sizeof *order->position);
        return;
    }
    order->rule[at] = rule;
    order->position[at] = -1;
}

static const struct dp_rule *first_match(const struct policy *p, const struct order *order, const uint8_t *remote,
                                         uint32_t selector)
{
    for (uint32_t i = 0; i < order->n; i++)
        if (matches(p, &order->rule[i], remote, selector))
            return &order->rule[i];
    return NULL;
}

static bool answers_as(const struct policy *p, const struct order *order, const struct dp_rule_table *table)
{
    static const uint32_t protocols[] = {0, 1, 6, 17, 47, 255};
    static uint8_t address[LOOKUPS][16];
    uint32_t selector[LOOKUPS];

    for (uint32_t l = 0; l < LOOKUPS; l++) {
        const struct dp_rule *expected;
        uint32_t action;

        random_address(address[l], p->family);
        selector[l] = protocols[below(6)] << 16 | below(65);
        expected = first_match(p, order, address[l], selector[l]);
        if (!CHECK_EQUAL(dp_rule_table_lookup(table, address[l], selector[l], &action),
                         expected ? expected->number : 0) ||
            !CHECK_EQUAL(action, expected ? expected->action : (uint32_t)DP_DENY))
            return false;
    }
    for (uint32_t l = 0, n; l < LOOKUPS; l += n) {
        const uint8_t *remote[DP_LOOKUPS_MAX];
        uint32_t found[DP_LOOKUPS_MAX];

        n = 1 + below(DP_LOOKUPS_MAX);
        n = n > LOOKUPS - l ? LOOKUPS - l : n;
        for (uint32_t k = 0; k < n; k++)
            remote[k] = address[l + k];
        dp_rule_table_find_many(table, remote, selector + l, n, found);
        for (uint32_t k = 0; k < n; k++)
            if (!CHECK_EQUAL(found[k], dp_rule_table_find(table, address[l + k], selector[l + k])))
                return false;
    }
    return true;
}

static struct dp_rule_table *made_of(const struct policy *p)
{
    struct dp_rule_table *table;

    REQUIRE(dp_rule_table_new(p->family, p->rules, p->n_rules, p->remotes, p->n_remotes, p->prefixes, p->n_prefixes,
                              p->selectors, p->n_selectors, &table) == 0);
    return table;
}

/* Each patch stands on the base alone: the one before it may go. */
static void test_changes_against_a_walk(void)
{
    static struct policy p;
    static struct order order;
    static struct told told;
    uint32_t with_successors = 0;

    for (int t = 0; t < TABLES; t++) {
        struct dp_rule_table *table;

        do
            random_policy(&p);
        while (p.n_rules == 0);
        table = made_of(&p);
        order.n = p.n_rules;
        for (uint32_t i = 0; i < p.n_rules; i++) {
            order.rule[i] = p.rules[i];
            order.position[i] = (int32_t)i;
        }
        for (uint32_t s = 0; s < STEPS; s++) {
            struct dp_rule_table *before = table;

            for (uint32_t changes = 1 + below(2); changes; changes--)
                change(&p, &order, 2000 + s * 2 + changes);
            tell(&p, &order, &told);
            REQUIRE(dp_rule_table_patch(before, &told.changes, &table) == 0);
            dp_rule_table_free(before);
            with_successors += table->patch->successor != NULL;
            if (!answers_as(&p, &order, table))
                return;
            CHECK(dp_rule_table_size(table) > dp_rule_table_size(table->patch->base));
            CHECK(table->largest_rule >= table->patch->base->largest_rule);
        }
        dp_rule_table_free(table);
    }
    CHECK(with_successors > TABLES * STEPS / 2);
}

/* A rule that covers a removed one ends the walk for its successors; when it goes too, those behind it are looked at.
 */
static void test_a_covering_rule_goes_after_what_it_covered(void)
{
    struct dp_selector any = {0, DP_SELECTOR_MAX};
    struct dp_prefix prefixes[] = {{{10, 0, 0, 1}, 32}, {{10}, 8}, {{10, 0}, 16}};
    struct dp_remote sets[] = {{0, 1}, {1, 1}, {2, 1}};
    struct dp_rule rules[] = {{1, 0, 0, 1, DP_ALLOW}, {2, 1, 0, 1, DP_DENY}, {3, 2, 0, 1, DP_ALLOW}};
    uint32_t removed[] = {0, 1, 2};
    struct dp_rule_changes changes = {rules, sets, prefixes, &any, 3, 3, 3, 1, removed, NULL, NULL, 1, 0};
    struct dp_rule_table *base, *patched[3];
    const uint8_t host[] = {10, 0, 0, 1};
    uint32_t action;

    REQUIRE(dp_rule_table_new(4, rules, 3, sets, 3, prefixes, 3, &any, 1, &base) == 0);
    CHECK_EQUAL(dp_rule_table_lookup(base, host, 0, &action), 1);
    for (uint32_t i = 0; i < 3; i++) {
        changes.n_removed = i + 1;
        REQUIRE(dp_rule_table_patch(i ? patched[i - 1] : base, &changes, &patched[i]) == 0);
        CHECK_EQUAL(dp_rule_table_lookup(patched[i], host, 0, &action), i == 2 ? 0 : i + 2);
        CHECK_EQUAL(action, i == 1 ? DP_ALLOW : DP_DENY);
    }
    CHECK_EQUAL(patched[0]->patch->successor->n_rules, 1);
    CHECK(patched[2]->patch->successor == NULL);
    for (uint32_t i = 0; i < 3; i++)
        dp_rule_table_free(patched[i]);
    CHECK_EQUAL(base->references, 1);
    dp_rule_table_free(base);
}

/* Where many rules may decide instead, or many were removed, a table made anew is cheaper. */
static void test_what_is_not_worth_it(void)
{
    enum { RULES = 20000 };
    static struct dp_prefix prefixes[RULES];
    static struct dp_remote sets[RULES];
    static struct dp_rule rules[RULES];
    static uint32_t removed[RULES];
    const struct dp_selector any = {0, DP_SELECTOR_MAX};
    struct dp_rule_changes changes = {rules, sets, prefixes, &any, RULES, RULES, RULES, 1, removed, NULL, NULL, 1, 0};
    struct dp_rule_table *base, *table;

    for (uint32_t i = 0; i < RULES; i++) {
        prefixes[i] = (struct dp_prefix){{10, 0, (uint8_t)(i >> 8), (uint8_t)i}, 32};
        sets[i] = (struct dp_remote){i, 1};
        rules[i] = (struct dp_rule){i + 1, i ? (int32_t)i : DP_REMOTE_ANY, 0, 1, DP_ALLOW};
    }
    REQUIRE(dp_rule_table_new(4, rules, RULES, sets, RULES, prefixes, RULES, &any, 1, &base) == 0);
    CHECK_EQUAL(dp_rule_table_patch(base, &changes, &table), DP_E_LIMIT);
    CHECK(table == NULL);
    for (uint32_t i = 0; i < 20; i++)
        removed[i] = i + 1;
    CHECK_EQUAL(dp_rule_table_patch(base, &changes, &table), 0);
    CHECK(table && table->patch->successor == NULL);
    dp_rule_table_free(table);
    changes.n_removed = 20;
    CHECK_EQUAL(dp_rule_table_patch(base, &changes, &table), DP_E_LIMIT);
    dp_rule_table_free(base);
}

static void test_bad_arguments_are_refused(void)
{
    struct dp_selector any = {0, DP_SELECTOR_MAX};
    struct dp_rule rules[2] = {{1, DP_REMOTE_ANY, 0, 1, DP_ALLOW}, {2, DP_REMOTE_ANY, 0, 1, DP_DENY}};
    struct dp_rule stray[2] = {{3, 7, 0, 1, DP_ALLOW}, {4, DP_REMOTE_ANY, 1, 1, DP_ALLOW}};
    uint32_t first = 0, beyond = 2, falling[] = {1, 0}, behind = 3;
    const struct dp_rule_changes good = {rules, NULL, NULL, &any, 2, 0, 0, 1, &first, rules, &first, 1, 1};
    struct dp_rule_changes bad;
    struct dp_rule_table *base, *patched, *table;

    REQUIRE(dp_rule_table_new(4, rules, 2, NULL, 0, NULL, 0, &any, 1, &base) == 0);
    REQUIRE(dp_rule_table_patch(base, &good, &patched) == 0);
    bad = good, bad.n_rules = 1;
    CHECK_EQUAL(dp_rule_table_patch(base, &bad, &table), DP_E_ARGUMENT);
    bad = good, bad.removed = &beyond;
    CHECK_EQUAL(dp_rule_table_patch(base, &bad, &table), DP_E_ARGUMENT);
    bad = good, bad.before = &behind;
    CHECK_EQUAL(dp_rule_table_patch(base, &bad, &table), DP_E_ARGUMENT);
    bad = good, bad.before = falling, bad.n_added = 2;
    CHECK_EQUAL(dp_rule_table_patch(base, &bad, &table), DP_E_ARGUMENT);
    for (int i = 0; i < 2; i++) {
        bad = good, bad.added = &stray[i];
        CHECK_EQUAL(dp_rule_table_patch(base, &bad, &table), DP_E_ARGUMENT);
    }
    bad = good, bad.n_removed = 0;
    CHECK_EQUAL(dp_rule_table_patch(patched, &bad, &table), DP_E_ARGUMENT);
    CHECK(table == NULL);
    dp_rule_table_free(patched);
    dp_rule_table_free(base);
}

static void test_a_number_is_found(void)
{
    const uint32_t numbers[] = {7, 5, 9};

    CHECK_EQUAL(dp_rule_position(numbers, 3, 7), 0);
    CHECK_EQUAL(dp_rule_position(numbers, 3, 9), 2);
    CHECK_EQUAL(dp_rule_position(numbers, 2, 9), 2);
    CHECK_EQUAL(dp_rule_position(NULL, 0, 9), 0);
}

int main(void)
{
    RUN(test_changes_against_a_walk);
    RUN(test_a_covering_rule_goes_after_what_it_covered);
    RUN(test_what_is_not_worth_it);
    RUN(test_bad_arguments_are_refused);
    RUN(test_a_number_is_found);
    return check_result("test_rule_patch");
}
