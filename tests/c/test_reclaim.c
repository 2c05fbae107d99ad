/*
 * test_reclaim.c: what an engine keeps of changes is bounded by what it keeps of connections, and numbers that no
 * policy has are given up as reclaim.h promises.
 */
#include "check.h"
#include "conntrack_changes.h"
#include "plane.h"
#include "reclaim.h"
#include "settings.h"
#include "table_walk.h"

/* Of the address sanitizer; NULL without it. */
extern size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

enum { CHANGES = 100000, WARM = 2000, STEADY = 100, SLACK = 64 * 1024 };

struct scene {
    struct dp_plane *plane;
    struct dp_engine *engine; /* its shard */
    struct dp_endpoints *endpoints;
    struct dp_rule_table *table;
    struct dp_conntrack_config config;
};

static bool make(struct scene *s)
{
    static const uint64_t seed[2] = {1, 2};
    struct dp_selector all = {0, 0xffffff};
    struct dp_rule rule = {1, DP_REMOTE_ANY, 0, 1, DP_ALLOW};
    struct dp_holding holding = {{{10, 0, 0, 1}, 32}, 4, 0, 0};

    memset(s, 0, sizeof *s);
    s->config = settings_of(1000, 600000000000u);
    if (!CHECK_EQUAL(dp_plane_new(&s->config, seed, 1, &s->plane), 0))
        return false;
    s->engine = dp_plane_shard(s->plane, 0);
    return CHECK_EQUAL(dp_endpoints_new(&holding, 1, NULL, 0, NULL, 0, NULL, 0, &s->endpoints), 0) &&
           CHECK_EQUAL(dp_rule_table_new(4, &rule, 1, NULL, 0, NULL, 0, &all, 1, &s->table), 0);
}

static void unmake(struct scene *s)
{
    dp_plane_free(s->plane);
    dp_endpoints_free(s->endpoints);
    dp_rule_table_free(s->table);
}

/* Zone 0, and zone `other` where it is not 0; all inbound connections of zone 0 are cut, or those from 192.0.2.9. */
static uint64_t change(struct scene *s, uint32_t other, bool cuts)
{
    static const uint32_t cut[1] = {0};
    struct dp_zone_tables zones[2] = {{.table = {{s->table, NULL}, {s->table, NULL}}}, {.zone = other}};
    struct dp_rule_address revocation = {{192, 0, 2, 9}, 4, 1};
    uint64_t disconnected[1] = {0};
    struct dp_policy_update update = {.zones = zones,
                                      .n_zones = other ? 2 : 1,
                                      .endpoints = s->endpoints,
                                      .config = &s->config,
                                      .cut = cut,
                                      .n_cut = cuts,
                                      .revocations = &revocation,
                                      .n_revocations = !cuts,
                                      .disconnected = disconnected,
                                      .time_ns = 1};

    CHECK_EQUAL(dp_plane_update(s->plane, &update), 0);
    return disconnected[0];
}

static bool restored(struct scene *s, uint32_t rule, uint8_t remote, uint16_t port, enum dp_origin origin)
{
    struct dp_saved_connection saved = {.local = {10, 0, 0, 1},
                                        .remote = {192, 0, 2, remote},
                                        .rule = rule,
                                        .local_port = 53,
                                        .remote_port = port,
                                        .family = 4,
                                        .protocol = 17,
                                        .origin = (uint8_t)origin,
                                        .state = DP_CONN_OTHER_TWO_WAY};

    return dp_connections_restore(s->engine, &saved, 0, DP_RESTORE_MISSING) == DP_RESTORED_TAKEN;
}

static uint64_t count(struct scene *s, int32_t disconnected)
{
    struct dp_connection_filter filter = {.zone = -1, .origin = -1, .protocol = -1, .disconnected = disconnected};

    return dp_plane_count(s->plane, &filter, NULL);
}

static size_t allocated(void)
{
    return __sanitizer_get_current_allocated_bytes ? __sanitizer_get_current_allocated_bytes() : 0;
}

