/*
 * test_fast_path.c: the fast path answers, counts and keeps connections as the long way does (fast_path.h): for frames
 * made by chance, most of them of known connections, and for the captures of folders (pcaps; CAPTURES, default
 * ../shared/captures).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include "../../bench/frame_bytes.h"
#include "chance.h"
#include "check.h"
#include "dp_captures.h"
#include "two_ways.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

/* ---- frames made by chance ---- */

enum { FRAME_MAX = 160 };

/* Who speaks: instances 0 and 1; 2 and 3, which have one address in two networks; one of a virtual prefix; outsiders.
 */
static const struct dp_holding holdings[] = {
    {{{10, 0, 0, 1}, 32}, 4, 0, 0},
    {{{10, 0, 0, 2}, 32}, 4, 1, 0},
    {{{10, 0, 0, 3}, 32}, 4, 0, 1},
    {{{10, 0, 9, 9}, 32}, 4, 2, 0},
    {{{10, 0, 9, 9}, 32}, 4, 3, 0},
    {{{10, 0, 9, 8}, 32}, 4, 2, 0},
    {{{10, 0, 7, 0}, 24}, 4, 4, 1},
    {{{0x20, 1, 0xd, 0xb8, [15] = 1}, 128}, 6, 0, 0},
    {{{0x20, 1, 0xd, 0xb8, [15] = 2}, 128}, 6, 1, 0},
    {{{0x20, 1, 0xd, 0xb8, 7}, 64}, 6, 4, 1},
};
static const uint8_t hosts4[][4] = {{10, 0, 0, 1},  {10, 0, 0, 2},  {10, 0, 0, 3},
                                    {10, 0, 9, 9},  {10, 0, 9, 8},  {10, 0, 7, 5},
                                    {192, 0, 2, 1}, {192, 0, 2, 2}, {0}};
static const uint8_t last6[] = {1, 2, 3, 4};

/* A transport header with some data at `p`; its length, of a part of the header now and then. Hosts number their
 * segments from one place on, so that many fit the windows of their connection. */
static uint32_t transport(uint8_t *p, uint8_t protocol, bool from_client)
{
    static const uint16_t clients[] = {40000, 40001, 546}, servers[] = {80, 53, 67, 547};
    uint32_t data = chance(30), options = chance(8) ? 0 : chance(4) * 4;
    uint16_t client = clients[chance(10) ? chance(2) : 2], server = servers[chance(10) ? chance(2) : chance(4)];

    if (!chance(30))
        return chance(20);
    put16(p, from_client ? client : server);
    put16(p + 2, from_client ? server : client);
    if (!chance(20))
        put16(p, from_client ? server : client);
    if (protocol == DP_PROTO_TCP) {
        static const uint8_t flags[] = {DP_TCP_FLAG_SYN, DP_TCP_FLAG_SYN | DP_TCP_FLAG_ACK,
                                        DP_TCP_FLAG_FIN | DP_TCP_FLAG_ACK, DP_TCP_FLAG_RST};

        put32(p + 4, (from_client ? 0xfffffc00u : 5000) + chance(2000));
        put32(p + 8, (from_client ? 5000 : 0xfffffc00u) + chance(2000));
        p[12] = (uint8_t)((5 + options / 4) << 4);
        p[13] = chance(8) ? DP_TCP_FLAG_ACK | (chance(2) ? DP_TCP_FLAG_PSH : 0) : flags[chance(4)];
        if (!chance(50))
            p[13] = (uint8_t)chance(256);
        put16(p + 14, chance(20) ? 1000 + chance(3000) : 0);
        return 20 + options + data;
    }
    if (protocol == DP_PROTO_UDP) {
        put16(p + 4, 8 + data);
        p[8] = (uint8_t)chance(16); /* DHCPv6's type, where the ports are its own */
        return 8 + data;
    }
    if (protocol == DP_PROTO_ICMP)
        p[0] = from_client ? 8 : 0;
    else if (protocol == DP_PROTO_ICMPV6)
        p[0] = from_client ? 128 : 129;
    p[1] = 0;
    put16(p + 4, client);
    return 8 + data;
}

