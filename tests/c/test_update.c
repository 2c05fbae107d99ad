/*
 * test_update.c: a policy put in force by a firewall of two workers: in both or in none; what it disconnects is told to
 * whoever watches. Connections are restored ones,
 * so that no packet is needed; memory fails where the test says, as this program has an mremap of its own.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* mremap's flags */
#endif
#include "check.h"
#include "dp_live.h"

#include <errno.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { WORKERS = 2, REMOTES = 8, ENTRIES = 1000, QUIET_MS = 150, PATIENCE_MS = 60000 };

struct scene {
    struct dp_firewall *firewall;
    struct dp_endpoints *endpoints;
    struct dp_rule_table *table;
    struct dp_conntrack_config config;
};

static int calls_until_failure;

void *mremap(void *old, size_t old_size, size_t size, int flags, ...);

/* What memory.c calls. Shrinking never fails. */
void *mremap(void *old, size_t old_size, size_t size, int flags, ...)
{
    if (size > old_size && calls_until_failure && --calls_until_failure == 0) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return (void *)syscall(SYS_mremap, old, old_size, size, flags, NULL);
}

static int put_in_force(struct scene *s, const uint32_t *cut, uint32_t n_cut, uint64_t *disconnected)
{
    struct dp_zone_tables zones[2] = {{.table = {{s->table, NULL}, {s->table, NULL}}}, {.zone = 1}};
    struct dp_policy_update update = {.zones = zones,
                                      .n_zones = 2,
                                      .endpoints = s->endpoints,
                                      .config = &s->config,
                                      .cut = cut,
                                      .n_cut = n_cut,
                                      .disconnected = disconnected};

    return dp_firewall_update(s->firewall, &update);
}

/* An inbound UDP connection of zone 0. */
static struct dp_saved_connection connection(uint8_t remote)
{
    return (struct dp_saved_connection){.local = {10, 0, 0, 1},
                                        .remote = {192, 0, 2, remote},
                                        .rule = 1,
                                        .local_port = 53,
                                        .remote_port = 4000,
                                        .family = 4,
                                        .protocol = 17,
                                        .origin = DP_INBOUND,
                                        .state = DP_CONN_OTHER_TWO_WAY};
}

static bool make(struct scene *s)
{
    static const uint64_t seed[2] = {1, 2};
    struct dp_selector all = {0, 0xffffff};
    struct dp_rule rule = {1, DP_REMOTE_ANY, 0, 1, DP_ALLOW};
    struct dp_holding holding = {{{10, 0, 0, 1}, 32}, 4, 0, 0};

    memset(s, 0, sizeof *s);
    s->config.max_entries = ENTRIES;
    for (int state = 0; state < DP_CONN_STATES; state++)
        s->config.timeout_ns[state] = 3600000000000u; /* an hour: time is the machine's */
    if (!CHECK_EQUAL(dp_firewall_new(&s->config, seed, WORKERS, &s->firewall), 0) ||
        !CHECK_EQUAL(dp_endpoints_new(&holding, 1, NULL, 0, NULL, 0, NULL, 0, &s->endpoints), 0) ||
        !CHECK_EQUAL(dp_rule_table_new(4, &rule, 1, NULL, 0, NULL, 0, &all, 1, &s->table), 0) ||
        !CHECK_EQUAL(put_in_force(s, NULL, 0, NULL), 0))
        return false;
    for (uint8_t remote = 1; remote <= REMOTES; remote++) {
        struct dp_saved_connection saved = connection(remote);

        CHECK_EQUAL(dp_plane_restore(dp_firewall_plane(s->firewall), &saved, 1, 0, DP_RESTORE_MISSING, NULL), 1);
    }
    return CHECK_EQUAL(dp_firewall_start(s->firewall), 0);
}

static void unmake(struct scene *s)
{
    dp_firewall_free(s->firewall);
    dp_endpoints_free(s->endpoints);
    dp_rule_table_free(s->table);
}

static uint64_t count(const struct scene *s, int32_t disconnected)
{
    struct dp_connection_filter filter = {.zone = -1, .origin = -1, .protocol = -1, .disconnected = disconnected};

    return dp_plane_count(dp_firewall_plane(s->firewall), &filter, NULL);
}

