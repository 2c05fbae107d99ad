/*
 * test_part.c: whose frames are when a replay is cut by instance (part.h): each is of one part, with its number among
 * all; who meets whom. Frames are in memory of exactly their size.
 */
#include "../../csrc/io/part.h"

#include "../../csrc/io/capture_state.h"
#include "check.h"

enum { ZONES = 4, PARTS = 3, ETHERNET = 14, IPV4 = 20, IPV6 = 40, SIZE_MAX_MADE = 128 };

/* Zone z has 10.0.0.z+1 and fd00::z+1. Zones 1 and 2 stand in one part. */
static const uint32_t part_of[ZONES] = {0, 1, 1, 2};

static struct dp_endpoints *new_endpoints(void)
{
    struct dp_holding holdings[2 * ZONES];
    struct dp_endpoints *endpoints = NULL;

    for (uint32_t z = 0; z < ZONES; z++) {
        holdings[2 * z] = (struct dp_holding){{{10, 0, 0, (uint8_t)(z + 1)}, 32}, 4, z, 0};
        holdings[2 * z + 1] = (struct dp_holding){{{0xfd, 0, [15] = (uint8_t)(z + 1)}, 128}, 6, z, 0};
    }
    if (dp_endpoints_new(holdings, 2 * ZONES, NULL, 0, NULL, 0, NULL, 0, &endpoints) != 0)
        abort();
    return endpoints;
}

/* A frame from host `source` to host `destination` of 10.0.0.0/24, or of fd00::/64; hosts 1 to ZONES are instances. */
struct made {
    uint8_t data[SIZE_MAX_MADE];
    uint32_t size;
};

static struct made made_ipv4(uint8_t source, uint8_t destination, uint8_t protocol)
{
    struct made made = {.size = ETHERNET + IPV4 + 20};
    uint8_t *ip = made.data + ETHERNET;

    memcpy(made.data + 12, "\x08\x00", 2);
    memcpy(ip, "\x45\x00\x00\x28\x00\x00\x00\x00\x40", 9);
    ip[9] = protocol;
    memcpy(ip + 12, "\x0a\x00\x00", 3);
    ip[15] = source;
    memcpy(ip + 16, "\x0a\x00\x00", 3);
    ip[19] = destination;
    memcpy(ip + IPV4, "\x0f\xa0\x00\x50\x00\x14\x00\x00", 8);
    if (protocol == 6)
        memcpy(ip + IPV4 + 12, "\x50\x02\x10\x00", 4);
    return made;
}

static struct made made_ipv6(uint8_t source, uint8_t destination, uint8_t protocol)
{
    struct made made = {.size = ETHERNET + IPV6 + 20};
    uint8_t *ip = made.data + ETHERNET;

    memcpy(made.data + 12, "\x86\xdd", 2);
    memcpy(ip, "\x60\x00\x00\x00\x00\x14\x06\x40\xfd", 9);
    ip[6] = protocol;
    ip[23] = source;
    ip[24] = 0xfd;
    ip[39] = destination;
    memcpy(ip + IPV6, "\x0f\xa0\x00\x50\x00\x14", 6);
    if (protocol == 6)
        memcpy(ip + IPV6 + 12, "\x50\x02\x10\x00", 4);
    return made;
}

/* The same packet behind a tag: it is read whole then. */
static struct made tagged(const struct made *made)
{
    struct made longer = {.size = made->size + 4};

    memcpy(longer.data, made->data, 12);
    memcpy(longer.data + 12, "\x81\x00\x00\x07", 4);
    memcpy(longer.data + 16, made->data + 12, made->size - 12);
    return longer;
}

/* The first `captured` bytes of a frame, in memory of their own, which is the caller's. */
static struct dp_frame frame_of(const struct made *made, uint32_t captured)
{
    uint8_t *data = malloc(captured ? captured : 1);

    REQUIRE(data);
    memcpy(data, made->data, captured);
    return (struct dp_frame){.data = data, .captured = captured, .length = made->size, .link = DP_LINK_ETHERNET};
}

/* The part that keeps a frame; PARTS and a failed check where not exactly one does. */
static uint32_t keeper(const struct dp_endpoints *endpoints, const struct dp_frame *frame)
{
    uint32_t found = PARTS, keepers = 0;

    for (uint32_t mine = 0; mine < PARTS; mine++) {
        struct dp_run run = {.frames = frame, .n = 1};
        struct dp_part *part = NULL;

        REQUIRE(dp_part_new(part_of, ZONES, mine, &part) == 0);
        CHECK_EQUAL(dp_part_keep(part, endpoints, NULL, false, &run), 0);
        if (run.n == 1) {
            uint64_t number = 0;

            CHECK_EQUAL(run.frames[0].data == frame->data, 1);
            dp_part_take_numbers(part, &number, 1);
            CHECK_EQUAL(number, 1);
            found = mine;
            keepers++;
        }
        dp_part_free(part);
    }
    CHECK_EQUAL(keepers, 1);
    return found;
}

