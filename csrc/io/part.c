/* part.c: part.h in code. */
#include "part.h"

#include "../bytes.h"
#include "../control_traffic.h"
#include "../link.h"

#include <stdlib.h>
#include <string.h>

struct dp_part {
    uint64_t read;     /* frames of all runs so far */
    uint64_t *numbers; /* of those kept, from `first` on, that nobody has taken */
    size_t first;
    size_t end;
    size_t room;
    struct dp_frame frames[DP_FRAME_QUEUE];
    struct dp_seen seen[DP_FRAME_QUEUE];
    uint32_t mine;
    uint32_t n_zones;
    uint32_t part_of[];
};

/* ---- whose a frame is ---- */

/* The zones of a frame's addresses. False, with the packet, where all of it had to be read to tell. */
static bool plain_zones(const struct dp_endpoints *endpoints, const struct dp_frame *frame, uint32_t zone[2])
{
    const uint8_t *p = frame->data + 14;
    union dp_address source = {{0}}, destination = {{0}};
    uint32_t family, size, at;

    if (frame->link != DP_LINK_ETHERNET || frame->captured < 14 + 40)
        return false;
    switch (dp_get16(p - 2)) {
    case DP_ETHERTYPE_IPV4:
        /* Options, fragments and what may be DHCP are read whole. */
        if (p[0] != 0x45 || (dp_get16(p + 6) & 0x3fff) || (p[9] == DP_PROTO_UDP && dp_is_dhcp_port(dp_get16(p + 22))))
            return false;
        family = 4, size = 4, at = 12;
        break;
    case DP_ETHERTYPE_IPV6:
        if (p[6] != DP_PROTO_TCP)
            return false;
        family = 6, size = 16, at = 8;
        break;
    default:
        return false;
    }
    memcpy(&source, p + at, size);
    memcpy(&destination, p + at + size, size);
    zone[DP_EGRESS] = dp_endpoints_find(endpoints, family, &source);
    zone[DP_INGRESS] = dp_endpoints_find(endpoints, family, &destination);
    return true;
}

static void zones_of(const struct dp_endpoints *endpoints, const struct dp_packet *packet, uint32_t zone[2])
{
    zone[DP_EGRESS] = packet->family ? dp_endpoints_find(endpoints, packet->family, &packet->source) : DP_NO_ZONE;
    zone[DP_INGRESS] = packet->family ? dp_endpoints_find(endpoints, packet->family, &packet->destination) : DP_NO_ZONE;
}

static uint32_t part_of(const struct dp_part *part, const struct dp_endpoints *endpoints, const struct dp_frame *frame)
{
    struct dp_packet packet;
    uint32_t zone[DP_DIRECTIONS];

    if (!plain_zones(endpoints, frame, zone)) {
        dp_packet_parse(frame, &packet);
        zones_of(endpoints, &packet, zone);
    }
    for (uint32_t d = 0; d < DP_DIRECTIONS; d++)
        if (zone[d] < part->n_zones)
            return part->part_of[zone[d]];
    return 0;
}

/* ---- some of the frames ---- */

int dp_part_new(const uint32_t *of, uint32_t n_zones, uint32_t mine, struct dp_part **part)
{
    struct dp_part *made = calloc(1, sizeof *made + n_zones * sizeof made->part_of[0]);

    if (!made)
        return DP_E_MEMORY;
    made->mine = mine;
    made->n_zones = n_zones;
    if (n_zones)
        memcpy(made->part_of, of, n_zones * sizeof *of);
    *part = made;
    return 0;
}

void dp_part_free(struct dp_part *part)
{
    if (!part)
        return;
    free(part->numbers);
    free(part);
}

