/* test_mac_table.c: the learning switch's table: who teaches it, learned, moved, aged, crowded out, listed, forgotten.
 */
#include "check.h"
#include "io/frame_path.h"

#include <stdlib.h>

static const uint8_t one[6] = {0x02, 0, 0, 0, 0, 1}, two[6] = {0x02, 0, 0, 0, 0, 2};
static const uint8_t group[6] = {0x01, 0, 0x5e, 0, 0, 1}, zero[6];

static struct dp_mac_table *empty(void)
{
    static const uint64_t secret[DP_STATION_SECRET] = {0x9e3779b97f4a7c15u, 0xbf58476d1ce4e5b9u, 0x94d049bb133111ebu};
    struct dp_mac_table *s = calloc(1, sizeof *s);

    dp_mac_table_init(s, secret);
    return s;
}

static void test_a_station_is_where_it_was_heard_last(void)
{
    struct dp_mac_table *s = empty();

    CHECK_EQUAL(dp_mac_table_find(s, one, 0, 10), DP_PORT_UNKNOWN);
    dp_mac_table_learn(s, one, 0, 3, false, 10);
    CHECK_EQUAL(dp_mac_table_find(s, one, 0, 10), 3);
    CHECK_EQUAL(dp_mac_table_find(s, two, 0, 10), DP_PORT_UNKNOWN);
    CHECK_EQUAL(dp_mac_table_find(s, one, 7, 10), DP_PORT_UNKNOWN);
    dp_mac_table_learn(s, one, 7, 4, false, 11);
    dp_mac_table_learn(s, one, 0, 5, false, 11);
    CHECK_EQUAL(dp_mac_table_find(s, one, 7, 11), 4);
    CHECK_EQUAL(dp_mac_table_find(s, one, 0, 11), 5);
    free(s);
}

static void test_a_silent_station_is_forgotten(void)
{
    struct dp_mac_table *s = empty();

    dp_mac_table_learn(s, one, 0, 3, false, 10);
    CHECK_EQUAL(dp_mac_table_find(s, one, 0, 10 + DP_STATION_LIFE_S - 1), 3);
    CHECK_EQUAL(dp_mac_table_find(s, one, 0, 10 + DP_STATION_LIFE_S), DP_PORT_UNKNOWN);
    dp_mac_table_learn(s, one, 0, 3, false, 10 + DP_STATION_LIFE_S);
    CHECK_EQUAL(dp_mac_table_find(s, one, 0, 11 + DP_STATION_LIFE_S), 3);
    free(s);
}

static void test_stations_are_listed_and_forgotten(void)
{
    struct dp_mac_table *s = empty();
    struct dp_station station[4];

    dp_mac_table_learn(s, one, 7, 2, false, 5);
    dp_mac_table_learn(s, two, 0, 3, false, 6);
    if (CHECK_EQUAL(dp_mac_table_list(s, 8, station, 4), 2)) {
        const struct dp_station *first = memcmp(station[0].mac, one, 6) == 0 ? &station[0] : &station[1];

        CHECK_EQUAL(memcmp(first->mac, one, 6), 0);
        CHECK_EQUAL(first->port, 2);
        CHECK_EQUAL(first->vlan, 7);
        CHECK_EQUAL(first->age_s, 3);
        CHECK_EQUAL(first->fixed, 0);
    }
    CHECK_EQUAL(dp_mac_table_list(s, 8, station, 1), 1);
    dp_mac_table_forget(s, 2);
    CHECK_EQUAL(dp_mac_table_find(s, one, 7, 8), DP_PORT_UNKNOWN);
    CHECK_EQUAL(dp_mac_table_find(s, two, 0, 8), 3);
    free(s);
}

static void test_a_port_that_leaves_keeps_what_is_bound_to_it(void)
{
    struct dp_mac_table *s = empty();
    struct dp_station station;

    dp_mac_table_learn(s, one, 0, 2, true, 5);
    dp_mac_table_learn(s, two, 0, 2, false, 5);
    CHECK(dp_mac_table_leave(s, 2));
    CHECK_EQUAL(dp_mac_table_find(s, one, 0, 6), DP_PORT_UNKNOWN);
    CHECK_EQUAL(dp_mac_table_find(s, two, 0, 6), DP_PORT_UNKNOWN);
    CHECK_EQUAL(dp_mac_table_list(s, 6, &station, 1), 0);
    CHECK(dp_mac_table_is_taken(s, one, 3, true, 6));
    CHECK(!dp_mac_table_is_taken(s, one, 3, false, 6));
    CHECK(!dp_mac_table_is_taken(s, two, 3, true, 6));
    CHECK(!dp_mac_table_is_taken(s, one, 3, true, 5 + DP_STATION_LIFE_S));
    dp_mac_table_learn(s, one, 0, 2, true, 7);
    CHECK_EQUAL(dp_mac_table_find(s, one, 0, 7), 2);
    /* What is forgotten is bound to nobody. */
    dp_mac_table_forget(s, 2);
    CHECK(!dp_mac_table_is_taken(s, one, 3, true, 8));
    CHECK(!dp_mac_table_leave(s, 2));
    free(s);
}

