/*
 * test_classifier.c: rule tables against a plain walk over the rules (SPEC 3.1, 3.2): random rules with nested and
 * equal prefixes, sets of prefixes, overlapping selectors, both families; every answer must be the same, one by one and
 * in bursts.
 */
#include "check.h"
#include "classifier.h"
#include "random_rules.h"

#include <stdlib.h>

enum { TABLES = 400, LOOKUPS = 400 };

static uint8_t remotes[LOOKUPS][16];
static uint32_t selectors[LOOKUPS], positions[LOOKUPS];

/* The same questions in bursts of any size: their answers are the same. */
static bool are_the_same_at_once(const struct dp_rule_table *table)
{
    for (uint32_t at = 0, n; at < LOOKUPS; at += n) {
        const uint8_t *remote[DP_LOOKUPS_MAX];
        uint32_t found[DP_LOOKUPS_MAX];

        n = 1 + below(DP_LOOKUPS_MAX);
        if (n > LOOKUPS - at)
            n = LOOKUPS - at;
        for (uint32_t k = 0; k < n; k++)
            remote[k] = remotes[at + k];
        dp_rule_table_find_many(table, remote, selectors + at, n, found);
        for (uint32_t k = 0; k < n; k++)
            if (!CHECK_EQUAL(found[k], positions[at + k]))
                return false;
    }
    return true;
}

static void test_against_a_walk(void)
{
    static struct policy p;
    uint32_t answers = 0;

    for (int t = 0; t < TABLES; t++) {
        struct dp_rule_table *table;

        random_policy(&p);
        if (!CHECK_EQUAL(dp_rule_table_new(p.family, p.rules, p.n_rules, p.remotes, p.n_remotes, p.prefixes,
                                           p.n_prefixes, p.selectors, p.n_selectors, &table),
                         0))
            return;
        for (int l = 0; l < LOOKUPS; l++) {
            static const uint32_t protocols[] = {0, 1, 6, 17, 47, 255};
            uint32_t selector = protocols[below(6)] << 16 | below(65), expected = 0, wanted = DP_DENY, action;
            uint8_t *remote = remotes[l];

            selectors[l] = selector;
            positions[l] = DP_NO_MATCH;
            random_address(remote, p.family);
            for (uint32_t i = 0; i < p.n_rules && !expected; i++)
                if (matches(&p, &p.rules[i], remote, selector)) {
                    expected = p.rules[i].number;
                    positions[l] = i;
                    wanted = p.rules[i].action;
                }
            answers += expected != 0;
            if (!CHECK_EQUAL(dp_rule_table_lookup(table, remote, selector, &action), expected) ||
                !CHECK_EQUAL(action, wanted))
                return;
        }
        if (!are_the_same_at_once(table))
            return;
        dp_rule_table_free(table);
    }
    CHECK(answers > TABLES * LOOKUPS / 4);
}

static uint32_t any_word(void)
{
    return below(0x10000) << 16 | below(0x10000);
}

/*
 * Prefixes all over, or all over 10.0.0.0/8 (`shared` bits), so many that the trie has a wide top: the answers are
 * those of a walk, one by one and in bursts.
 */
static void test_a_wide_top(uint32_t n, uint32_t shared, uint32_t top_bits)
{
    enum { MOST = 6000 };
    static struct dp_prefix prefixes[MOST];
    static struct dp_remote sets[MOST];
    static struct dp_rule rules[MOST];
    static uint32_t address[MOST], mask[MOST];
    const struct dp_selector any = {0, DP_SELECTOR_MAX};
    const uint32_t ten = 10u << 24, free_bits = UINT32_MAX >> shared;
    struct dp_rule_table *table;

    for (uint32_t i = 0; i < n; i++) {
        uint32_t bits = below(8) ? 24 + below(9) : shared + below(33 - shared), network;

        mask[i] = bits ? UINT32_MAX << (32 - bits) : 0;
        address[i] = (shared ? ten | (any_word() & free_bits) : any_word()) & mask[i];
        network = __builtin_bswap32(address[i]);
        prefixes[i] = (struct dp_prefix){.bits = bits};
        memcpy(prefixes[i].address, &network, 4);
        sets[i] = (struct dp_remote){i, 1};
        rules[i] = (struct dp_rule){i + 1, (int32_t)i, 0, 1, DP_ALLOW};
    }
    REQUIRE(dp_rule_table_new(4, rules, n, sets, n, prefixes, n, &any, 1, &table) == 0);
    CHECK_EQUAL(table->trie.skip > 0, shared > 0);
    CHECK_EQUAL(table->trie.top_bits, top_bits);
    for (int l = 0; l < LOOKUPS; l++) {
        uint32_t near = below(n), asked = below(3) ? address[near] | (any_word() & ~mask[near]) : any_word(), network;

        network = __builtin_bswap32(asked);
        memcpy(remotes[l], &network, 4);
        selectors[l] = 6 << 16;
        positions[l] = DP_NO_MATCH;
        for (uint32_t i = n; i-- > 0;)
            if ((asked & mask[i]) == address[i])
                positions[l] = i;
        if (!CHECK_EQUAL(dp_rule_table_find(table, remotes[l], selectors[l]), positions[l]))
            break;
    }
    are_the_same_at_once(table);
    dp_rule_table_free(table);
}

