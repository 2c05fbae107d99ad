/*
 * test_plane.c: what is judged does not depend on how many shards there are: the same frames, from the ports of
 * instances and an uplink, by planes of 1, 2 and 4, with changes on the way; and what a plane counts, lists, saves and
 * restores is that of all its shards.
 */
#include "check.h"
#include "pipeline.h"
#include "plane.h"
#include "shard.h"

#include <stdlib.h>

enum { PLANES = 3, FRAMES = 40000, A, B, UPLINK, BYTES = 128, DENIED = 200 };

static const uint32_t shards_of[PLANES] = {1, 2, 4};

struct scene {
    struct dp_plane *plane;
    struct dp_endpoints *endpoints;
    struct dp_rule_table *in;
    struct dp_rule_table *out;
    struct dp_conntrack_config config;
    struct dp_bindings served;
};

static const struct dp_port ports[] = {[A] = {.zone = 0, .guarded = 1}, [B] = {.zone = 1}, [UPLINK] = {.zone = -1}};

static uint64_t update(struct scene *s, bool cuts, uint64_t now)
{
    static const uint32_t cut[1] = {1};
    struct dp_zone_tables zones[2] = {{.table = {{s->in, NULL}, {s->out, NULL}}},
                                      {.zone = 1, .table = {{s->in, NULL}, {s->out, NULL}}}};
    struct dp_rule_address revocation = {{192, 0, 2, 3}, 4, 1};
    uint64_t disconnected[1] = {0};
    struct dp_policy_update change = {.zones = zones,
                                      .n_zones = 2,
                                      .endpoints = s->endpoints,
                                      .config = &s->config,
                                      .cut = cut,
                                      .n_cut = cuts,
                                      .revocations = &revocation,
                                      .n_revocations = !cuts,
                                      .disconnected = disconnected,
                                      .time_ns = now};
    struct dp_policy_update rehearsed = change;
    uint64_t foreseen;

    CHECK_EQUAL(dp_plane_rehearse(s->plane, &rehearsed), 0);
    foreseen = disconnected[0] + rehearsed.revoked;
    CHECK_EQUAL(dp_plane_update(s->plane, &change), 0);
    CHECK_EQUAL(disconnected[0] + change.revoked, foreseen);
    return foreseen;
}

static bool make(struct scene *s, uint32_t shards)
{
    static const uint64_t seed[2] = {1, 2};
    struct dp_selector selectors[2] = {{17 << 16 | 50, 17 << 16 | 55}, {0, 0xffffff}};
    struct dp_rule rules[2] = {{1, DP_REMOTE_ANY, 0, 1, DP_ALLOW}, {2, DP_REMOTE_ANY, 1, 1, DP_ALLOW}};
    struct dp_holding holdings[2] = {{{{10, 0, 0, 1}, 32}, 4, 0, 0}, {{{10, 0, 0, 2}, 32}, 4, 1, 0}};

    memset(s, 0, sizeof *s);
    s->config.max_entries = 100000;
    for (int state = 0; state < DP_CONN_STATES; state++)
        s->config.timeout_ns[state] = 3000000000u;
    for (uint32_t port = A; port <= UPLINK; port++)
        dp_bindings_add(&s->served, port, &ports[port]);
    if (!CHECK_EQUAL(dp_plane_new(&s->config, seed, shards, &s->plane), 0) ||
        !CHECK_EQUAL(dp_endpoints_new(holdings, 2, NULL, 0, NULL, 0, NULL, 0, &s->endpoints), 0) ||
        !CHECK_EQUAL(dp_rule_table_new(4, &rules[0], 1, NULL, 0, NULL, 0, selectors, 2, &s->in), 0) ||
        !CHECK_EQUAL(dp_rule_table_new(4, &rules[1], 1, NULL, 0, NULL, 0, selectors, 2, &s->out), 0))
        return false;
    update(s, false, 1);
    return true;
}

static void unmake(struct scene *s)
{
    dp_plane_free(s->plane);
    dp_endpoints_free(s->endpoints);
    dp_rule_table_free(s->in);
    dp_rule_table_free(s->out);
}

/* ---- frames: ports, addresses and fragments at random, so that connections, answers and datagrams come about ---- */