/* Each cuts or revokes a connection that is new, besides STEADY that never change; time stands still all the while. */
static void test_a_hundred_thousand_changes_leave_memory_as_it_was(void)
{
    size_t before = 0;
    struct scene s;

    if (!make(&s))
        return;
    change(&s, 0, true);
    for (uint16_t i = 0; i < STEADY; i++)
        CHECK(restored(&s, 1, 1, i, DP_OUTBOUND));
    for (uint32_t i = 0; i < CHANGES; i++) {
        struct dp_connection_filter cut = {.zone = -1, .origin = -1, .protocol = -1, .disconnected = 1};
        bool cuts = i % 2;

        if (i == WARM)
            before = allocated();
        CHECK(restored(&s, 1, 9, (uint16_t)(i % 300), DP_INBOUND));
        CHECK_EQUAL(change(&s, i % 3 ? 1 + i % 7 : 0, cuts), cuts);
        CHECK(s.engine->conntrack.zones[0].cut_room <= 4 * (STEADY + 300));
        if (i % 300 == 299) {
            CHECK_EQUAL(count(&s, 1), 300);
            CHECK_EQUAL(dp_plane_flush(s.plane, &cut), 300);
        }
    }
    CHECK_EQUAL(count(&s, 0), STEADY);
    CHECK(allocated() <= before + SLACK);
    unmake(&s);
}

/* An entry is disconnected by the first change that cut it, whether or not its log was emptied since. */
static void test_an_emptied_log_has_been_met_by_all(void)
{
    struct dp_connection_filter cut = {.zone = -1, .origin = -1, .protocol = -1, .disconnected = 1};
    struct scene s;

    if (!make(&s))
        return;
    change(&s, 0, true);
    CHECK(restored(&s, 1, 1, 1, DP_INBOUND));
    CHECK_EQUAL(change(&s, 0, true), 1);
    for (uint16_t i = 0; i < 3 * DP_CUTS_KEPT; i++) {
        CHECK(restored(&s, 1, 9, 2, DP_INBOUND));
        CHECK_EQUAL(change(&s, 0, true), 1);
        CHECK_EQUAL(count(&s, 1), 2);
        cut.remote_port = 2;
        CHECK_EQUAL(dp_plane_flush(s.plane, &cut), 1);
    }
    CHECK(s.engine->conntrack.zones[0].n_cuts <= DP_CUTS_KEPT + 1);
    CHECK_EQUAL(count(&s, 1), 1);
    CHECK_EQUAL(s.engine->conntrack.zones[0].attached, 0);
    unmake(&s);
}

/* Between two works packets are judged; `most` is how many connections one work took out. */
struct between_works {
    struct dp_engine *engine;
    uint32_t most;
    uint32_t works;
};

static void run_and_count(void *owner, uint32_t number, dp_shard_work *work, void *argument)
{
    struct between_works *b = owner;
    uint32_t before = b->engine->conntrack.table.count, after;

    CHECK_EQUAL(number, 0);
    work(b->engine, argument);
    after = b->engine->conntrack.table.count;
    if (before > after && before - after > b->most)
        b->most = before - after;
    b->works++;
}

static uint64_t first_nanosecond(void)
{
    return 1;
}

/* Whose instance goes, has all of its connections gone, but packets do not wait for all of them. */
static void test_connections_of_an_instance_that_goes_are_taken_out_in_steps(void)
{
    struct between_works between = {0};
    struct dp_plane_driver driver = {.owner = &between, .run = run_and_count, .now = first_nanosecond};
    struct dp_policy_update update;
    struct scene s;

    if (!make(&s))
        return;
    change(&s, 0, true);
    for (uint16_t port = 1; port <= 3 * DP_REMOVALS + 1; port++)
        CHECK(restored(&s, 1, 1, port, port % 2 ? DP_INBOUND : DP_OUTBOUND));
    between.engine = s.engine;
    dp_plane_drive(s.plane, &driver);
    update = (struct dp_policy_update){.endpoints = s.endpoints, .config = &s.config};
    CHECK_EQUAL(dp_plane_update(s.plane, &update), 0);
    CHECK_EQUAL(s.engine->conntrack.table.count, 0);
    CHECK_EQUAL(between.most, DP_REMOVALS);
    CHECK_EQUAL(s.engine->conntrack.n_present, 0);
    dp_plane_drive(s.plane, NULL);
    /* It comes again as new. */
    change(&s, 0, true);
    CHECK(restored(&s, 1, 1, 1, DP_INBOUND));
    CHECK_EQUAL(s.engine->conntrack.zones[0].attached, 1);
    unmake(&s);
}

