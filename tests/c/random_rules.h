/*
 * random_rules.h: rules by chance, with nested and equal prefixes, sets of prefixes, overlapping selectors, both
 * families; and whether one matches, by the plain words of SPEC 3.2.
 */
#ifndef DP_TEST_RANDOM_RULES_H
#define DP_TEST_RANDOM_RULES_H

#include "classifier.h"

enum { RULES_MAX = 60, REMOTES_MAX = 12, PREFIXES_MAX = 60, SELECTORS_MAX = 200 };

static uint64_t random_state = 88172645463325252u;

static inline uint32_t below(uint32_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 33) % n;
}

struct policy {
    uint32_t family;
    struct dp_rule rules[RULES_MAX];
    struct dp_remote remotes[REMOTES_MAX];
    struct dp_prefix prefixes[PREFIXES_MAX];
    struct dp_selector selectors[SELECTORS_MAX];
    uint32_t n_rules, n_remotes, n_prefixes, n_selectors;
};

/* Few bits vary, so that prefixes nest and collide. */
static inline void random_address(uint8_t *address, uint32_t family)
{
    memset(address, 0, 16);
    address[0] = 10;
    address[1] = (uint8_t)(below(2) * 128);
    address[2] = (uint8_t)below(4);
    address[3] = (uint8_t)below(4);
    if (family == 6)
        address[15] = (uint8_t)below(3);
}

static inline void cut(struct dp_prefix *prefix)
{
    for (uint32_t b = prefix->bits; b < 128; b++)
        prefix->address[b / 8] &= (uint8_t)~(0x80 >> b % 8);
}

static inline struct dp_selector random_selector(void)
{
    static const uint32_t protocols[] = {1, 6, 17, 47, 58};
    uint32_t base = protocols[below(5)] << 16, low = below(30), high = low + below(30);

    switch (below(4)) {
    case 0:
        return (struct dp_selector){0, DP_SELECTOR_MAX};
    case 1:
        return (struct dp_selector){base, base | 0xffff};
    default:
        return (struct dp_selector){base | low, base | high};
    }
}

static inline void random_policy(struct policy *p)
{
    static const uint32_t lengths4[] = {0, 1, 7, 8, 9, 16, 23, 24, 30, 31, 32};
    static const uint32_t lengths6[] = {0, 8, 20, 32, 64, 127, 128};

    memset(p, 0, sizeof *p);
    p->family = below(2) ? 6 : 4;
    p->n_remotes = below(REMOTES_MAX + 1);
    for (uint32_t r = 0; r < p->n_remotes; r++) {
        p->remotes[r] = (struct dp_remote){p->n_prefixes, below(6)};
        for (uint32_t i = 0; i < p->remotes[r].count; i++) {
            struct dp_prefix *prefix = &p->prefixes[p->n_prefixes++];

            random_address(prefix->address, p->family);
            prefix->bits = p->family == 4 ? lengths4[below(11)] : lengths6[below(7)];
            cut(prefix);
        }
    }
    p->n_rules = below(RULES_MAX + 1);
    for (uint32_t i = 0; i < p->n_rules; i++) {
        struct dp_rule *rule = &p->rules[i];

        rule->number = 1000 + i;
        rule->remote = p->n_remotes && below(4) ? (int32_t)below(p->n_remotes) : DP_REMOTE_ANY;
        rule->first_selector = p->n_selectors;
        rule->selectors = 1 + below(3);
        rule->action = below(2) ? DP_ALLOW : DP_DENY;
        for (uint32_t s = 0; s < rule->selectors; s++)
            p->selectors[p->n_selectors++] = random_selector();
    }
}

static inline bool holds(const struct dp_prefix *prefix, const uint8_t *address)
{
    for (uint32_t b = 0; b < prefix->bits; b++)
        if ((prefix->address[b / 8] ^ address[b / 8]) & 0x80 >> b % 8)
            return false;
    return true;
}

static inline bool matches(const struct policy *p, const struct dp_rule *rule, const uint8_t *remote, uint32_t selector)
{
    bool found = rule->remote == DP_REMOTE_ANY;

    for (uint32_t i = 0; !found && i < p->remotes[rule->remote].count; i++)
        found = holds(&p->prefixes[p->remotes[rule->remote].first + i], remote);
    if (!found)
        return false;
    for (uint32_t s = 0; s < rule->selectors; s++)
        if (p->selectors[rule->first_selector + s].low <= selector &&
            selector <= p->selectors[rule->first_selector + s].high)
            return true;
    return false;
}

#endif