static void test_wide_tops(void)
{
    test_a_wide_top(4, 0, 0);
    test_a_wide_top(100, 0, 8);
    test_a_wide_top(800, 0, 12);
    test_a_wide_top(6000, 0, 16);
    test_a_wide_top(6000, 8, 12);
}

/* A remote group of 6,000 members is a set: one class, one rule. */
static void test_a_large_group_is_one_class(void)
{
    enum { MEMBERS = 6000 };
    static struct dp_prefix prefixes[MEMBERS];
    struct dp_remote remote = {0, MEMBERS};
    struct dp_selector any = {0, DP_SELECTOR_MAX};
    struct dp_rule rule = {7, 0, 0, 1, DP_ALLOW};
    struct dp_rule_table *table;
    uint32_t action;

    for (uint32_t i = 0; i < MEMBERS; i++) {
        prefixes[i] = (struct dp_prefix){{10, 0, (uint8_t)(i / 250), (uint8_t)(i % 250)}, 32};
    }
    CHECK_EQUAL(dp_rule_table_new(4, &rule, 1, &remote, 1, prefixes, MEMBERS, &any, 1, &table), 0);
    CHECK_EQUAL(table->n_classes, 2);
    for (uint32_t i = 0; i < MEMBERS; i++)
        if (!CHECK_EQUAL(dp_rule_table_lookup(table, prefixes[i].address, 6 << 16 | 22, &action), 7))
            break;
    CHECK_EQUAL(dp_rule_table_lookup(table, (const uint8_t *)"\x0a\x00\x00\xfb", 6 << 16, &action), 0);
    CHECK_EQUAL(action, DP_DENY);
    dp_rule_table_free(table);
}

static void test_bad_arguments_are_refused(void)
{
    struct dp_selector backwards = {5, 4}, any = {0, DP_SELECTOR_MAX}, beyond = {0, DP_SELECTOR_MAX + 1};
    struct dp_rule rule = {1, DP_REMOTE_ANY, 0, 1, DP_ALLOW}, stray = {1, 3, 0, 1, DP_ALLOW};
    struct dp_prefix prefix = {{10}, 33};
    struct dp_remote remote = {0, 1}, outside = {1, 1};
    struct dp_rule_table *table;

    CHECK_EQUAL(dp_rule_table_new(5, &rule, 1, NULL, 0, NULL, 0, &any, 1, &table), DP_E_ARGUMENT);
    CHECK_EQUAL(dp_rule_table_new(4, &rule, 1, NULL, 0, NULL, 0, &backwards, 1, &table), DP_E_ARGUMENT);
    CHECK_EQUAL(dp_rule_table_new(4, &rule, 1, NULL, 0, NULL, 0, &beyond, 1, &table), DP_E_ARGUMENT);
    CHECK_EQUAL(dp_rule_table_new(4, &stray, 1, NULL, 0, NULL, 0, &any, 1, &table), DP_E_ARGUMENT);
    CHECK_EQUAL(dp_rule_table_new(4, &rule, 1, &remote, 1, &prefix, 1, &any, 1, &table), DP_E_ARGUMENT);
    CHECK_EQUAL(dp_rule_table_new(4, &rule, 1, &outside, 1, &prefix, 1, &any, 1, &table), DP_E_ARGUMENT);
    CHECK_EQUAL(dp_rule_table_new(4, &rule, 1, NULL, 0, NULL, 0, &any, 0, &table), DP_E_ARGUMENT);
    CHECK(table == NULL);
}

int main(void)
{
    RUN(test_against_a_walk);
    RUN(test_wide_tops);
    RUN(test_a_large_group_is_one_class);
    RUN(test_bad_arguments_are_refused);
    return check_result("test_classifier");
}