static uint32_t draw(uint64_t *state, uint32_t n)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33) % n;
}

static void set_ip(uint8_t *p, uint8_t protocol, uint16_t length, const uint8_t *from, const uint8_t *to)
{
    p[0] = 0x45;
    p[2] = (uint8_t)(length >> 8);
    p[3] = (uint8_t)length;
    p[8] = 64;
    p[9] = protocol;
    memcpy(p + 12, from, 4);
    memcpy(p + 16, to, 4);
}

/* UDP, whole or a fragment of it; answers; and errors that quote it. Returns the frame's length. */
static uint32_t compose(uint64_t *state, uint8_t *frame, uint32_t *from)
{
    uint8_t instance[4] = {10, 0, 0, 1}, host[4] = {192, 0, 2, (uint8_t)draw(state, 8)}, *p = frame + 14, *udp;
    uint32_t to_instance = draw(state, 2), kind = draw(state, 8), which = draw(state, 2);
    const uint8_t *source = to_instance ? host : instance, *target = to_instance ? instance : host;
    uint8_t local = (uint8_t)(48 + draw(state, 9));

    memset(frame, 0, BYTES);
    instance[3] = (uint8_t)(1 + which);
    if (draw(state, 8) == 0)
        memcpy(host, (uint8_t[]){10, 0, 0, (uint8_t)(2 - which)}, 4); /* the other instance here */
    *from = to_instance ? (host[0] == 10 ? A + 1 - which : (uint32_t)UPLINK) : A + which;
    memcpy(frame, (uint8_t[]){2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 1, (uint8_t)*from, 8, 0}, 14);
    if (kind == 0) { /* an error about what went the other way, from or to a router on it */
        uint8_t router[4] = {192, 0, 2, (uint8_t)(100 + draw(state, 8))};

        set_ip(p, 1, 20 + 8 + 28, to_instance ? router : source, to_instance ? target : router);
        *from = to_instance ? (uint32_t)UPLINK : *from;
        p[20] = 3;
        p[21] = 3;
        p += 28;
        set_ip(p, 17, 28, target, source);
    } else {
        set_ip(p, 17, 20 + 32, source, target);
    }
    udp = p + 20;
    udp[to_instance ^ (kind == 0) ? 3 : 1] = local;
    udp[to_instance ^ (kind == 0) ? 1 : 3] = 99;
    udp[5] = 32;
    if (kind == 1 || kind == 2) { /* of two pieces, in any order: 24 bytes, then 8 */
        p[5] = (uint8_t)draw(state, 3);
        p[3] = kind == 1 ? 20 + 24 : 20 + 8;
        p[6] = kind == 1 ? 0x20 : 0;
        p[7] = kind == 1 ? 0 : 3;
    }
    return 14 + 20 + 32 + (kind == 0 ? 28 : 0);
}

/* ---- judging ---- */

static struct dp_record records[PLANES][FRAMES];
static uint32_t frame_of[4][FRAMES]; /* by shard and its own number: the frame */

static void take(struct scene *s, uint32_t plane)
{
    struct dp_resolution resolution;

    for (uint32_t i = 0; i < s->plane->shards; i++)
        while (dp_engine_resolved(s->plane->shard[i], &resolution, 1) == 1)
            records[plane][frame_of[i][resolution.number]] = resolution.record;
}

static void judge_all(struct scene *s, uint32_t plane, uint64_t *disconnected)
{
    uint64_t state = 42, now = 1000000000u;

    for (uint32_t i = 0; i < FRAMES; i++) {
        uint8_t bytes[BYTES];
        uint32_t from, length = compose(&state, bytes, &from), shard;
        const struct dp_port *out = bytes[14 + 16] == 10 ? &ports[A + bytes[14 + 19] - 1] : &ports[UPLINK];
        struct dp_frame frame = {.data = bytes, .captured = length, .length = length, .time_ns = now};
        struct dp_packet packet;
        struct dp_place place;

        now += draw(&state, 2000000);
        dp_packet_parse(&frame, &packet);
        shard = dp_shard_of_packet(s->plane->shards, &packet, 0);
        /* Time passes for all, as it does for workers. */
        for (uint32_t k = 0; k < s->plane->shards; k++)
            dp_engine_advance(s->plane->shard[k], frame.time_ns);
        frame_of[shard][dp_engine_frames(s->plane->shard[shard])] = i;
        dp_place_make(&place, &s->served, &ports[from], out);
        place.port = from;
        dp_engine_process_at(s->plane->shard[shard], &frame, &place, 1, &records[plane][i], NULL);
        take(s, plane);
        if (i % 4000 == 3999)
            disconnected[i / 4000] = update(s, i / 4000 % 2, now);
    }
    for (uint32_t k = 0; k < s->plane->shards; k++)
        dp_engine_give_up(s->plane->shard[k], UINT64_MAX);
    take(s, plane);
}