/* The transport's checksum, right for most, behind the addresses at `addresses`. */
static void sum_transport(uint8_t *p, uint32_t length, uint8_t protocol, const uint8_t *addresses, uint32_t size)
{
    uint32_t at = protocol == DP_PROTO_TCP ? 16 : protocol == DP_PROTO_UDP ? 6 : 2;
    uint32_t pseudo = protocol == DP_PROTO_ICMP ? 0 : sum16(addresses, 2 * size, protocol + length);

    if (length >= at + 2 && chance(10))
        put16(p + at, checksum(sum16(p, length, pseudo)));
}

static uint8_t a_protocol(bool six)
{
    uint32_t which = chance(12);

    return which < 6    ? DP_PROTO_TCP
           : which < 9  ? DP_PROTO_UDP
           : which < 11 ? (six ? DP_PROTO_ICMPV6 : DP_PROTO_ICMP)
                        : (uint8_t)chance(256);
}

static uint32_t ipv4(uint8_t *p, bool from_client)
{
    uint8_t protocol = a_protocol(false);
    uint32_t header = chance(30) ? 20 : 24, length = header + transport(p + header, protocol, from_client);
    const uint8_t *server = hosts4[chance(10) ? 1 : chance(9)], *client = chance(30) ? hosts4[chance(9)] : server;

    p[0] = (uint8_t)(0x40 | header / 4);
    put16(p + 2, chance(40) ? length : chance(80));
    put16(p + 6, chance(40) ? 0x4000 : chance(2) ? 0x2000 : chance(0x10000));
    p[8] = 64;
    p[9] = protocol;
    memcpy(p + 12, from_client ? client : server, 4);
    memcpy(p + 16, from_client ? server : client, 4);
    if (chance(20))
        put16(p + 10, checksum(sum16(p, header, 0)));
    sum_transport(p + header, length - header, protocol, p + 12, 4);
    return length;
}

static uint32_t ipv6(uint8_t *p, bool from_client)
{
    uint8_t protocol = a_protocol(true);
    uint32_t length = transport(p + 40, protocol, from_client);

    p[0] = 0x60;
    put16(p + 4, chance(40) ? length : chance(80));
    p[6] = protocol;
    p[7] = 64;
    for (int i = 0; i < 2; i++)
        memcpy(p + 8 + 16 * i, (uint8_t[16]){0x20, 1, 0xd, 0xb8, [15] = 0}, 16);
    p[from_client ? 23 : 39] = last6[chance(4)];
    p[from_client ? 39 : 23] = last6[chance(10) ? 1 : chance(4)];
    sum_transport(p + 40, length, protocol, p + 8, 16);
    return 40 + length;
}

/* What stands behind ports 0 and 1; others speak too. */
static const struct dp_port ports[] = {
    {.zone = 0, .guarded = 1, .has_mac = 1, .mac = {2, 0, 0, 0, 0, 1}},
    {.zone = 1, .guarded = 1, .has_mac = 1, .mac = {2, 0, 0, 0, 0, 2}},
    {.zone = DP_ZONE_NONE},
};
static struct dp_bindings served;

/* Where a frame passes: by ports, or as if its sender had been asked. */
static struct dp_place a_place(void)
{
    struct dp_place place = {.zone = {chance(2) ? chance(5) : DP_NO_ZONE, chance(2) ? 1 : DP_NO_ZONE}};

    if (!chance(4))
        return place;
    dp_place_make(&place, &served, &ports[chance(3)], &ports[chance(3)]);
    place.mac_taken = !chance(50);
    return place;
}

/* Puts another policy in force: the first is there every other time, others nearly always, in zones of their own or in
 * those of others before. Without the first, its connections to others are theirs alone. */