static void test_groups_and_nobody_are_not_learned(void)
{
    struct dp_mac_table *s = empty();

    dp_mac_table_learn(s, group, 0, 1, false, 1);
    dp_mac_table_learn(s, zero, 0, 1, false, 1);
    CHECK_EQUAL(dp_mac_table_find(s, group, 0, 1), DP_PORT_UNKNOWN);
    CHECK_EQUAL(dp_mac_table_find(s, zero, 0, 1), DP_PORT_UNKNOWN);
    free(s);
}

static void test_made_up_macs_take_the_places_of_the_silent(void)
{
    struct dp_mac_table *s = empty();
    uint8_t mac[6] = {0x02, 0xff, 0, 0, 0, 0};
    uint32_t known = 0;

    for (uint32_t i = 0; i < 200000; i++) {
        memcpy(mac + 2, &i, 4);
        dp_mac_table_learn(s, mac, 0, 1, false, 1 + i / 1000);
        known += dp_mac_table_find(s, mac, 0, 1 + i / 1000) == 1;
    }
    CHECK_EQUAL(known, 200000);
    free(s);
}

/* Who must not have others' MACs takes none that is known, keeps what it has, and takes nobody's place. */
static void test_a_bound_port_takes_nothing(void)
{
    struct dp_mac_table *s = empty();
    uint8_t mac[6] = {0x02, 0xff, 0, 0, 0, 0};
    uint32_t late = 11 + DP_STATION_LIFE_S;

    dp_mac_table_learn(s, one, 0, 3, false, 10);
    CHECK(dp_mac_table_is_taken(s, one, 4, true, 11));
    CHECK(!dp_mac_table_is_taken(s, one, 4, false, 11));
    dp_mac_table_learn(s, one, 0, 4, true, 11);
    CHECK_EQUAL(dp_mac_table_find(s, one, 0, 11), 3);
    for (uint32_t i = 0; i < 200000; i++) {
        memcpy(mac + 2, &i, 4);
        dp_mac_table_learn(s, mac, 0, 4, true, 12);
    }
    CHECK_EQUAL(dp_mac_table_find(s, one, 0, 12), 3);
    /* Silent for long, it is anybody's; then it stays where it is. */
    dp_mac_table_learn(s, one, 0, 4, true, late);
    CHECK_EQUAL(dp_mac_table_find(s, one, 0, late), 4);
    CHECK(dp_mac_table_is_taken(s, one, 3, false, late));
    dp_mac_table_learn(s, one, 0, 3, false, late);
    CHECK_EQUAL(dp_mac_table_find(s, one, 0, late), 4);
    free(s);
}

static void learn_made_up(struct dp_mac_table *s, uint32_t port, bool bound, uint32_t n, uint32_t now_s)
{
    uint8_t mac[6] = {0x02, 0xff, 0, 0, 0, 0};

    for (uint32_t i = 0; i < n; i++) {
        memcpy(mac + 2, &i, 4);
        dp_mac_table_learn(s, mac, 0, port, bound, now_s);
    }
}

/* Who is no instance crowds nobody out who is bound and not silent; later it may. */
static void test_what_is_bound_gives_way_to_nobody(void)
{
    struct dp_mac_table *s = empty();
    uint32_t late = 10 + DP_STATION_LIFE_S;

    dp_mac_table_learn(s, one, 0, 3, true, 10);
    learn_made_up(s, 5, false, 200000, 11);
    dp_mac_table_learn(s, one, 0, 5, false, 11);
    CHECK_EQUAL(dp_mac_table_find(s, one, 0, 11), 3);
    CHECK(dp_mac_table_is_taken(s, one, 5, false, 11));
    CHECK(!dp_mac_table_is_taken(s, one, 3, true, 11));
    /* Nor is one that speaks for the first time now kept from being known. */
    dp_mac_table_learn(s, two, 0, 4, true, 12);
    CHECK_EQUAL(dp_mac_table_find(s, two, 0, 12), 4);
    learn_made_up(s, 5, false, 200000, late);
    dp_mac_table_learn(s, one, 0, 5, false, late);
    CHECK_EQUAL(dp_mac_table_find(s, one, 0, late), 5);
    free(s);
}

