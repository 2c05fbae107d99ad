/*
 * test_remote_change.c: an address that came into the remote group of a deny rule, or left that of an allow rule (SPEC
 * 5.4), between the swap of the policy and the look at every entry: not one packet passes of what the rule would decide
 * about, or has admitted. Others stay.
 */
#include "check.h"
#include "conntrack_changes.h"
#include "settings.h"
#include "table_walk.h"

enum { ALLOW_ALL = 1, DENY_DNS = 2, PORT = 53, OTHER_PORT = 54, TIMEOUT_S = 30 };

struct scene {
    struct dp_plane *plane;
    struct dp_engine *engine; /* its shard */
    struct dp_endpoints *endpoints;
    struct dp_rule_table *open;
    struct dp_rule_table *shut; /* DNS from 192.0.2.1 and 192.0.2.2 is denied */
    struct dp_conntrack_config config;
    uint64_t now;
};

static bool make(struct scene *s)
{
    static const uint64_t seed[2] = {1, 2};
    struct dp_selector selectors[2] = {{0, 0xffffff}, {17 << 16 | PORT, 17 << 16 | PORT}};
    struct dp_rule rules[2] = {{DENY_DNS, 0, 1, 1, DP_DENY}, {ALLOW_ALL, DP_REMOTE_ANY, 0, 1, DP_ALLOW}};
    struct dp_prefix prefixes[2] = {{{192, 0, 2, 1}, 32}, {{192, 0, 2, 2}, 32}};
    struct dp_remote remote = {0, 2};
    struct dp_holding holding = {{{10, 0, 0, 1}, 32}, 4, 0, 0};

    memset(s, 0, sizeof *s);
    s->now = 1000000000000u;
    s->config = settings_of(100, (uint64_t)TIMEOUT_S * 1000000000u);
    if (!CHECK_EQUAL(dp_plane_new(&s->config, seed, 1, &s->plane), 0))
        return false;
    s->engine = dp_plane_shard(s->plane, 0);
    return CHECK_EQUAL(dp_endpoints_new(&holding, 1, NULL, 0, NULL, 0, NULL, 0, &s->endpoints), 0) &&
           CHECK_EQUAL(dp_rule_table_new(4, &rules[1], 1, NULL, 0, NULL, 0, selectors, 2, &s->open), 0) &&
           CHECK_EQUAL(dp_rule_table_new(4, rules, 2, &remote, 1, prefixes, 2, selectors, 2, &s->shut), 0);
}

static void unmake(struct scene *s)
{
    dp_plane_free(s->plane);
    dp_endpoints_free(s->endpoints);
    dp_rule_table_free(s->open);
    dp_rule_table_free(s->shut);
}

/* An update to one of the tables that says what came to DENY_DNS. */
static struct dp_policy_update update_to(struct scene *s, struct dp_zone_tables *zone, struct dp_rule_table *table,
                                         const struct dp_rule_address *arrivals, uint32_t n)
{
    *zone = (struct dp_zone_tables){.table = {{table, NULL}, {table, NULL}}};
    return (struct dp_policy_update){.zones = zone,
                                     .n_zones = 1,
                                     .endpoints = s->endpoints,
                                     .config = &s->config,
                                     .arrivals = arrivals,
                                     .n_arrivals = n,
                                     .time_ns = s->now};
}

/* A datagram from 192.0.2.`host` to the instance, as its check ends. */
static enum dp_reason judged(struct scene *s, uint8_t host, uint16_t port)
{
    uint8_t bytes[42] = {2,  0, 0, 0,   0, 1, 2,    0,  0, 0, 0, 2,    8,    0, 0x45,          0, 0, 28, 0, 0, 0, 0, 64,
                         17, 0, 0, 192, 0, 2, host, 10, 0, 0, 1, 0x0f, 0xa0, 0, (uint8_t)port, 0, 8, 0,  0};
    struct dp_frame frame = {
        .time_ns = ++s->now, .data = bytes, .captured = sizeof bytes, .length = sizeof bytes, .link = DP_LINK_ETHERNET};
    struct dp_record record;