static void change_by_chance(struct two_ways *w)
{
    struct dp_holding some[sizeof holdings / sizeof *holdings];
    uint32_t moved = chance(3) ? 0 : chance(TWO_WAYS_ZONES), n = 0;

    for (uint32_t i = chance(2); i < sizeof holdings / sizeof *holdings; i++)
        if (chance(12)) {
            some[n] = holdings[i];
            some[n++].zone = (holdings[i].zone + moved) % TWO_WAYS_ZONES;
        }
    w->config.verify_checksums = (uint8_t)(chance(2) ? chance(3) : DP_VERIFY_NEVER);
    two_ways_update(w, some, n);
}

/* A frame in `bytes`, all zeros before; its length. */
static uint32_t make(uint8_t *bytes)
{
    static const uint16_t tags[] = {0x8100, 0x88a8, 0x9100};
    uint32_t at = 12, length, n_tags = chance(4) ? 0 : chance(4);
    bool six = !chance(4), from_client = chance(2);

    memcpy(bytes + 6, (uint8_t[6]){2, [5] = (uint8_t)(1 + chance(3))}, 6);
    for (uint32_t i = 0; i < n_tags; i++, at += 4) {
        put16(bytes + at, tags[chance(3)]);
        put16(bytes + at + 2, 1 + chance(3));
    }
    put16(bytes + at, chance(60) ? (six ? 0x86dd : 0x800) : chance(0x10000));
    at += 2;
    length = at + (six ? ipv6 : ipv4)(bytes + at, from_client);
    if (!chance(12))
        bytes[chance(length)] = (uint8_t)chance(256);
    return length + (chance(4) ? 0 : chance(20));
}

static void test_frames_made_by_chance(void)
{
    static const uint64_t passing_ns[] = {0, 1000, 1000000, 100000000, 30000000000, 40000000000};
    const uint32_t n_holdings = sizeof holdings / sizeof *holdings;
    struct dp_frame frames[TWO_WAYS_FRAMES];
    struct dp_place places[TWO_WAYS_FRAMES];
    uint64_t now = 1700000000000000000u, judged = 0;
    bool alike = true;
    struct two_ways w;

    memset(&served, 0, sizeof served);
    for (uint32_t i = 0; i < sizeof ports / sizeof *ports; i++)
        dp_bindings_add(&served, i, &ports[i]);
    two_ways_new(&w, holdings, n_holdings);
    for (int round = 0; round < 3000 && alike; round++) {
        uint32_t n = 1 + chance(TWO_WAYS_FRAMES), way;

        for (uint32_t i = 0; i < n; i++) {
            uint8_t made[FRAME_MAX] = {0}, *bytes;
            uint32_t length = make(made), cut = chance(20) ? 0 : chance(length);

            /* In memory of exactly its size, so that the sanitizer sees what reads beyond. */
            bytes = malloc(length - cut);
            REQUIRE(bytes != NULL);
            memcpy(bytes, made, length - cut);
            now += passing_ns[chance(40) ? chance(3) : chance(6)];
            frames[i] = (struct dp_frame){.time_ns = now - (chance(50) ? 0 : 5000),
                                          .data = bytes,
                                          .captured = length - cut,
                                          .length = chance(30) ? length : chance(200),
                                          .link = chance(60) ? DP_LINK_ETHERNET : chance(DP_LINKS + 1),
                                          .flags = chance(2) ? DP_FRAME_CHECKSUM_OFFLOADED : 0};
            places[i] = a_place();
        }
        judged += n;
        way = chance(8);
        alike = CHECK(two_ways_judge(&w, frames, way < 2 ? places : NULL, n, way == 2)) && CHECK(two_ways_agree(&w));
        for (uint32_t i = 0; i < n; i++)
            free((void *)frames[i].data);
        if (!chance(30))
            change_by_chance(&w);
    }
    CHECK(two_ways_deny_alike(&w));
    /* What it is about has come up: frames that can begin the fast path, and packets of known connections. */
    CHECK(w.taken > judged / 3);
    CHECK(w.cached > judged / 200);
    CHECK(w.engine[0]->answers[DP_ALLOW][DP_REASON_CONNECTION][DP_STATE_ESTABLISHED].packets > judged / 10);
    two_ways_free(&w);
}

/* ---- captures ---- */