static uint64_t saved_and_restored(struct scene *from)
{
    struct dp_connection_filter all = {.zone = -1, .origin = -1, .protocol = -1, .disconnected = -1};
    static struct dp_saved_connection saved[4096];
    struct scene to;
    uint64_t cursor = 0, count = dp_plane_count(from->plane, &all, NULL), n = 0, taken = 0;
    int some;

    if (!make(&to, 3))
        return 0;
    for (uint32_t k = 0; k < 3; k++)
        dp_engine_advance(to.plane->shard[k], 1000000000000u);
    while ((some = dp_plane_save(from->plane, NULL, &cursor, saved, 100)) > 0) {
        n += (uint64_t)some;
        taken += (uint64_t)dp_plane_restore(to.plane, saved, (uint32_t)some, 0, DP_RESTORE_MISSING, NULL);
    }
    CHECK_EQUAL(n, count);
    CHECK_EQUAL(taken, count);
    CHECK_EQUAL(dp_plane_count(to.plane, &all, NULL), count);
    CHECK_EQUAL(dp_plane_flush(to.plane, &all), count);
    unmake(&to);
    return count;
}

static void test_verdicts_do_not_depend_on_the_number_of_shards(void)
{
    static uint64_t disconnected[PLANES][FRAMES / 4000];
    struct dp_counters counters[PLANES];
    struct dp_rule_counter rules[PLANES][3];
    static struct dp_denied denied[PLANES][DENIED];
    uint64_t live[PLANES];

    for (uint32_t plane = 0; plane < PLANES; plane++) {
        struct scene s;

        if (!make(&s, shards_of[plane]))
            return;
        judge_all(&s, plane, disconnected[plane]);
        dp_plane_counters(s.plane, &counters[plane]);
        dp_plane_rule_counters(s.plane, rules[plane], 3);
        CHECK(dp_plane_denied(s.plane, denied[plane], DENIED) > 5);
        live[plane] = saved_and_restored(&s);
        unmake(&s);
        if (plane == 0)
            continue;
        for (uint32_t i = 0; i < FRAMES; i++)
            if (!CHECK_EQUAL(memcmp(&records[0][i], &records[plane][i], sizeof records[0][i]), 0)) {
                fprintf(stderr, "  frame %u of %u shards\n", i, shards_of[plane]);
                break;
            }
        CHECK_EQUAL(memcmp(disconnected[0], disconnected[plane], sizeof disconnected[0]), 0);
        CHECK_EQUAL(memcmp(counters[0].check, counters[plane].check, sizeof counters[0].check), 0);
        CHECK_EQUAL(memcmp(counters[0].verdict, counters[plane].verdict, sizeof counters[0].verdict), 0);
        CHECK_EQUAL(counters[0].connections_opened, counters[plane].connections_opened);
        CHECK_EQUAL(counters[0].connections_disconnected, counters[plane].connections_disconnected);
        CHECK_EQUAL(memcmp(rules[0], rules[plane], sizeof rules[0]), 0);
        for (uint32_t i = 0; i < 5; i++)
            CHECK_EQUAL(denied[0][i].count.packets, denied[plane][i].count.packets);
        CHECK_EQUAL(live[0], live[plane]);
    }
    /* All of it came about. */
    for (int reason = DP_REASON_RULE; reason <= DP_REASON_INVALID; reason++)
        CHECK(counters[0].check[DP_ALLOW][reason].packets + counters[0].check[DP_DENY][reason].packets > 0);
    CHECK(disconnected[0][1] > 0 && disconnected[0][2] > 0);
    CHECK(live[0] > 0);
}