static uint32_t keeper_of(const struct dp_endpoints *endpoints, struct made made)
{
    struct dp_frame frame = frame_of(&made, made.size);
    uint32_t found = keeper(endpoints, &frame);

    free((void *)frame.data);
    return found;
}

static void frames_are_their_instances(void)
{
    struct dp_endpoints *endpoints = new_endpoints();
    struct made arp = {.data = {[12] = 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, [28] = 10, 0, 0, 99, [38] = 10, 0, 0, 4},
                       .size = 42};

    for (uint8_t host = 1; host <= ZONES; host++)
        for (int to = 0; to < 2; to++) {
            uint8_t source = to ? 77 : host, destination = to ? host : 77;
            const uint8_t protocols[] = {6, 17, 1};

            for (size_t i = 0; i < sizeof protocols; i++) {
                CHECK_EQUAL(keeper_of(endpoints, made_ipv4(source, destination, protocols[i])), part_of[host - 1]);
                CHECK_EQUAL(keeper_of(endpoints, made_ipv6(source, destination, protocols[i])), part_of[host - 1]);
            }
        }
    CHECK_EQUAL(keeper_of(endpoints, made_ipv4(2, 3, 6)), 1);
    CHECK_EQUAL(keeper_of(endpoints, arp), part_of[3]);
    /* Nobody's are the first part's. */
    CHECK_EQUAL(keeper_of(endpoints, made_ipv4(77, 78, 6)), 0);
    CHECK_EQUAL(keeper_of(endpoints, (struct made){.data = {0}, .size = 60}), 0);
    dp_endpoints_free(endpoints);
}

/* However much of a frame was captured, one part keeps it, and the same one as behind a tag, where all is read. */
static void frames_that_are_cut_short(void)
{
    const struct made all[] = {made_ipv4(77, 4, 6), made_ipv4(4, 77, 17), made_ipv6(77, 4, 6), made_ipv6(4, 77, 17)};
    struct dp_endpoints *endpoints = new_endpoints();

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        struct made longer = tagged(&all[i]);

        for (uint32_t captured = 0; captured <= all[i].size; captured++) {
            struct dp_frame frame = frame_of(&all[i], captured);
            uint32_t found = keeper(endpoints, &frame);

            if (captured >= 12) {
                struct dp_frame behind = frame_of(&longer, captured + 4);

                CHECK_EQUAL(found, keeper(endpoints, &behind));
                free((void *)behind.data);
            }
            free((void *)frame.data);
        }
        CHECK_EQUAL(keeper_of(endpoints, all[i]), part_of[3]);
    }
    dp_endpoints_free(endpoints);
}

