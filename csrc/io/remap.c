/* remap.c: remap.h in code. A frame is copied when the first address in it that is replaced is found. */
#include "remap.h"

#include "../bytes.h"
#include "../checksum.h"
#include "../packet.h"
#include "../trie.h"

#include <stdlib.h>
#include <string.h>

enum { ND_REDIRECT = 137, QUOTED_IPV4 = 20, QUOTED_IPV6 = 40, VRRP_HEADER = 8, VRRP_ADVERTISEMENT = 1 };

struct dp_remap {
    struct dp_trie prefixes[2]; /* IPv4, IPv6: a mapping's place from 1, 0 for none */
    struct dp_mapping *mappings;
    struct dp_frame *frames;
    uint32_t room; /* for frames */
    uint8_t *bytes;
    size_t capacity;
    size_t used; /* by the copies of the frames so far */
};

/* A frame that is being copied; `to` is NULL until an address in it is replaced. */
struct copy {
    struct dp_remap *remap;
    const struct dp_frame *frame;
    uint8_t *to;
};

static bool valid(const struct dp_mapping *mappings, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const struct dp_mapping *m = &mappings[i];

        if ((m->family != 4 && m->family != 6) || m->bits > (m->family == 4 ? 32 : 128) ||
            (i && m->bits < mappings[i - 1].bits))
            return false;
    }
    return true;
}

int dp_remap_new(const struct dp_mapping *mappings, uint32_t n, struct dp_remap **remap)
{
    static const uint8_t nothing[16];
    struct dp_remap *made;
    int error = 0;

    if (!remap || (n && !mappings) || n >= DP_TRIE_VALUE_MAX || !valid(mappings, n))
        return DP_E_ARGUMENT;
    made = calloc(1, sizeof *made);
    if (!made)
        return DP_E_MEMORY;
    dp_trie_init(&made->prefixes[0], 0, nothing, 0);
    dp_trie_init(&made->prefixes[1], 0, nothing, 0);
    made->mappings = calloc(n + (size_t)1, sizeof *made->mappings);
    if (!made->mappings)
        error = DP_E_MEMORY;
    for (uint32_t i = 0; i < n && !error; i++) {
        made->mappings[i] = mappings[i];
        error = dp_trie_add(&made->prefixes[mappings[i].family == 6], mappings[i].before, mappings[i].bits, i + 1);
    }
    if (error) {
        dp_remap_free(made);
        return error;
    }
    *remap = made;
    return 0;
}

void dp_remap_free(struct dp_remap *remap)
{
    if (!remap)
        return;
    dp_trie_release(&remap->prefixes[0]);
    dp_trie_release(&remap->prefixes[1]);
    free(remap->mappings);
    free(remap->frames);
    free(remap->bytes);
    free(remap);
}

/* The place for a new value of the bytes at `at`, which stand in the frame. */
static uint8_t *place_of(const struct copy *copy, const uint8_t *at)
{
    return copy->to + (at - copy->frame->data);
}

/* Replaces the address at `at` where a mapping says so. */
static void replace(struct copy *copy, const uint8_t *at, bool ipv6)
{
    uint32_t found = dp_trie_lookup(&copy->remap->prefixes[ipv6], at);
    const struct dp_mapping *mapping;
    uint8_t *to, rest;
    uint32_t whole;

    if (!found)
        return;
    mapping = &copy->remap->mappings[found - 1];
    if (!copy->to)
        copy->to = memcpy(copy->remap->bytes + copy->remap->used, copy->frame->data, copy->frame->captured);
    to = place_of(copy, at);
    whole = mapping->bits / 8;
    memcpy(to, mapping->after, whole);
    if (mapping->bits % 8) {
        rest = (uint8_t)(0xff >> mapping->bits % 8);
        to[whole] = (uint8_t)((mapping->after[whole] & ~rest) | (to[whole] & rest));
    }
}