/* ---- the bound of the table (SPEC 4.9) ---- */

enum { ENTRIES = 400 };

/* Opens a connection from an instance by its number; true if it has got an entry. */
static bool open_one(struct dp_plane *p, uint8_t instance, uint8_t host, uint32_t number)
{
    uint8_t bytes[14 + 28] = {[12] = 8}, from[4] = {10, 0, 0, instance}, to[4] = {192, 0, 2, host};
    struct dp_frame frame = {.data = bytes, .captured = sizeof bytes, .length = sizeof bytes, .time_ns = 10};
    struct dp_record record;
    struct dp_packet packet;

    set_ip(bytes + 14, 17, 28, from, to);
    bytes[34] = (uint8_t)(number >> 8);
    bytes[35] = (uint8_t)number;
    bytes[37] = 99;
    bytes[39] = 8;
    dp_packet_parse(&frame, &packet);
    dp_engine_process(p->shard[dp_shard_of_packet(p->shards, &packet, 0)], &frame, 1, &record, NULL);
    return record.verdict == DP_ALLOW;
}

static uint64_t entries_of(struct dp_plane *p)
{
    struct dp_counters counters;

    dp_plane_counters(p, &counters);
    CHECK_EQUAL(counters.max_entries, ENTRIES);
    CHECK(counters.entries <= ENTRIES);
    return counters.entries;
}

/* The shard of what is between two. */
static uint32_t shard_between(const struct dp_plane *p, uint8_t instance, uint8_t host)
{
    union dp_address a = {{0}}, b = {{0}};

    memcpy(&a, (uint8_t[]){10, 0, 0, instance}, 4);
    memcpy(&b, (uint8_t[]){192, 0, 2, host}, 4);
    return dp_shard_of(p->shards, 4, &a, &b);
}

static void fill(bool tentative)
{
    struct scene s;
    uint32_t admitted = 0, other;
    uint8_t host = 10;

    if (!make(&s, 4))
        return;
    s.config.max_entries = ENTRIES;
    for (int state = 0; state < DP_CONN_STATES; state++)
        s.config.tentative[state] = tentative;
    update(&s, false, 2);
    /* All connections are on one shard: they get nearly all of the table, and never more. */
    for (uint32_t i = 0; i < 3 * ENTRIES; i++) {
        admitted += open_one(s.plane, 1, 9, i);
        if (i % 20 == 0)
            dp_plane_balance(s.plane);
        (void)entries_of(s.plane);
    }
    CHECK(entries_of(s.plane) >= ENTRIES - 4);
    CHECK(tentative ? admitted == 3 * ENTRIES : admitted <= ENTRIES);
    /* Another instance's, on another shard, get their equal part back. */
    while (shard_between(s.plane, 2, host) == shard_between(s.plane, 1, 9))
        host++;
    other = shard_between(s.plane, 2, host);
    for (uint32_t i = 0; i < 3 * ENTRIES; i++) {
        open_one(s.plane, 2, host, i);
        if (i % 20 == 0)
            dp_plane_balance(s.plane);
        (void)entries_of(s.plane);
    }
    CHECK(s.plane->shard[other]->conntrack.table.count >= ENTRIES / 4 - 4);
    unmake(&s);
}

static void test_the_bound_is_the_planes(void)
{
    fill(false);
}

static void test_the_bound_is_the_planes_under_a_flood(void)
{
    fill(true);
}

int main(void)
{
    struct dp_plane *plane;
    struct dp_conntrack_config config = {.max_entries = 100};
    uint64_t seed[2] = {1, 2};

    CHECK_EQUAL(dp_plane_new(&config, seed, 0, &plane), DP_E_ARGUMENT);
    CHECK_EQUAL(dp_plane_new(&config, seed, DP_SHARDS_MAX + 1, &plane), DP_E_ARGUMENT);
    RUN(test_verdicts_do_not_depend_on_the_number_of_shards);
    RUN(test_the_bound_is_the_planes);
    RUN(test_the_bound_is_the_planes_under_a_flood);
    return check_result("test_plane");
}
