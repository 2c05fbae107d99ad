/*
 * two_ways.h: two engines that are brought the same, of which one takes the fast path where it can and the other never
 * does, held against each other: what is read, records, flows, counters, denied flows, what observers of connections
 * are told, and every byte of the connection entries.
 *
 * What goes wrong aborts: this serves a test and a fuzzer.
 */
#ifndef DP_TEST_TWO_WAYS_H
#define DP_TEST_TWO_WAYS_H

#include "denied_flows.h"
#include "fast_path.h"
#include "pipeline.h"
#include "plane.h"
#include "settings.h"

#include <stdlib.h>

enum { TWO_WAYS_FRAMES = 96, TWO_WAYS_ZONES = 8 };

struct two_ways {
    struct dp_plane *plane[2];
    struct dp_engine *engine[2]; /* the second goes the long way */
    struct dp_conntrack_config config;
    struct dp_rule_table *table[2];
    uint64_t seen[2]; /* a sum over what the observers of connections are told, and when */
    uint64_t taken;   /* frames that could begin the fast path, */
    uint64_t cached;  /* and those of them that the flow cache had an entry for */
};

static inline void two_ways_observe(struct two_ways *w, int i, enum dp_connection_event event, uint32_t entry)
{
    const struct dp_engine *engine = w->engine[i];
    const struct dp_entry *e = &engine->conntrack.table.entries[entry];
    const uint64_t told[] = {event, entry, engine->frames, engine->conntrack.now, e->state, e->last_ns};

    for (size_t k = 0; k < sizeof told / sizeof *told; k++)
        w->seen[i] = (w->seen[i] ^ told[k]) * 0x100000001b3u;
}

static inline void two_ways_observe_first(void *owner, enum dp_connection_event event, uint32_t entry)
{
    two_ways_observe(owner, 0, event, entry);
}

static inline void two_ways_observe_second(void *owner, enum dp_connection_event event, uint32_t entry)
{
    two_ways_observe(owner, 1, event, entry);
}

/*
 * The rules of a family: TCP to port 53 is denied, all else allowed. A large table, which is asked about the first
 * packets of a burst together, allows some of it by rules of their own before: one for each of many remotes, which many
 * of those are who speak here, and one for half of all.
 */
static inline struct dp_rule_table *two_ways_rules(int six, uint32_t others)
{
    enum { OTHERS_MAX = 2000 };
    static const struct dp_selector selectors[] = {{DP_PROTO_TCP << 16 | 53, DP_PROTO_TCP << 16 | 53},
                                                   {DP_PROTO_TCP << 16 | 80, DP_PROTO_TCP << 16 | 80},
                                                   {DP_PROTO_UDP << 16 | 53, DP_PROTO_UDP << 16 | 80},
                                                   {0, 0xffffff}};
    static struct dp_rule rules[OTHERS_MAX + 3];
    static struct dp_remote remotes[OTHERS_MAX + 1];
    static struct dp_prefix prefixes[OTHERS_MAX + 1];
    struct dp_rule_table *table;
    uint32_t n = 0;

    rules[n++] = (struct dp_rule){1, DP_REMOTE_ANY, 0, 1, DP_DENY};
    for (uint32_t i = 0; i < others; i++) {
        struct dp_prefix four = {{10, 0, (uint8_t)(i >> 8), (uint8_t)i}, 32};
        struct dp_prefix wide = {{0x20, 1, 0xd, 0xb8, [14] = (uint8_t)(i >> 8), [15] = (uint8_t)i}, 128};

        remotes[i] = (struct dp_remote){i, 1};
        prefixes[i] = six ? wide : four;
        rules[n++] = (struct dp_rule){3 + i, (int32_t)i, 1 + i % 3, 1, DP_ALLOW};
    }
    if (others) {
        remotes[others] = (struct dp_remote){others, 1};
        prefixes[others] = (struct dp_prefix){{0}, 1};
        rules[n++] = (struct dp_rule){3 + others, (int32_t)others, 2, 1, DP_ALLOW};
        others++;
    }
    rules[n++] = (struct dp_rule){2, DP_REMOTE_ANY, 3, 1, DP_ALLOW};
    if (dp_rule_table_new(six ? 6 : 4, rules, n, remotes, others, prefixes, others, selectors, 4, &table) < 0)
        abort();
    return table;
}

/* That of a family, which is made once. */
static inline const struct dp_rule_table *two_ways_large_rules(int six)
{
    static struct dp_rule_table *table[2];

    if (!table[six])
        table[six] = two_ways_rules(six, 2000);
    return table[six];
}