static uint64_t limit(const struct scene *s)
{
    struct dp_counters counters;

    dp_plane_counters(dp_firewall_plane(s->firewall), &counters);
    return counters.max_entries;
}

static void test_an_update_without_memory_happens_in_no_worker(void)
{
    /* Each of the five pools of the first worker, then of the second; one that has grown all is not asked again. */
    static const int failing[] = {1, 2, 3, 4, 5, 6, 2, 3, 4, 5};
    static const uint32_t zone[1] = {0};
    struct scene s;
    uint64_t cut[1] = {0};

    if (!make(&s))
        return;
    s.config.max_entries = 100 * ENTRIES;
    for (size_t i = 0; i < sizeof failing / sizeof failing[0]; i++) {
        calls_until_failure = failing[i];
        CHECK_EQUAL(put_in_force(&s, zone, 1, cut), DP_E_MEMORY);
        CHECK_EQUAL(calls_until_failure, 0);
        CHECK_EQUAL(limit(&s), ENTRIES);
        CHECK_EQUAL(cut[0], 0);
        CHECK_EQUAL(count(&s, 1), 0);
        CHECK_EQUAL(count(&s, 0), REMOTES);
    }
    CHECK_EQUAL(put_in_force(&s, zone, 1, cut), 0);
    CHECK_EQUAL(limit(&s), 100 * ENTRIES);
    CHECK_EQUAL(cut[0], REMOTES);
    CHECK_EQUAL(count(&s, 1), REMOTES);
    unmake(&s);
}

static void test_a_table_that_could_not_grow_grows_later(void)
{
    struct scene s;

    if (!make(&s))
        return;
    s.config.max_entries = 100 * ENTRIES;
    calls_until_failure = 5;
    CHECK_EQUAL(put_in_force(&s, NULL, 0, NULL), DP_E_MEMORY);
    calls_until_failure = 0;
    CHECK_EQUAL(put_in_force(&s, NULL, 0, NULL), 0);
    for (uint32_t i = 0; i < 20 * ENTRIES; i++) {
        struct dp_saved_connection saved = connection(100);

        saved.remote[1] = 1;
        saved.remote[2] = (uint8_t)(i >> 8);
        saved.remote[3] = (uint8_t)i;
        if (dp_plane_restore(dp_firewall_plane(s.firewall), &saved, 1, 0, DP_RESTORE_MISSING, NULL) != 1 ||
            dp_plane_restore(dp_firewall_plane(s.firewall), &saved, 1, 0, DP_RESTORE_MISSING, NULL) != 0)
            break; /* taken once, and found the second time */
    }
    CHECK_EQUAL(count(&s, -1), 20 * ENTRIES + REMOTES);
    unmake(&s);
}

/* Takes the whole feed, for as long as it takes until `expected` have come, and what is quick to come then; returns how
 * many connections were told with an event. */
static int told(const struct scene *s, enum dp_connection_event event, bool disconnected, int expected)
{
    static uint8_t items[65536];
    struct dp_feed_item item;
    struct pollfd ready = {dp_firewall_feed_fd(s->firewall), POLLIN, 0};
    int n = 0;

    while (poll(&ready, 1, n < expected ? PATIENCE_MS : QUIET_MS) == 1) {
        int64_t used = dp_firewall_feed(s->firewall, items, sizeof items);

        for (int64_t at = 0; at < used; at += item.size) {
            memcpy(&item, items + at, sizeof item);
            if (CHECK_EQUAL(item.kind, DP_FEED_CONNECTIONS) && CHECK_EQUAL(item.event, event) &&
                CHECK_EQUAL(item.connection.disconnected, disconnected))
                n++;
        }
    }
    return n;
}

static void test_who_watches_is_told_what_a_change_disconnects(void)
{
    static const uint32_t zone[1] = {0};
    struct dp_connection_filter all = {.zone = -1, .origin = -1, .protocol = -1, .disconnected = -1};
    struct scene s;

    if (!make(&s))
        return;
    dp_firewall_watch(s.firewall, DP_FEED_CONNECTIONS, -1);
    CHECK_EQUAL(put_in_force(&s, NULL, 0, NULL), 0);
    CHECK_EQUAL(told(&s, DP_EVENT_UPDATE, true, 0), 0);
    CHECK_EQUAL(put_in_force(&s, zone, 1, NULL), 0);
    CHECK_EQUAL(told(&s, DP_EVENT_UPDATE, true, REMOTES), REMOTES);
    /* Once: they are disconnected already. */
    CHECK_EQUAL(put_in_force(&s, zone, 1, NULL), 0);
    CHECK_EQUAL(told(&s, DP_EVENT_UPDATE, true, 0), 0);
    CHECK_EQUAL(dp_plane_flush(dp_firewall_plane(s.firewall), &all), REMOTES);
    CHECK_EQUAL(told(&s, DP_EVENT_DESTROY, true, REMOTES), REMOTES);
    unmake(&s);
}