static uint32_t chance(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

/* A packet with some bytes changed at random, cut anywhere. */
static struct dp_frame random_frame(uint32_t *state)
{
    uint8_t source = (uint8_t)(chance(state) % 8), destination = (uint8_t)(chance(state) % 8);
    uint8_t protocol = (uint8_t[]){6, 17, 1, 58}[chance(state) % 4];
    struct made made =
        chance(state) % 2 ? made_ipv4(source, destination, protocol) : made_ipv6(source, destination, protocol);

    for (uint32_t n = chance(state) % 4; n; n--)
        made.data[12 + chance(state) % (made.size - 12)] = (uint8_t)chance(state);
    return frame_of(&made, chance(state) % 3 ? made.size : chance(state) % (made.size + 1));
}

/* Runs of any frames: every number is one part's, once, and who meets stands together, as the census says. */
static void parts_have_all_frames_once(void)
{
    enum { RUNS = 40, RUN = 300 };
    struct dp_endpoints *endpoints = new_endpoints();
    uint32_t state = 2463534242, leader[ZONES] = {0, 1, 2, 3}, of[ZONES];
    uint64_t packets[ZONES] = {0}, counted = 0, *numbers = calloc(RUNS * RUN, sizeof *numbers);
    struct dp_frame *frames = calloc(RUNS * RUN, sizeof *frames);
    bool *seen = calloc(RUNS * RUN + 1, sizeof *seen);
    struct dp_census census = {0};

    REQUIRE(numbers && frames && seen);
    for (uint32_t i = 0; i < RUNS * RUN; i++)
        frames[i] = random_frame(&state);
    for (uint32_t run = 0; run < RUNS; run++)
        dp_census_count(endpoints, NULL, &(struct dp_run){.frames = frames + run * RUN, .n = RUN}, leader, packets,
                        ZONES, &census);
    CHECK_EQUAL(census.frames, RUNS * RUN);
    CHECK(packets[0] && packets[3] && census.untouched && census.fragments);
    for (uint32_t z = 0; z < ZONES; z++)
        of[z] = z % PARTS;
    for (uint32_t mine = 0; mine < PARTS; mine++) {
        struct dp_part *part = NULL;
        uint32_t untaken = 0, taken = 0;

        REQUIRE(dp_part_new(of, ZONES, mine, &part) == 0);
        for (uint32_t run = 0; run < RUNS; run++) {
            struct dp_run kept = {.frames = frames + run * RUN, .n = RUN};

            CHECK_EQUAL(dp_part_keep(part, endpoints, NULL, false, &kept), 0);
            untaken += kept.n;
            /* They wait, for several runs, until somebody wants them. */
            if (run % 7 == 6 || run == RUNS - 1) {
                uint32_t n = run == RUNS - 1 ? untaken : untaken / 2;

                dp_part_take_numbers(part, numbers + taken, n);
                taken += n;
                untaken -= n;
            }
        }
        for (uint32_t i = 0; i < taken; i++) {
            CHECK(numbers[i] >= 1 && numbers[i] <= RUNS * RUN && !seen[numbers[i]]);
            CHECK(i == 0 || numbers[i] > numbers[i - 1]);
            seen[numbers[i]] = true;
        }
        counted += taken;
        dp_part_free(part);
    }
    CHECK_EQUAL(counted, RUNS * RUN);
    for (uint32_t i = 0; i < RUNS * RUN; i++)
        free((void *)frames[i].data);
    free(frames);
    free(numbers);
    free(seen);
    dp_endpoints_free(endpoints);
}

static void count(struct dp_endpoints *endpoints, struct made made, uint64_t time_ns, uint32_t *leader,
                  uint64_t *packets, struct dp_census *census)
{
    struct dp_frame frame = frame_of(&made, made.size);

    frame.time_ns = time_ns;
    dp_census_count(endpoints, NULL, &(struct dp_run){.frames = &frame, .n = 1}, leader, packets, ZONES, census);
    free((void *)frame.data);
}

/* Whoever meets leads to the same zone, over others too. */
static void a_census_says_who_meets(void)
{
    struct dp_endpoints *endpoints = new_endpoints();
    uint32_t leader[ZONES] = {0, 1, 2, 3};
    uint64_t packets[ZONES] = {0};
    struct dp_census census = {0};
    struct made piece = made_ipv4(77, 1, 17), question = made_ipv4(0, 255, 17);

    piece.data[ETHERNET + 6] = 0x20;
    memset(question.data + ETHERNET + 12, 0, 4);
    memset(question.data + ETHERNET + 16, 255, 4);
    memcpy(question.data + ETHERNET + IPV4, "\x00\x44\x00\x43", 4);
    count(endpoints, made_ipv4(4, 2, 6), 10, leader, packets, &census);
    count(endpoints, made_ipv6(77, 1, 6), 20, leader, packets, &census);
    count(endpoints, made_ipv6(3, 4, 17), 15, leader, packets, &census);
    count(endpoints, made_ipv4(77, 78, 1), 18, leader, packets, &census);
    count(endpoints, piece, 30, leader, packets, &census);
    count(endpoints, question, 30, leader, packets, &census);
    CHECK_EQUAL(leader[0], 0);
    for (uint32_t z = 1; z < ZONES; z++) {
        uint32_t first = z;

        while (leader[first] != first)
            first = leader[first];
        CHECK_EQUAL(first, 1);
    }
    CHECK_EQUAL(packets[0], 2);
    CHECK_EQUAL(packets[3], 2);
    CHECK_EQUAL(census.frames, 6);
    CHECK_EQUAL(census.untouched, 2);
    CHECK_EQUAL(census.fragments, 1);
    CHECK_EQUAL(census.questions, 1);
    /* Each that is before the latest time. */
    CHECK_EQUAL(census.backwards, 2);
    CHECK_EQUAL(census.latest_ns, 30);
    dp_endpoints_free(endpoints);
}

int main(void)
{
    RUN(frames_are_their_instances);
    RUN(frames_that_are_cut_short);
    RUN(parts_have_all_frames_once);
    RUN(a_census_says_who_meets);
    return check_result("part");
}