static void test_a_rule_is_in_use_while_a_connection_is_under_it(void)
{
    uint8_t zones[2] = {0, 1}, rules[6] = {0, 1, 1, 1, 0, 1};
    struct dp_retired retired = {zones, rules, 2, 6};
    struct dp_rule_counter counters[6];
    struct scene s;

    if (!make(&s))
        return;
    change(&s, 0, true);
    CHECK(restored(&s, 2, 1, 1, DP_OUTBOUND));
    CHECK(restored(&s, 4, 1, 2, DP_OUTBOUND));
    CHECK(restored(&s, 9, 1, 3, DP_OUTBOUND)); /* a number that nobody asks for */
    s.engine->rule_counters[1].hits = 7;
    dp_plane_retire(s.plane, &retired);
    CHECK_EQUAL(memcmp(rules, ((uint8_t[]){0, 1, 0, 1, 0, 1}), sizeof rules), 0);
    dp_plane_rule_counters(s.plane, counters, 6);
    CHECK_EQUAL(counters[1].hits, 0);
    /* Past its time it is in the table still, and who watches will be told of its end. */
    s.engine->conntrack.now += 700000000000u;
    rules[2] = 1;
    dp_plane_retire(s.plane, &retired);
    CHECK_EQUAL(rules[2], 0);
    dp_engine_advance(s.engine, s.engine->conntrack.now + 1);
    rules[2] = 1;
    dp_plane_retire(s.plane, &retired);
    CHECK_EQUAL(rules[2], 1);
    unmake(&s);
}

/* Nor do they where all are flushed; and where few of many are, one step passes by many of the others. */
static void test_connections_are_flushed_in_steps(void)
{
    struct between_works between = {0};
    struct dp_plane_driver driver = {.owner = &between, .run = run_and_count, .now = first_nanosecond};
    struct dp_connection_filter filter = {.zone = -1, .origin = -1, .protocol = -1, .disconnected = -1};
    struct scene s;

    if (!make(&s))
        return;
    change(&s, 0, true);
    for (uint16_t port = 1; port <= 900; port++)
        CHECK(restored(&s, 1, 1, port, port % 2 ? DP_INBOUND : DP_OUTBOUND));
    between.engine = s.engine;
    dp_plane_drive(s.plane, &driver);
    filter.remote_port = 450;
    CHECK_EQUAL(dp_plane_flush(s.plane, &filter), 1);
    CHECK(between.works <= 900 / DP_VISITS + 2);
    filter.remote_port = 0;
    filter.origin = DP_INBOUND;
    CHECK_EQUAL(dp_plane_flush(s.plane, &filter), 450);
    CHECK_EQUAL(count(&s, -1), 449);
    filter.origin = -1;
    CHECK_EQUAL(dp_plane_flush(s.plane, &filter), 449);
    CHECK_EQUAL(count(&s, -1), 0);
    CHECK_EQUAL(between.most, DP_REMOVALS);
    dp_plane_drive(s.plane, NULL);
    for (uint16_t port = 1; port <= 900; port++)
        CHECK(restored(&s, 1, 1, port, DP_INBOUND));
    unmake(&s);
}

/* Live, packets do not wait for all connections that expire in one tick; none of these is there for anybody. */
static void test_connections_expire_at_a_pace(void)
{
    struct between_works between = {0};
    struct dp_plane_driver driver = {.owner = &between, .run = run_and_count, .now = first_nanosecond};
    struct dp_conntrack *ct;
    struct scene s;

    if (!make(&s))
        return;
    ct = &s.engine->conntrack;
    between.engine = s.engine;
    change(&s, 0, true);
    for (uint16_t port = 1; port <= 900; port++)
        CHECK(restored(&s, 1, 1, port, DP_INBOUND));
    dp_plane_drive(s.plane, &driver);
    dp_engine_advance(s.engine, ct->now + 599600000000u);
    CHECK_EQUAL(count(&s, -1), 900);
    dp_engine_advance(s.engine, ct->now + 600000000u);
    CHECK_EQUAL(ct->table.count, 900 - DP_TIMERS);
    CHECK_EQUAL(count(&s, -1), 0);
    CHECK(dp_engine_catch_up(s.engine));
    CHECK_EQUAL(ct->table.count, 900 - 2 * DP_TIMERS);
    while (dp_engine_catch_up(s.engine))
        ;
    CHECK_EQUAL(ct->table.count, 0);
    /* Who has not been asked for long takes more at once. */
    for (uint16_t port = 1; port <= 900; port++)
        CHECK(restored(&s, 1, 1, port, DP_INBOUND));
    dp_engine_advance(s.engine, ct->now + 700000000000u);
    CHECK_EQUAL(ct->table.count, 0);
    dp_plane_drive(s.plane, NULL);
    unmake(&s);
}

int main(void)
{
    RUN(test_a_hundred_thousand_changes_leave_memory_as_it_was);
    RUN(test_an_emptied_log_has_been_met_by_all);
    RUN(test_connections_are_flushed_in_steps);
    RUN(test_connections_expire_at_a_pace);
    RUN(test_connections_of_an_instance_that_goes_are_taken_out_in_steps);
    RUN(test_a_rule_is_in_use_while_a_connection_is_under_it);
    return check_result("test_retired");
}