static void test_what_was_disconnected_before_is_no_news(void)
{
    static const uint32_t zone[1] = {0};
    struct dp_connection_filter all = {.zone = -1, .origin = -1, .protocol = -1, .disconnected = -1};
    struct scene s;

    if (!make(&s))
        return;
    CHECK_EQUAL(put_in_force(&s, zone, 1, NULL), 0);
    dp_firewall_watch(s.firewall, DP_FEED_CONNECTIONS, -1);
    CHECK_EQUAL(count(&s, 1), REMOTES);
    CHECK_EQUAL(told(&s, DP_EVENT_UPDATE, true, 0), 0);
    CHECK_EQUAL(dp_plane_flush(dp_firewall_plane(s.firewall), &all), REMOTES);
    CHECK_EQUAL(told(&s, DP_EVENT_DESTROY, true, REMOTES), REMOTES);
    unmake(&s);
}

/* Restores many connections of one worker. */
static void fill(struct scene *s, uint32_t n, enum dp_origin origin)
{
    s->config.max_entries = 2 * WORKERS * n;
    CHECK_EQUAL(put_in_force(s, NULL, 0, NULL), 0);
    for (uint32_t i = 0; i < n; i++) {
        struct dp_saved_connection saved = connection(200);

        saved.remote_port = (uint16_t)i;
        saved.origin = (uint8_t)origin;
        CHECK_EQUAL(dp_plane_restore(dp_firewall_plane(s->firewall), &saved, 1, 0, DP_RESTORE_MISSING, NULL), 1);
    }
}

static void test_more_than_the_feed_holds_is_told(void)
{
    enum { MANY = 60000 };
    static const uint32_t zone[1] = {0};
    struct dp_worker_counters counters;
    struct scene s;

    if (!make(&s))
        return;
    fill(&s, MANY, DP_INBOUND);
    dp_firewall_watch(s.firewall, DP_FEED_CONNECTIONS, -1);
    CHECK_EQUAL(put_in_force(&s, zone, 1, NULL), 0);
    CHECK_EQUAL(told(&s, DP_EVENT_UPDATE, true, MANY + REMOTES), MANY + REMOTES);
    for (uint32_t w = 0; w < WORKERS; w++) {
        CHECK_EQUAL(dp_firewall_worker_counters(s.firewall, w, &counters), 0);
        for (int kind = 0; kind < DP_FEED_KINDS; kind++)
            CHECK_EQUAL(counters.feed_lost[kind], 0);
    }
    unmake(&s);
}

static void test_what_is_told_is_found_among_what_is_not(void)
{
    static const uint32_t zone[1] = {0};
    struct dp_saved_connection last = connection(200);
    struct scene s;

    if (!make(&s))
        return;
    fill(&s, 20000, DP_OUTBOUND);
    last.remote_port = 30000;
    CHECK_EQUAL(dp_plane_restore(dp_firewall_plane(s.firewall), &last, 1, 0, DP_RESTORE_MISSING, NULL), 1);
    dp_firewall_watch(s.firewall, DP_FEED_CONNECTIONS, -1);
    CHECK_EQUAL(put_in_force(&s, zone, 1, NULL), 0);
    CHECK_EQUAL(told(&s, DP_EVENT_UPDATE, true, REMOTES + 1), REMOTES + 1);
    unmake(&s);
}

int main(void)
{
    RUN(test_who_watches_is_told_what_a_change_disconnects);
    RUN(test_what_was_disconnected_before_is_no_news);
    RUN(test_more_than_the_feed_holds_is_told);
    RUN(test_what_is_told_is_found_among_what_is_not);
    RUN(test_an_update_without_memory_happens_in_no_worker);
    RUN(test_a_table_that_could_not_grow_grows_later);
    return check_result("test_update");
}