/* An instance has few MACs: of more, those of its own go that were silent longest, and others find room. */
static void test_a_bound_port_has_few_macs(void)
{
    struct dp_mac_table *s = empty();
    struct dp_station station[16];
    uint8_t mac[6] = {0x02, 0xff, 0, 0, 0, 0};
    uint32_t i;

    learn_made_up(s, 4, true, 200000, 10);
    CHECK_EQUAL(dp_mac_table_list(s, 10, station, 16), DP_STATION_BOUND);
    for (uint32_t n = 0; n < DP_STATION_BOUND; n++) {
        i = 199999 - n;
        memcpy(mac + 2, &i, 4);
        CHECK_EQUAL(dp_mac_table_find(s, mac, 0, 10), 4);
    }
    /* The first of the four is heard again, so the second goes. */
    i = 199996;
    memcpy(mac + 2, &i, 4);
    dp_mac_table_learn(s, mac, 0, 4, true, 11);
    dp_mac_table_learn(s, one, 0, 4, true, 11);
    CHECK_EQUAL(dp_mac_table_find(s, mac, 0, 11), 4);
    i++;
    memcpy(mac + 2, &i, 4);
    CHECK_EQUAL(dp_mac_table_find(s, mac, 0, 11), DP_PORT_UNKNOWN);
    CHECK_EQUAL(dp_mac_table_find(s, one, 0, 11), 4);
    dp_mac_table_learn(s, two, 0, 6, true, 11);
    CHECK_EQUAL(dp_mac_table_find(s, two, 0, 11), 6);
    CHECK_EQUAL(dp_mac_table_list(s, 11, station, 16), DP_STATION_BOUND + 1);
    free(s);
}

static uint32_t set_with_one(const struct dp_mac_table *s)
{
    uint32_t set = 0;

    while (set < DP_STATION_SETS && !s->entry[set][0].key)
        set++;
    return set;
}

/* Who does not know the secret does not know which MACs share a set. */
static void test_the_secret_says_where_a_mac_is(void)
{
    uint32_t differ = 0;

    for (uint64_t i = 1; i <= 16; i++) {
        uint64_t secret[DP_STATION_SECRET] = {i * 0xff51afd7ed558ccdu, i * 0xc4ceb9fe1a85ec53u, i << 33};
        struct dp_mac_table *s = empty(), *other = empty();

        dp_mac_table_init(other, secret);
        dp_mac_table_learn(s, one, 0, 3, false, 1);
        dp_mac_table_learn(other, one, 0, 3, false, 1);
        differ += set_with_one(s) != set_with_one(other);
        free(s);
        free(other);
    }
    CHECK(differ >= 12);
}

/* A tag makes no difference to whose a MAC is (docs/ports.md, Who may send as whom). */
static void test_what_is_bound_is_so_in_every_vlan(void)
{
    struct dp_mac_table *s = empty();
    struct dp_station station[4];

    dp_mac_table_learn(s, one, 0, 3, false, 10);
    dp_mac_table_learn(s, two, 7, 3, false, 10);
    for (uint16_t vlan = 0; vlan < 10; vlan++) {
        dp_mac_table_learn(s, one, vlan, 4, true, 11);
        dp_mac_table_learn(s, two, vlan, 4, true, 11);
    }
    CHECK_EQUAL(dp_mac_table_find(s, one, 0, 11), 3);
    CHECK_EQUAL(dp_mac_table_find(s, one, 7, 11), DP_PORT_UNKNOWN);
    CHECK_EQUAL(dp_mac_table_find(s, two, 7, 11), 3);
    CHECK_EQUAL(dp_mac_table_find(s, two, 0, 11), DP_PORT_UNKNOWN);
    CHECK(dp_mac_table_is_taken(s, two, 4, true, 11));
    CHECK(!dp_mac_table_is_taken(s, two, 5, false, 11));
    CHECK_EQUAL(dp_mac_table_list(s, 11, station, 4), 2);
    dp_mac_table_forget(s, 3);
    dp_mac_table_learn(s, two, 9, 4, true, 12);
    for (uint16_t vlan = 0; vlan < 10; vlan++) {
        CHECK_EQUAL(dp_mac_table_find(s, two, vlan, 12), 4);
        dp_mac_table_learn(s, two, vlan, 3, false, 12);
        CHECK_EQUAL(dp_mac_table_find(s, two, vlan, 12), 4);
    }
    CHECK(dp_mac_table_is_taken(s, two, 3, false, 12));
    CHECK_EQUAL(dp_mac_table_list(s, 12, station, 4), 1);
    free(s);
}