static int reserve_numbers(struct dp_part *part, uint32_t n)
{
    uint64_t *grown;
    size_t room = part->room ? part->room : DP_FRAME_QUEUE;

    if (part->first && part->end + n > part->room) {
        memmove(part->numbers, part->numbers + part->first, (part->end - part->first) * sizeof *part->numbers);
        part->end -= part->first;
        part->first = 0;
    }
    while (room < part->end + n)
        room *= 2;
    if (room == part->room)
        return 0;
    grown = realloc(part->numbers, room * sizeof *grown);
    if (!grown)
        return DP_E_MEMORY;
    part->numbers = grown;
    part->room = room;
    return 0;
}

int dp_part_keep(struct dp_part *part, const struct dp_endpoints *endpoints, struct dp_merge *merge, bool seen,
                 struct dp_run *run)
{
    uint32_t kept = 0;
    int error = reserve_numbers(part, run->n);

    if (error < 0)
        return error;
    /* Interfaces are numbered by the first frame at each, whoever's it is. */
    if (seen)
        error = dp_merge_seen(merge, run, part->seen);
    if (error < 0)
        return error;
    for (uint32_t i = 0; i < run->n; i++) {
        const struct dp_frame *frame = &run->frames[i];

        part->read++;
        if (part_of(part, endpoints, frame) != part->mine)
            continue;
        part->frames[kept] = *frame;
        part->seen[kept] = part->seen[i];
        part->numbers[part->end++] = part->read;
        kept++;
    }
    run->frames = part->frames;
    run->n = kept;
    return 0;
}

const struct dp_seen *dp_part_seen(const struct dp_part *part)
{
    return part->seen;
}

void dp_part_take_numbers(struct dp_part *part, uint64_t *numbers, uint32_t n)
{
    memcpy(numbers, part->numbers + part->first, n * sizeof *numbers);
    part->first += n;
}

/* ---- the census ---- */

static uint32_t leader_of(uint32_t *leader, uint32_t zone)
{
    while (leader[zone] != zone)
        zone = leader[zone] = leader[leader[zone]];
    return zone;
}

static void join(uint32_t *leader, uint32_t a, uint32_t b)
{
    a = leader_of(leader, a);
    b = leader_of(leader, b);
    if (a < b)
        leader[b] = a;
    else
        leader[a] = b;
}

static void count_frame(const struct dp_endpoints *endpoints, const struct dp_frame *frame, uint32_t *leader,
                        uint64_t *packets, uint32_t n_zones, struct dp_census *census)
{
    uint32_t zone[DP_DIRECTIONS];
    struct dp_packet packet;
    bool touches = false;

    if (!plain_zones(endpoints, frame, zone)) {
        dp_packet_parse(frame, &packet);
        zones_of(endpoints, &packet, zone);
        census->fragments += packet.fragment;
        /* What dp_control_heard() notes is noted for all. */
        census->questions +=
            zone[DP_EGRESS] == DP_NO_ZONE && packet.protocol == DP_PROTO_UDP && dp_may_be_control(&packet);
    }
    for (uint32_t d = 0; d < DP_DIRECTIONS; d++) {
        census->shared += dp_is_shared(zone[d]);
        if (zone[d] >= n_zones)
            continue;
        packets[zone[d]]++;
        touches = true;
    }
    census->untouched += !touches;
    if (zone[DP_EGRESS] < n_zones && zone[DP_INGRESS] < n_zones)
        join(leader, zone[DP_EGRESS], zone[DP_INGRESS]);
}

void dp_census_count(const struct dp_endpoints *endpoints, const struct dp_merge *merge, const struct dp_run *run,
                     uint32_t *leader, uint64_t *packets, uint32_t n_zones, struct dp_census *census)
{
    for (uint32_t i = 0; i < run->n; i++) {
        const struct dp_frame *frame = &run->frames[i];
        const struct dp_capture_interface *interface = dp_merge_interface_of(merge, frame);

        census->frames++;
        census->backwards += frame->time_ns < census->latest_ns;
        census->latest_ns = frame->time_ns > census->latest_ns ? frame->time_ns : census->latest_ns;
        census->named += interface && interface->name;
        count_frame(endpoints, frame, leader, packets, n_zones, census);
    }
}
