/*
 * fuzz_fast_path.c: frames made of arbitrary bytes brought to two engines, of which one never takes the fast path: they
 * answer, count and keep connections alike.
 *
 * The input is a sequence of steps as fuzz_pipeline.c reads them: the first byte chooses the link type and whether
 * another policy is put in force before it, the second the time that passes, or runs back for it, the third and fourth
 * the frame's length; the frame follows. Up to DP_BURST frames are judged together, or as the shares of two shards.
 */
#include "../c/two_ways.h"
#include "arena.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The hosts of make_seeds.py: an instance each, and a virtual IP. */
static const struct dp_holding holdings[] = {
    {{{10, 0, 0, 1}, 32}, 4, 0, 0},
    {{{192, 0, 2, 1}, 32}, 4, 1, 0},
    {{{192, 0, 2, 2}, 32}, 4, 1, 1},
    {{{0x20, 1, 0xd, 0xb8, [15] = 1}, 128}, 6, 0, 0},
};
enum { HOLDINGS = sizeof holdings / sizeof *holdings };

/* Whose the addresses are after a change: of a zone less or not; as before, in zones of others, with a prefix in the
 * place of an address, or with an address that two hold. */
static void change(struct two_ways *w, uint32_t how)
{
    struct dp_holding now[HOLDINGS];

    memcpy(now, holdings, sizeof now);
    if ((how >> 2 & 3) == 1)
        for (uint32_t i = 0; i < HOLDINGS; i++)
            now[i].zone = (now[i].zone + 1) % TWO_WAYS_ZONES;
    else if ((how >> 2 & 3) == 2)
        now[1] = (struct dp_holding){{{192, 0, 2, 0}, 24}, 4, 2, 0};
    else if ((how >> 2 & 3) == 3)
        now[1] = (struct dp_holding){{{10, 0, 0, 1}, 32}, 4, 3, 0};
    w->config.verify_checksums = how >> 1 & 1;
    two_ways_update(w, now, HOLDINGS - (how & 1));
}

static const uint64_t steps_ns[8] = {0, 1000000, 1000000000, 9999999999, 30000000000, 180000000000, 600000000000, 1};

/* Judges what has been gathered, all at once or as the shares of two shards; each frame lies in memory of exactly its
 * size. */
static uint32_t judge(struct two_ways *w, struct dp_frame *frames, uint32_t n, bool in_shares)
{
    if (!two_ways_judge(w, frames, NULL, n, in_shares) || !two_ways_agree(w))
        abort();
    for (uint32_t i = 0; i < n; i++)
        free((void *)frames[i].data);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dp_frame frames[DP_BURST];
    uint64_t now = 1700000000000000000u;
    struct two_ways w;
    uint32_t n = 0;

    two_ways_new(&w, holdings, HOLDINGS);
    while (size >= 4) {
        size_t length = (size_t)(data[2] << 8 | data[3]) % 2048;
        uint8_t *bytes;

        if (length > size - 4)
            length = size - 4;
        if (data[0] >> 4 == 15) {
            n = judge(&w, frames, n, false);
            change(&w, data[0]);
        }
        bytes = malloc(length ? length : 1);
        if (!bytes)
            abort();
        memcpy(bytes, data + 4, length);
        now += steps_ns[data[1] % 8];
        frames[n++] = (struct dp_frame){.time_ns = now - (data[1] & 0x80 ? 1000000000 : 0),
                                        .data = bytes,
                                        .captured = (uint32_t)length,
                                        .length = (uint32_t)length + (data[1] >> 4),
                                        .link = data[0] % (DP_LINKS + 1),
                                        .flags = data[1] >> 3 & DP_FRAME_CHECKSUM_OFFLOADED};
        if (n == DP_BURST)
            n = judge(&w, frames, n, data[0] >> 5 & 1);
        data += 4 + length;
        size -= 4 + length;
    }
    judge(&w, frames, n, n & 1);
    if (!two_ways_deny_alike(&w))
        abort();
    two_ways_free(&w);
    arena_reset();
    return 0;
}
