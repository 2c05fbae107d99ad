/* owners.c: a hash table with chains, and a queue of its entries by age of their last claim. Index 0 is nobody. */
#include "owners.h"

#include "discovery.h"
#include "memory.h"

#include <string.h>

enum { SLOTS = 1024 };

struct claim {
    union dp_address address;
    uint32_t family;
    uint32_t vlans;
    uint32_t zone;
    uint32_t chain;
    uint32_t older;
    uint32_t newer;
};

struct dp_owners {
    uint32_t slot[SLOTS];
    uint32_t count;
    uint32_t oldest;
    uint32_t newest;
    struct claim claim[DP_OWNERS + 1];
};

struct dp_owners *dp_owners_new(void)
{
    return dp_reserve(sizeof(struct dp_owners));
}

void dp_owners_free(struct dp_owners *owners)
{
    dp_unreserve(owners, sizeof *owners);
}

/* What is asked for: an address, with the VLANs where they tell networks apart. */
static struct claim wanted(const struct dp_endpoints *endpoints, uint32_t shared, uint32_t family,
                           const uint8_t *address, uint32_t vlans)
{
    struct claim claim = {.family = family, .vlans = dp_endpoints_is_overlap(endpoints, shared) ? vlans : 0};

    memcpy(claim.address.byte, address, family == 4 ? 4 : 16);
    return claim;
}

static uint32_t *slot_of(struct dp_owners *o, const struct claim *c)
{
    const uint32_t *word = c->address.word;
    uint32_t h = (word[0] * 3 ^ word[1] * 5 ^ word[2] * 7 ^ word[3] ^ c->vlans) * 0x9e3779b1u;

    return &o->slot[h >> 22];
}

static uint32_t find(struct dp_owners *o, const struct claim *c)
{
    uint32_t i = *slot_of(o, c);

    while (i && (o->claim[i].family != c->family || o->claim[i].vlans != c->vlans ||
                 memcmp(&o->claim[i].address, &c->address, sizeof c->address) != 0))
        i = o->claim[i].chain;
    return i;
}

static void unlink_age(struct dp_owners *o, uint32_t i)
{
    const struct claim *c = &o->claim[i];

    *(c->older ? &o->claim[c->older].newer : &o->oldest) = c->newer;
    *(c->newer ? &o->claim[c->newer].older : &o->newest) = c->older;
}

static void link_newest(struct dp_owners *o, uint32_t i)
{
    o->claim[i].older = o->newest;
    o->claim[i].newer = 0;
    *(o->newest ? &o->claim[o->newest].newer : &o->oldest) = i;
    o->newest = i;
}

/* A place for a claim that has none yet. */
static uint32_t make(struct dp_owners *o, const struct claim *c)
{
    uint32_t i = o->count < DP_OWNERS ? ++o->count : o->oldest, *slot = slot_of(o, c), *from;

    if (o->claim[i].family) {
        for (from = slot_of(o, &o->claim[i]); *from != i; from = &o->claim[*from].chain)
            ;
        *from = o->claim[i].chain;
        unlink_age(o, i);
    }
    o->claim[i] = *c;
    o->claim[i].chain = *slot;
    *slot = i;
    link_newest(o, i);
    return i;
}

static void claim(struct dp_owners *o, const struct claim *c, uint32_t zone)
{
    uint32_t i = find(o, c);

    if (!i) {
        i = make(o, c);
    } else if (i != o->newest) {
        unlink_age(o, i);
        link_newest(o, i);
    }
    o->claim[i].zone = zone;
}

/* ARP says itself whose hardware address the sender's is; the frame may come from somebody else. */
static const uint8_t *sender_of(const struct dp_packet *p)
{
    return p->kind == DP_PACKET_ARP ? p->inside : p->source_mac;
}

uint32_t dp_owners_choose(struct dp_owners *o, const struct dp_endpoints *endpoints, uint32_t shared,
                          const struct dp_packet *p, uint32_t direction)
{
    bool sends = direction == DP_EGRESS;
    const union dp_address *address = sends ? &p->source : &p->destination;
    struct claim c = wanted(endpoints, shared, p->family, address->byte, p->vlans);
    uint32_t zone = DP_NO_ZONE, i;

    if (sends && p->kind == DP_PACKET_ARP)
        zone = dp_endpoints_by_mac(endpoints, shared, p->inside, p->family, address);
    if (zone == DP_NO_ZONE)
        zone = dp_endpoints_by_mac(endpoints, shared, sends ? p->source_mac : p->destination_mac, p->family, address);
    if (zone != DP_NO_ZONE)
        return zone;
    /* Who announces an address to itself is the one that it reaches. */
    if (!sends && memcmp(&p->source, &p->destination, p->family == 4 ? 4 : 16) == 0)
        return dp_owners_choose(o, endpoints, shared, p, DP_EGRESS);
    i = find(o, &c);
    return i && dp_endpoints_holds(endpoints, shared, o->claim[i].zone) ? o->claim[i].zone
                                                                        : dp_endpoints_first(endpoints, shared);
}

/* ---- learning ---- */