/* Every other address of a capture, up to so many, is an instance's. */
static uint32_t take_addresses(const struct dp_flow *flow, struct dp_holding *into, uint32_t n, uint32_t room)
{
    const uint8_t *ends[2] = {flow->source, flow->destination};

    for (int e = 0; e < 2 && flow->family; e++) {
        uint32_t i;

        for (i = 0; i < n; i++)
            if (into[i].family == flow->family && memcmp(into[i].prefix.address, ends[e], 16) == 0)
                break;
        if (i < n || n == room)
            continue;
        into[n] = (struct dp_holding){.family = flow->family, .zone = n / 2 % TWO_WAYS_ZONES};
        memcpy(into[n].prefix.address, ends[e], 16);
        into[n++].prefix.bits = flow->family == 4 ? 32 : 128;
    }
    return n;
}

/* Judges a capture by one of two planes; calls `look` with what came of each batch. */
static void replay(const char *path, struct dp_plane *plane,
                   void (*look)(void *, const struct dp_record *, const struct dp_flow *, int), void *context)
{
    enum { BATCH = 256 };
    static struct dp_record records[BATCH];
    static struct dp_flow flows[BATCH];
    struct dp_capture *capture;
    struct dp_record *of[] = {records};
    struct dp_replay *merged;
    int fd = open(path, O_RDONLY), n;

    if (!CHECK(fd >= 0) || dp_capture_open(fd, NULL, &capture) < 0 || dp_replay_new(&capture, 1, &merged) < 0 ||
        dp_replay_judge_by(merged, &plane, 1) < 0)
        abort();
    while ((n = dp_replay_run(merged, UINT64_MAX, of, flows, NULL, BATCH)) > 0)
        look(context, records, flows, n);
    dp_replay_free(merged);
    dp_capture_free(capture);
    close(fd);
}

struct addresses {
    struct dp_holding holding[64];
    uint32_t n;
};

static void look_at_addresses(void *context, const struct dp_record *records, const struct dp_flow *flows, int n)
{
    struct addresses *found = context;

    (void)records;
    for (int i = 0; i < n; i++)
        found->n = take_addresses(&flows[i], found->holding, found->n, 64);
}

/* A sum over all bytes in which every one of them counts. */
static uint64_t sum_of(uint64_t sum, const void *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sum = (sum ^ ((const uint8_t *)bytes)[i]) * 0x100000001b3u;
    return sum;
}

static void sum_up(void *context, const struct dp_record *records, const struct dp_flow *flows, int n)
{
    uint64_t *sum = context;

    *sum = sum_of(sum_of(*sum, records, (size_t)n * sizeof *records), flows, (size_t)n * sizeof *flows);
}

static void test_capture(const char *path)
{
    struct addresses found = {.n = 0};
    uint64_t sum[2] = {0, 0};
    struct two_ways w;
    uint32_t n = 0;

    two_ways_new(&w, NULL, 0);
    replay(path, w.plane[0], look_at_addresses, &found);
    two_ways_free(&w);
    for (uint32_t i = 0; i < found.n; i += 2)
        found.holding[n++] = found.holding[i];
    two_ways_new(&w, found.holding, n);
    for (int i = 0; i < 2; i++)
        replay(path, w.plane[i], sum_up, &sum[i]);
    if (!CHECK(sum[0] == sum[1]) || !CHECK(two_ways_agree(&w)))
        fprintf(stderr, "  in %s\n", path);
    two_ways_free(&w);
}

static int test_captures(const char *directory)
{
    DIR *listing = opendir(directory);
    struct dirent *entry;
    int files = 0;

    while (listing && (entry = readdir(listing))) {
        char path[4096];

        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        if (strstr(entry->d_name, "cap")) {
            test_capture(path);
            files++;
        }
    }
    if (listing)
        closedir(listing);
    return files;
}

int main(void)
{
    const char *directory = getenv("CAPTURES");

    RUN(test_frames_made_by_chance);
    CHECK(test_captures("pcaps") > 0);
    test_captures(directory ? directory : "../shared/captures");
    return check_result("test_fast_path");
}