/* Puts in force who holds which address, in zones below TWO_WAYS_ZONES, all of which may do nearly everything; cuts
 * zone 1. */
static inline void two_ways_update(struct two_ways *w, const struct dp_holding *holdings, uint32_t n)
{
    static const uint32_t cut[1] = {1};
    struct dp_zone_tables zones[TWO_WAYS_ZONES] = {{0}};
    struct dp_endpoints *endpoints;

    if (dp_endpoints_new(holdings, n, NULL, 0, NULL, 0, NULL, 0, &endpoints) < 0)
        abort();
    for (uint32_t z = 0; z < TWO_WAYS_ZONES; z++) {
        zones[z].zone = z;
        for (int d = 0; d < 2; d++)
            for (int f = 0; f < 2; f++)
                zones[z].table[d][f] = z & 1 ? two_ways_large_rules(f) : w->table[f];
    }
    for (int i = 0; i < 2; i++) {
        struct dp_policy_update update = {.zones = zones,
                                          .n_zones = TWO_WAYS_ZONES,
                                          .endpoints = endpoints,
                                          .config = &w->config,
                                          .cut = cut,
                                          .n_cut = 1};

        if (dp_plane_update(w->plane[i], &update) < 0)
            abort();
    }
    dp_endpoints_free(endpoints);
}

static inline void two_ways_new(struct two_ways *w, const struct dp_holding *holdings, uint32_t n)
{
    static const uint64_t seed[2] = {1, 2};

    *w = (struct two_ways){.config = settings_in_which_all_goes_on()};
    for (int f = 0; f < 2; f++)
        w->table[f] = two_ways_rules(f, 0);
    for (int i = 0; i < 2; i++) {
        if (dp_plane_new(&w->config, seed, 1, &w->plane[i]) < 0)
            abort();
        w->engine[i] = dp_plane_shard(w->plane[i], 0);
        w->engine[i]->long_way = i;
        dp_conntrack_observe(&w->engine[i]->conntrack, i ? two_ways_observe_second : two_ways_observe_first, w);
    }
    two_ways_update(w, holdings, n);
}

static inline void two_ways_free(struct two_ways *w)
{
    for (int i = 0; i < 2; i++) {
        dp_plane_free(w->plane[i]);
        dp_rule_table_free(w->table[i]);
    }
}

/* Whether entries are the same but for what the flow cache marks, which is the fast path's alone. */
static inline bool two_ways_have_entries(const struct dp_flow_table *s, const struct dp_flow_table *t)
{
    for (uint32_t i = 0; i <= s->high; i++) {
        struct dp_entry a = s->entries[i], b = t->entries[i];

        a.flags &= (uint8_t)~DP_ENTRY_ALONE;
        if (b.flags & DP_ENTRY_ALONE || memcmp(&a, &b, sizeof a) != 0)
            return false;
    }
    return true;
}

/* Whether the engines have come to the same. */
static inline bool two_ways_agree(const struct two_ways *w)
{
    const struct dp_engine *a = w->engine[0], *b = w->engine[1];
    const struct dp_flow_table *s = &a->conntrack.table, *t = &b->conntrack.table;
    static struct dp_counters counters[2];

    memset(counters, 0, sizeof counters);
    dp_plane_counters(w->plane[0], &counters[0]);
    dp_plane_counters(w->plane[1], &counters[1]);
    return memcmp(&counters[0], &counters[1], sizeof counters[0]) == 0 && a->frames == b->frames &&
           w->seen[0] == w->seen[1] && a->conntrack.now == b->conntrack.now &&
           a->n_rule_counters == b->n_rule_counters &&
           memcmp(a->rule_counters, b->rule_counters, a->n_rule_counters * sizeof *a->rule_counters) == 0 &&
           s->high == t->high && s->free == t->free && s->pair_high == t->pair_high && two_ways_have_entries(s, t) &&
           memcmp(s->pairs, t->pairs, ((size_t)s->pair_high + 1) * sizeof *s->pairs) == 0;
}

/* Whether they have denied the same flows. */
static inline bool two_ways_deny_alike(const struct two_ways *w)
{
    static struct dp_denied denied[2][DP_DENIED_KEPT];
    uint32_t n;

    /* The verdicts agree: where none denies, neither has a flow. */
    if (!w->engine[0]->counters.verdict[DP_DENY].packets && !w->engine[1]->counters.verdict[DP_DENY].packets)
        return true;
    n = dp_denied_all(w->engine[0]->denied, denied[0]);
    return n == dp_denied_all(w->engine[1]->denied, denied[1]) &&
           memcmp(denied[0], denied[1], n * sizeof denied[0][0]) == 0;
}