/* Where the sender of a frame is after it met `record` at a port with this guard, in a switch that knows nobody. */
static uint32_t taught(enum dp_guard guard, uint8_t verdict, uint8_t checks, uint8_t reason, uint8_t cause)
{
    uint8_t bytes[60] = {0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1, 0x88, 0xb5};
    struct dp_frame frame = {.data = bytes, .captured = sizeof bytes, .length = sizeof bytes};
    struct dp_bindings *nobody = calloc(1, sizeof *nobody);
    struct dp_place place = {.zone = {DP_NO_ZONE, 0}, .port = 4, .served = nobody, .guard = (uint8_t)guard};
    struct dp_record record = {.verdict = verdict, .checks = checks};
    struct dp_endpoints *endpoints = NULL;
    struct dp_mac_table *s = empty();
    uint32_t port;

    record.check[0].verdict = verdict;
    record.check[0].reason = reason;
    record.check[0].cause = cause;
    CHECK_EQUAL(dp_endpoints_new(NULL, 0, NULL, 0, NULL, 0, NULL, 0, &endpoints), 0);
    dp_frame_teach(s, nobody, endpoints, &frame, &place, &record, 10);
    port = dp_mac_table_find(s, one, 0, 10);
    dp_endpoints_free(endpoints);
    free(nobody);
    free(s);
    return port;
}

/* An instance whose MAC the policy does not tell gets none by what is refused, or not yet let out. */
static void test_what_is_not_let_out_of_an_instance_teaches_nothing(void)
{
    static const uint8_t causes[] = {0,
                                     DP_CAUSE_NOT_IP,
                                     DP_CAUSE_SPOOFED,
                                     DP_CAUSE_CONTROL_RATE,
                                     DP_CAUSE_ARP,
                                     DP_CAUSE_BAD_CHECKSUM,
                                     DP_CAUSE_FRAGMENT_LIMIT,
                                     DP_CAUSE_TCP_WINDOW};

    for (uint32_t i = 0; i < sizeof causes; i++)
        for (uint8_t reason = 0; reason < DP_REASONS; reason++)
            CHECK_EQUAL(taught(DP_GUARD_INSTANCE, DP_DENY, 1, reason, causes[i]), DP_PORT_UNKNOWN);
    CHECK_EQUAL(taught(DP_GUARD_INSTANCE, DP_WAITING, 0, 0, 0), DP_PORT_UNKNOWN);
    CHECK_EQUAL(taught(DP_GUARD_INSTANCE, DP_ALLOW, 1, DP_REASON_RULE, 0), 4);
    CHECK_EQUAL(taught(DP_GUARD_INSTANCE, DP_ALLOW, 1, DP_REASON_CONTROL, 0), 4);
    /* Elsewhere it is who was refused for what it is that teaches nothing. */
    CHECK_EQUAL(taught(DP_GUARD_OUTSIDE, DP_DENY, 1, DP_REASON_NO_RULE_MATCHED, 0), 4);
    CHECK_EQUAL(taught(DP_GUARD_OUTSIDE, DP_WAITING, 0, 0, 0), 4);
    CHECK_EQUAL(taught(DP_GUARD_OUTSIDE, DP_DENY, 1, DP_REASON_INVALID, DP_CAUSE_SPOOFED), DP_PORT_UNKNOWN);
    CHECK_EQUAL(taught(DP_GUARD_OUTSIDE, DP_DENY, 0, 0, 0), DP_PORT_UNKNOWN);
}

int main(void)
{
    RUN(test_a_station_is_where_it_was_heard_last);
    RUN(test_a_silent_station_is_forgotten);
    RUN(test_stations_are_listed_and_forgotten);
    RUN(test_a_port_that_leaves_keeps_what_is_bound_to_it);
    RUN(test_groups_and_nobody_are_not_learned);
    RUN(test_made_up_macs_take_the_places_of_the_silent);
    RUN(test_a_bound_port_takes_nothing);
    RUN(test_what_is_bound_gives_way_to_nobody);
    RUN(test_a_bound_port_has_few_macs);
    RUN(test_the_secret_says_where_a_mac_is);
    RUN(test_what_is_bound_is_so_in_every_vlan);
    RUN(test_what_is_not_let_out_of_an_instance_teaches_nothing);
    return check_result("test_mac_table");
}