    CHECK_EQUAL(dp_engine_process(s->engine, &frame, 1, &record, NULL), 0);
    CHECK_EQUAL(record.checks, 1);
    return (enum dp_reason)record.check[0].reason;
}

static void test_no_packet_passes_between_the_swap_and_the_look(void)
{
    static const struct dp_rule_address arrivals[] = {
        {{192, 0, 2, 2}, 4, DENY_DNS}, {{192, 0, 2, 1}, 4, DENY_DNS}, {{192, 0, 2, 1}, 4, DENY_DNS + 1}};
    struct dp_zone_tables zone;
    struct dp_policy_update update;
    struct dp_policy *policy;
    struct scene s;
    const uint8_t stays[1] = {DP_FATE_STAYS}, cut[1] = {DP_FATE_DISCONNECTED};
    uint64_t cursor = 0;

    if (!make(&s))
        return;
    update = update_to(&s, &zone, s.open, NULL, 0);
    CHECK_EQUAL(dp_plane_update(s.plane, &update), 0);
    for (uint8_t host = 1; host <= 3; host++) {
        CHECK_EQUAL(judged(&s, host, PORT), DP_REASON_RULE);
        CHECK_EQUAL(judged(&s, host, OTHER_PORT), DP_REASON_RULE);
    }
    update = update_to(&s, &zone, s.shut, arrivals, 3);
    CHECK_EQUAL(dp_policy_new(&update, &policy), 0);
    CHECK_EQUAL(dp_engine_reserve(s.engine, &update, policy), 0);
    /* As foreseen, and nothing happens by that. */
    CHECK_EQUAL(dp_connections_revocable_some(s.engine, policy, stays, &cursor, UINT64_MAX), 2);
    cursor = 0;
    /* Where the zone is cut as a whole nothing is left to these. */
    CHECK_EQUAL(dp_connections_revocable_some(s.engine, policy, cut, &cursor, UINT64_MAX), 0);
    CHECK_EQUAL(judged(&s, 1, PORT), DP_REASON_CONNECTION);
    dp_policy_release(dp_engine_swap(s.engine, &update, policy));
    CHECK_EQUAL(s.engine->conntrack.disconnected, 0);
    CHECK_EQUAL(judged(&s, 1, PORT), DP_REASON_DISCONNECTED);
    CHECK_EQUAL(judged(&s, 1, OTHER_PORT), DP_REASON_CONNECTION);
    CHECK_EQUAL(judged(&s, 3, PORT), DP_REASON_CONNECTION);
    cursor = 0;
    dp_connections_settle_some(s.engine, &cursor, UINT64_MAX);
    CHECK_EQUAL(s.engine->conntrack.disconnected, 2);
    CHECK_EQUAL(judged(&s, 2, PORT), DP_REASON_DISCONNECTED);
    unmake(&s);
}

/* By the next change each entry has met the one before. */
static void test_an_update_has_every_entry_looked_at(void)
{
    static const struct dp_rule_address arrival = {{192, 0, 2, 1}, 4, DENY_DNS};
    struct dp_zone_tables zone;
    struct dp_policy_update update;
    struct scene s;

    if (!make(&s))
        return;
    update = update_to(&s, &zone, s.open, NULL, 0);
    CHECK_EQUAL(dp_plane_update(s.plane, &update), 0);
    CHECK_EQUAL(judged(&s, 1, PORT), DP_REASON_RULE);
    update = update_to(&s, &zone, s.shut, &arrival, 1);
    CHECK_EQUAL(dp_plane_update(s.plane, &update), 0);
    CHECK_EQUAL(update.revoked, 1);
    update = update_to(&s, &zone, s.open, NULL, 0);
    CHECK_EQUAL(dp_plane_update(s.plane, &update), 0);
    CHECK_EQUAL(judged(&s, 1, PORT), DP_REASON_DISCONNECTED);
    unmake(&s);
}