/* Brings frames to an engine as the shares of two shards: every other of them, then the rest. */
static inline void two_ways_process_shares(struct dp_engine *engine, const struct dp_frame *frames, uint32_t n,
                                           struct dp_record *records, struct dp_flow *flows)
{
    uint64_t latest[TWO_WAYS_FRAMES], now = engine->conntrack.now, first = engine->frames;
    struct dp_denied_frame denied[TWO_WAYS_FRAMES];
    struct dp_selected some[TWO_WAYS_FRAMES];

    for (uint32_t i = 0; i < n; i++)
        latest[i] = now = frames[i].time_ns > now ? frames[i].time_ns : now;
    for (uint32_t share = 0; share < 2; share++) {
        uint32_t k = 0;

        for (uint32_t i = share; i < n; i += 2)
            some[k++] = (struct dp_selected){.frame = frames[i], .now_ns = latest[i], .at = i};
        dp_engine_process_selected(engine, some, k, first, records, flows, denied);
    }
    engine->frames = first + n;
    for (uint32_t i = 0; i < n; i++)
        if (records[i].verdict == DP_DENY)
            dp_count_denied_frame(engine->denied, &frames[i], &records[i], engine->counters.consequences);
}

/* Whether a packet on its short way, written over what another left in memory, is as the long way reads it. */
static inline bool two_ways_read_alike(const struct dp_fast *fast, const struct dp_frame *frame)
{
    const size_t size = fast->family == 4 ? 4 : 16;
    struct dp_packet first, second;

    memset(&first, 0xff, sizeof first);
    first.kind = DP_PACKET_ARP;
    dp_fast_packet_of(fast, &first);
    dp_packet_parse(frame, &second);
    return first.kind == second.kind && first.cause == second.cause && first.family == second.family &&
           first.protocol == second.protocol && memcmp(&first.source, &second.source, size) == 0 &&
           memcmp(&first.destination, &second.destination, size) == 0 && first.source_port == second.source_port &&
           first.destination_port == second.destination_port && first.selector == second.selector &&
           first.icmp_class == second.icmp_class && first.icmp_query == second.icmp_query &&
           first.later_fragment == second.later_fragment && first.tiny_fragment == second.tiny_fragment &&
           (first.protocol != DP_PROTO_TCP || memcmp(&first.tcp, &second.tcp, sizeof first.tcp) == 0);
}

/* Brings up to TWO_WAYS_FRAMES frames to both; whether they read and answer the same. `places` may be NULL, and is
 * where frames are brought in shares. */
static inline bool two_ways_judge(struct two_ways *w, const struct dp_frame *frames, const struct dp_place *places,
                                  uint32_t n, bool in_shares)
{
    static struct dp_record records[2][TWO_WAYS_FRAMES];
    static struct dp_flow flows[2][TWO_WAYS_FRAMES];
    struct dp_resolution resolution;
    struct dp_fast fast[DP_BURST];
    struct dp_fast_asked asked;
    bool alike = true;

    w->engine[0]->cache->rest = w->engine[0]->cache->last_rest = 0; /* it never rests here */

    for (uint32_t i = 0; i < n; i += DP_BURST) {
        uint32_t set =
            dp_fast_read(w->engine[0], frames + i, places ? places + i : NULL, n - i < DP_BURST ? n - i : DP_BURST,
                         w->config.verify_checksums == DP_VERIFY_ALWAYS, fast, &asked);

        for (uint32_t k = 0; k < DP_BURST; k++)
            if (set >> k & 1) {
                w->taken++;
                w->cached += asked.known >> k & 1;
                alike = alike && two_ways_read_alike(&fast[k], &frames[i + k]);
            }
    }
    for (int i = 0; i < 2; i++) {
        if (in_shares)
            two_ways_process_shares(w->engine[i], frames, n, records[i], flows[i]);
        else if ((places ? dp_engine_process_at(w->engine[i], frames, places, n, records[i], flows[i])
                         : dp_engine_process(w->engine[i], frames, n, records[i], flows[i])) < 0)
            abort();
        while (dp_engine_resolved(w->engine[i], &resolution, 1))
            ;
    }
    return alike && memcmp(records[0], records[1], n * sizeof records[0][0]) == 0 &&
           memcmp(flows[0], flows[1], n * sizeof flows[0][0]) == 0;
}

#endif