/* The checksum at `sum` after the `size` bytes at `before` have become those at `after` (RFC 1624). */
static void follow(uint8_t *sum, const uint8_t *before, const uint8_t *after, uint32_t size)
{
    uint32_t total = (uint16_t)~dp_get16(sum);

    for (uint32_t i = 0; i < size; i += 2)
        total += (uint32_t)(uint16_t)~dp_get16(before + i) + dp_get16(after + i);
    total = (total & 0xffff) + (total >> 16);
    total = (uint16_t)~((total & 0xffff) + (total >> 16));
    sum[0] = (uint8_t)(total >> 8);
    sum[1] = (uint8_t)total;
}

/* Replaces the addresses of an IP header. */
static void replace_header(struct copy *copy, const uint8_t *header, bool ipv6)
{
    if (ipv6) {
        replace(copy, header + 8, true);
        replace(copy, header + 24, true);
        return;
    }
    replace(copy, header + 12, false);
    replace(copy, header + 16, false);
    if (copy->to)
        follow(place_of(copy, header + 10), header + 12, place_of(copy, header + 12), 8);
}

static void replace_inside(struct copy *copy, const struct dp_packet *packet)
{
    const uint8_t *inside = packet->inside;
    uint32_t captured = packet->inside_captured, size = packet->family == 6 ? 16 : 4;
    bool ipv6 = packet->family == 6;

    if (packet->icmp_class == DP_ICMP_ERROR) {
        if (captured >= (ipv6 ? QUOTED_IPV6 : QUOTED_IPV4) && inside[0] >> 4 == packet->family)
            replace_header(copy, inside, ipv6);
    } else if (packet->icmp_class == DP_ICMP_CONTROL || packet->icmp_class == DP_ICMP_CONTROL_FROM_HOST) {
        /* Solicitations and advertisements of neighbours, and redirects, begin with their target. */
        uint8_t type = (uint8_t)(packet->selector >> 8);

        if (type >= ND_REDIRECT - 2 && type <= ND_REDIRECT && captured >= 16)
            replace(copy, inside, true);
        if (type == ND_REDIRECT && captured >= 32)
            replace(copy, inside + 16, true);
    } else if (packet->protocol == DP_PROTO_VRRP && captured >= VRRP_HEADER && (inside[0] & 15) == VRRP_ADVERTISEMENT) {
        for (uint32_t i = 0; i < inside[3] && VRRP_HEADER + (i + 1) * size <= captured; i++)
            replace(copy, inside + VRRP_HEADER + i * size, ipv6);
    }
}

/* The frame as it is judged, its bytes copied to the remap's if they have to be. */
static struct dp_frame as_judged(struct dp_remap *remap, const struct dp_frame *frame)
{
    struct copy copy = {.remap = remap, .frame = frame};
    struct dp_frame judged = *frame;
    struct dp_packet packet;

    dp_packet_parse(frame, &packet);
    if (packet.kind == DP_PACKET_ARP) {
        replace(&copy, packet.inside + 6, false);
        replace(&copy, packet.inside + 16, false);
    } else if (packet.family && (packet.kind == DP_PACKET_IP || packet.kind == DP_PACKET_MALFORMED)) {
        replace_header(&copy, packet.network, packet.family == 6);
        if (packet.kind == DP_PACKET_IP && packet.inside)
            replace_inside(&copy, &packet);
    }
    if (!copy.to)
        return judged;
    if (packet.kind == DP_PACKET_IP && dp_checksum_right(frame, &packet))
        judged.flags |= DP_FRAME_CHECKSUM_OFFLOADED;
    judged.data = copy.to;
    remap->used += frame->captured;
    return judged;
}

const struct dp_frame *dp_remap_frames(struct dp_remap *remap, const struct dp_frame *frames, uint32_t n)
{
    uint8_t *bytes;
    size_t size = 0;

    for (uint32_t i = 0; i < n; i++)
        size += frames[i].captured;
    if (size > remap->capacity) {
        bytes = realloc(remap->bytes, size);
        if (!bytes)
            return NULL;
        remap->bytes = bytes;
        remap->capacity = size;
    }
    if (n > remap->room) {
        struct dp_frame *grown = realloc(remap->frames, n * sizeof *grown);
        if (!grown)
            return NULL;
        remap->frames = grown;
        remap->room = n;
    }
    remap->used = 0;
    for (uint32_t i = 0; i < n; i++)
        remap->frames[i] = as_judged(remap, &frames[i]);
    return remap->frames;
}
