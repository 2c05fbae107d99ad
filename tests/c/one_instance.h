/* one_instance.h: what tests of the core begin with: a plane with one instance. */
#ifndef DP_TEST_ONE_INSTANCE_H
#define DP_TEST_ONE_INSTANCE_H

#include "check.h"
#include "settings.h"

/* Instance 10.0.0.1 in zone 0, which allows UDP to port 53 from anywhere, by rule 1; all is the caller's. */
static inline bool one_instance_on(uint32_t shards, const struct dp_conntrack_config *config, struct dp_plane **plane,
                                   struct dp_endpoints **endpoints, struct dp_rule_table **rules)
{
    static const uint64_t seed[2] = {1, 2};
    struct dp_selector dns = {17 << 16 | 53, 17 << 16 | 53};
    struct dp_rule rule = {1, DP_REMOTE_ANY, 0, 1, DP_ALLOW};
    struct dp_holding holding = {{{10, 0, 0, 1}, 32}, 4, 0, 0};
    struct dp_zone_tables zone = {0};
    struct dp_policy_update update = {.zones = &zone, .n_zones = 1, .config = config};

    if (!CHECK_EQUAL(dp_plane_new(config, seed, shards, plane), 0) ||
        !CHECK_EQUAL(dp_endpoints_new(&holding, 1, NULL, 0, NULL, 0, NULL, 0, endpoints), 0) ||
        !CHECK_EQUAL(dp_rule_table_new(4, &rule, 1, NULL, 0, NULL, 0, &dns, 1, rules), 0))
        return false;
    zone.table[DP_INGRESS][0] = *rules;
    update.endpoints = *endpoints;
    return CHECK_EQUAL(dp_plane_update(*plane, &update), 0);
}

static inline bool one_instance(const struct dp_conntrack_config *config, struct dp_plane **plane,
                                struct dp_endpoints **endpoints, struct dp_rule_table **rules)
{
    return one_instance_on(1, config, plane, endpoints, rules);
}

#endif
