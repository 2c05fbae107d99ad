/*
 * fuzz_pipeline.c: frames made of arbitrary bytes through a whole engine: parser, fragments, connection table, rules.
 *
 * The input is a sequence of steps. A step's first byte chooses the link type and whether the policy changes before it,
 * the second the time that passes, the third and fourth the frame's length; the frame follows. Each frame is judged
 * from a buffer of exactly its size, so that a read beyond it is found. One instance holds every address.
 */
#include "arena.h"
#include "dp_counters.h"
#include "io/remap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FRAMES_MAX = 200 };

static const uint64_t steps_ns[8] = {0, 1000000, 1000000000, 9999999999, 30000000000, 180000000000, 600000000000, 1};

static struct dp_conntrack_config settings(void)
{
    struct dp_conntrack_config config = {.max_entries = 40};

    for (int s = 0; s < DP_CONN_STATES; s++) {
        config.timeout_ns[s] = 30000000000u;
        config.tentative[s] = s % 2;
        for (int side = 0; side < DP_SIDES; side++)
            for (int e = 0; e < DP_TCP_EVENTS; e++)
                config.tcp_next[s][side][e] = (uint8_t)(1 + (s + side + e) % DP_CONN_TCP_CLOSE);
    }
    config.reopens[DP_CONN_TCP_CLOSE] = 1;
    config.reevaluate = 1;
    return config;
}

/* All but the settings is made once: it never changes, and an engine is what each input has of its own. */
struct parts {
    struct dp_conntrack_config config;
    struct dp_rule_table *table[2];
    struct dp_endpoints *endpoints;
    struct dp_zone_tables zones[2];
};

static void update(struct dp_plane *plane, struct parts *parts, uint32_t zones)
{
    static const struct dp_rule_address revocation = {{10, 0, 0, 1}, 4, 1};
    static const struct dp_rule_address arrival = {{10, 0, 0, 1}, 4, 1};
    static const uint32_t cut[1] = {0};
    struct dp_policy_update next = {.zones = parts->zones,
                                    .n_zones = zones,
                                    .endpoints = parts->endpoints,
                                    .config = &parts->config,
                                    .cut = cut,
                                    .n_cut = 1,
                                    .revocations = &revocation,
                                    .n_revocations = 1,
                                    .arrivals = &arrival,
                                    .n_arrivals = 1};

    if (dp_plane_update(plane, &next) < 0)
        abort();
}

static void make(struct parts *parts)
{
    struct dp_selector any = {0, 0xffffff};
    struct dp_rule rule = {1, DP_REMOTE_ANY, 0, 1, DP_ALLOW};
    struct dp_holding holdings[3] = {{{{0}, 0}, 4, 0, 1}, {{{0}, 0}, 6, 0, 1}, {{{10, 0, 0, 1}, 32}, 4, 1, 0}};

    *parts = (struct parts){.config = settings()};
    if (dp_endpoints_new(holdings, 3, NULL, 0, NULL, 0, NULL, 0, &parts->endpoints) < 0)
        abort();
    for (int f = 0; f < 2; f++)
        if (dp_rule_table_new(f ? 6 : 4, &rule, 1, NULL, 0, NULL, 0, &any, 1, &parts->table[f]) < 0)
            abort();
    for (uint32_t z = 0; z < 2; z++) {
        parts->zones[z].zone = z;
        parts->zones[z].dhcp_server = z & 1;
        for (int d = 0; d < 2; d++)
            for (int f = 0; f < 2; f++)
                parts->zones[z].table[d][f] = parts->table[f];
    }
}

static size_t judge(struct dp_engine *engine, struct dp_remap *remap, const uint8_t *data, size_t size, uint64_t *now)
{
    size_t length = (size_t)(data[2] << 8 | data[3]) % 2048;
    struct dp_record record;
    struct dp_flow flow;
    uint8_t *frame;

    if (length > size - 4)
        length = size - 4;
    frame = malloc(length ? length : 1);
    if (!frame)
        abort();
    memcpy(frame, data + 4, length);
    *now += steps_ns[data[1] % 8];
    struct dp_frame seen = {.time_ns = *now,
                            .data = frame,
                            .captured = (uint32_t)length,
                            .length = (uint32_t)length + (data[1] >> 4),
                            .link = data[0] % (DP_LINKS + 1),
                            .flags = data[1] >> 3 & DP_FRAME_CHECKSUM_OFFLOADED};
    const struct dp_frame *judged = data[0] >> 4 == 14 ? dp_remap_frames(remap, &seen, 1) : &seen;
    if (!judged || judged->captured != seen.captured || judged->length != seen.length)
        abort();
    if (dp_engine_process(engine, judged, 1, &record, &flow) < 0 || record.checks > 2)
        abort();
    free(frame);
    return 4 + length;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint64_t seed[2] = {1, 2};
    static struct parts made;
    static const struct dp_mapping mappings[4] = {
        {{0}, {0x80}, 4, 1}, {{0}, {0x80}, 6, 1}, {{0x80}, {0}, 4, 1}, {{10, 0, 0, 1}, {10, 0, 0, 2}, 4, 32}};
    struct dp_resolution resolution;
    struct dp_remap *remap;
    struct dp_engine *engine;
    struct dp_plane *plane;
    struct parts parts;
    uint64_t now = 1700000000000000000u;

    if (!made.endpoints)
        make(&made);
    parts = made;
    if (dp_plane_new(&parts.config, seed, 1, &plane) < 0)
        abort();
    if (dp_remap_new(mappings, 4, &remap) < 0)
        abort();
    engine = dp_plane_shard(plane, 0);
    update(plane, &parts, 2);
    for (int n = 0; size >= 4 && n < FRAMES_MAX; n++) {
        size_t used;

        if (data[0] >> 4 == 15) {
            parts.config.verify_checksums = data[0] >> 1 & 1;
            update(plane, &parts, 1 + (data[0] & 1));
        }
        used = judge(engine, remap, data, size, &now);
        data += used;
        size -= used;
    }
    dp_engine_give_up(engine, UINT64_MAX);
    while (dp_engine_resolved(engine, &resolution, 1))
        ;
    dp_remap_free(remap);
    dp_plane_free(plane);
    arena_reset();
    return 0;
}