/* Whether what is told of `zone` came in a frame of another instance: none may speak for another. */
static bool is_forged(const struct dp_endpoints *endpoints, const struct dp_packet *p, uint32_t zone)
{
    return p->source_mac && dp_endpoints_is_others_mac(endpoints, zone, p->source_mac);
}

/* `zone` has the address from now on, if several hold it and `zone` is one of them. */
static void give(struct dp_owners *o, const struct dp_endpoints *endpoints, const struct dp_packet *p, uint32_t family,
                 const union dp_address *address, uint32_t zone)
{
    uint32_t shared = dp_endpoints_find(endpoints, family, address);
    struct claim c;

    if (!dp_is_shared(shared) || !dp_endpoints_holds(endpoints, shared, zone))
        return;
    c = wanted(endpoints, shared, family, address->byte, p->vlans);
    claim(o, &c, zone);
}

/* The holder that a MAC in the packet tells, else the frame's own. */
static uint32_t told(const struct dp_endpoints *endpoints, const struct dp_packet *p, uint32_t family,
                     const union dp_address *address, const uint8_t *mac)
{
    uint32_t shared = dp_endpoints_find(endpoints, family, address), zone;

    if (!dp_is_shared(shared))
        return DP_NO_ZONE;
    zone = dp_endpoints_by_mac(endpoints, shared, mac, family, address);
    if (zone == DP_NO_ZONE)
        return mac == p->source_mac ? zone : dp_endpoints_by_mac(endpoints, shared, p->source_mac, family, address);
    return mac != p->source_mac && is_forged(endpoints, p, zone) ? DP_NO_ZONE : zone;
}

/* The target link-layer address in the advertisement's options, else NULL. */
static const uint8_t *target_link(struct dp_nd_options options)
{
    const uint8_t *found;
    uint8_t kind = 0;

    do
        found = dp_nd_next_link(&options, &kind);
    while (found && kind != DP_ND_TARGET_LINK);
    return found;
}

static void learn_advertised(struct dp_owners *o, const struct dp_endpoints *endpoints, const struct dp_packet *p,
                             uint32_t sender)
{
    union dp_address target;
    uint32_t zone;

    if ((p->selector >> 8 & 0xff) != DP_ND_NEIGHBOUR_ADVERTISEMENT || p->inside_captured < sizeof target)
        return;
    memcpy(&target, p->inside, sizeof target);
    zone = told(endpoints, p, 6, &target,
                target_link((struct dp_nd_options){p->inside + sizeof target, p->inside + p->inside_captured}));
    if (zone != DP_NO_ZONE && (sender == DP_NO_ZONE || sender == zone))
        give(o, endpoints, p, 6, &target, zone);
}

/*
 * Who sends advertisements of VRRP (RFC 9568, 5.2; RFC 3768, 5.1) has the addresses in them; CARP names none. By
 * either, who sends from a virtual MAC has the virtual IPs that go with it. Who resigns has nothing any more.
 */
static void learn_redundancy(struct dp_owners *o, const struct dp_endpoints *endpoints, const struct dp_packet *p,
                             uint32_t sender)
{
    enum { HEADER = 8, ADVERTISEMENT = 1, CARP_SIZE = 36, CARP_WORDS = 7 };
    uint32_t size = p->family == 4 ? 4 : 16, family;
    const uint8_t *said = p->inside;
    union dp_address address;
    bool carp;

    if (sender == DP_NO_ZONE || p->inside_captured < HEADER || (said[0] & 15) != ADVERTISEMENT ||
        is_forged(endpoints, p, sender))
        return;
    carp = said[0] >> 4 == 2 && said[3] == CARP_WORDS && p->inside_length == CARP_SIZE;
    if (carp ? said[2] == 255 && said[5] == 255 : said[2] == 0)
        return;
    for (uint32_t i = 0; !carp && i < said[3] && HEADER + (i + 1) * size <= p->inside_captured; i++) {
        memset(&address, 0, sizeof address);
        memcpy(&address, said + HEADER + i * size, size);
        give(o, endpoints, p, p->family, &address, sender);
    }
    for (uint32_t i = 0; (family = dp_endpoints_nth_virtual(endpoints, sender, p->source_mac, i, &address)); i++)
        give(o, endpoints, p, family, &address, sender);
}

void dp_owners_learn(struct dp_owners *o, const struct dp_endpoints *endpoints, const struct dp_packet *p,
                     uint32_t sender)
{
    uint32_t zone;

    if (p->kind == DP_PACKET_MALFORMED)
        return;
    if (p->icmp_class == DP_ICMP_CONTROL && p->inside)
        learn_advertised(o, endpoints, p, sender);
    if (p->protocol == DP_PROTO_VRRP && p->inside)
        learn_redundancy(o, endpoints, p, sender);
    zone = told(endpoints, p, p->family, &p->source, sender_of(p));
    if (zone != DP_NO_ZONE)
        give(o, endpoints, p, p->family, &p->source, zone);
}

void dp_owners_forget(struct dp_owners *o, const struct dp_retired *retired)
{
    for (uint32_t i = 1; i <= o->count; i++)
        if (o->claim[i].zone < retired->n_zones && retired->zones[o->claim[i].zone])
            o->claim[i].zone = DP_NO_ZONE;
}