/* A rule loses an address: what it admitted from there is cut, what other rules did or from elsewhere is not. */
static void test_a_revocation_is_of_one_rule_and_one_address(void)
{
    const struct dp_rule_address revoked[] = {
        {{192, 0, 2, 2}, 4, ALLOW_ALL}, {{192, 0, 2, 1}, 4, ALLOW_ALL + 7}, {{192, 0, 2, 9}, 4, ALLOW_ALL}};
    struct dp_zone_tables zone;
    struct dp_policy_update update, rehearsed;
    struct scene s;

    if (!make(&s))
        return;
    update = update_to(&s, &zone, s.open, NULL, 0);
    CHECK_EQUAL(dp_plane_update(s.plane, &update), 0);
    for (uint8_t host = 1; host <= 3; host++)
        CHECK_EQUAL(judged(&s, host, PORT), DP_REASON_RULE);
    update = update_to(&s, &zone, s.open, NULL, 0);
    update.revocations = revoked;
    update.n_revocations = 3;
    rehearsed = update;
    CHECK_EQUAL(dp_plane_rehearse(s.plane, &rehearsed), 0);
    CHECK_EQUAL(rehearsed.revoked, 1);
    CHECK_EQUAL(dp_plane_update(s.plane, &update), 0);
    CHECK_EQUAL(update.revoked, 1);
    CHECK_EQUAL(judged(&s, 1, PORT), DP_REASON_CONNECTION);
    CHECK_EQUAL(judged(&s, 2, PORT), DP_REASON_DISCONNECTED);
    CHECK_EQUAL(judged(&s, 3, PORT), DP_REASON_CONNECTION);
    unmake(&s);
}

/* All of a zone is cut by one step; how many that were is counted later, whatever packets came in between. */
static void test_a_zone_that_is_cut_is_cut_before_it_is_counted(void)
{
    static const uint32_t cut[1] = {0};
    struct dp_zone_tables zone;
    struct dp_policy_update update;
    struct dp_policy *policy;
    struct scene s;

    if (!make(&s))
        return;
    update = update_to(&s, &zone, s.open, NULL, 0);
    CHECK_EQUAL(dp_plane_update(s.plane, &update), 0);
    for (int touched = 0; touched < 2; touched++) {
        CHECK_EQUAL(judged(&s, 1, PORT), DP_REASON_RULE);
        CHECK_EQUAL(judged(&s, 2, PORT), DP_REASON_RULE);
        update = update_to(&s, &zone, s.open, NULL, 0);
        update.cut = cut;
        update.n_cut = 1;
        CHECK_EQUAL(dp_policy_new(&update, &policy), 0);
        CHECK_EQUAL(dp_engine_reserve(s.engine, &update, policy), 0);
        dp_policy_release(dp_engine_swap(s.engine, &update, policy));
        if (touched) {
            /* A new connection first, or one that is cut: neither changes how many were. */
            CHECK_EQUAL(judged(&s, 3, OTHER_PORT), DP_REASON_RULE);
            CHECK_EQUAL(judged(&s, 1, PORT), DP_REASON_DISCONNECTED);
        }
        CHECK_EQUAL(dp_conntrack_count_cut(&s.engine->conntrack, 0), 2);
        CHECK_EQUAL(dp_conntrack_count_cut(&s.engine->conntrack, 0), 0);
        dp_conntrack_all_cut(&s.engine->conntrack);
        CHECK_EQUAL(s.engine->conntrack.zones[0].attached, touched);
        CHECK_EQUAL(judged(&s, 2, PORT), DP_REASON_DISCONNECTED);
        CHECK_EQUAL(judged(&s, 3, OTHER_PORT), touched ? DP_REASON_CONNECTION : DP_REASON_RULE);
        s.now += 2 * (uint64_t)TIMEOUT_S * 1000000000u;
        dp_engine_advance(s.engine, s.now);
        CHECK_EQUAL(s.engine->conntrack.table.count, 0);
        CHECK_EQUAL(s.engine->conntrack.zones[0].attached, 0);
    }
    unmake(&s);
}

int main(void)
{
    RUN(test_no_packet_passes_between_the_swap_and_the_look);
    RUN(test_a_revocation_is_of_one_rule_and_one_address);
    RUN(test_a_zone_that_is_cut_is_cut_before_it_is_counted);
    RUN(test_an_update_has_every_entry_looked_at);
    return check_result("test_remote_change");
}
