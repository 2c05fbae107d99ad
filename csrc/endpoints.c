/* endpoints.c: the maps of endpoints.h. Balancers are few, so theirs are plain arrays. */
#include "endpoints.h"

#include "prefix.h"

#include "trie.h"

#include <stdlib.h>
#include <string.h>

/* EMPTY is what the tries say of an address that nobody holds. */
enum { EMPTY = DP_TRIE_VALUE_MAX, VIRTUAL = DP_ENDPOINT_VIRTUAL };

struct list {
    uint32_t first; /* in `listed` */
    uint32_t count;
};

struct listed {
    uint32_t zone;
    uint32_t virtual_ip;
    uint32_t position; /* in the order of the policy */
};

struct dp_endpoints {
    struct dp_single_addresses single;
    _Atomic uint32_t references; /* taken and given back by several threads */
    uint32_t n_lists;
    uint32_t n_listed;
    uint32_t listed_room;
    uint32_t n_macs;
    uint32_t n_balancer_macs; /* they stand first in `macs` */
    uint32_t n_balancers;
    uint32_t n_backends;
    uint32_t n_overlaps; /* length of `overlaps` */
    bool has_virtual_macs;
    struct dp_trie prefixes[2]; /* 4, 6; the value EMPTY means nobody */
    struct list *lists;
    struct listed *listed;
    struct dp_mac *macs;
    struct dp_balancer_address *balancers;
    struct dp_backend *backends;
    uint32_t *interface_macs; /* hash table of the MACs of instances' interfaces: 1 + position in `macs`, 0 for free */
    uint32_t interface_mask;
    uint8_t *overlaps; /* by zone: has an own address that another has too */
};

void dp_endpoints_reference(struct dp_endpoints *endpoints)
{
    endpoints->references++;
}

void dp_endpoints_free(struct dp_endpoints *e)
{
    if (!e || --e->references)
        return;
    dp_trie_release(&e->prefixes[0]);
    dp_trie_release(&e->prefixes[1]);
    free(e->single.buckets4);
    free(e->single.slots6);
    free(e->lists);
    free(e->listed);
    free(e->macs);
    free(e->balancers);
    free(e->backends);
    free(e->interface_macs);
    free(e->overlaps);
    free(e);
}

/* ---- building ---- */

static int by_prefix(const void *a, const void *b)
{
    const struct dp_holding *x = *(const struct dp_holding *const *)a, *y = *(const struct dp_holding *const *)b;
    int order;

    if (x->family != y->family)
        return x->family < y->family ? -1 : 1;
    order = dp_prefix_order(&x->prefix, &y->prefix);
    if (order)
        return order;
    if (x->virtual_ip != y->virtual_ip)
        return x->virtual_ip < y->virtual_ip ? -1 : 1;
    return (x > y) - (x < y);
}

static void put(struct dp_single_addresses *single, const struct dp_holding *holding, uint32_t value)
{
    union dp_address address;
    uint32_t at;

    memcpy(address.byte, holding->prefix.address, 16);
    if (holding->family == 4) {
        uint32_t i = 0;

        for (at = dp_single_hash4(single, address.word[0]); single->buckets4[at].value[DP_BUCKET_SLOTS - 1];
             at = (at + 1) & single->mask4)
            ;
        while (single->buckets4[at].value[i])
            i++;
        single->buckets4[at].address[i] = address.word[0];
        single->buckets4[at].value[i] = value + 1;
    } else {
        for (at = dp_single_hash6(single, &address); single->slots6[at].value != DP_NO_ZONE;
             at = (at + 1) & single->mask6)
            ;
        single->slots6[at] = (struct dp_single6){address, value, 0};
    }
}

static int reserve_listed(struct dp_endpoints *e, uint32_t more)
{
    uint32_t room = e->listed_room ? e->listed_room : 64;
    struct listed *listed;

    while (room < e->n_listed + more)
        room *= 2;
    if (room == e->listed_room)
        return 0;
    listed = realloc(e->listed, room * sizeof *listed);
    if (!listed)
        return DP_E_MEMORY;
    e->listed = listed;
    e->listed_room = room;
    return 0;
}

/* Own addresses before virtual ones, then as in the document; an instance once. */
static void list(struct dp_endpoints *e, struct list *list, struct listed holder)
{
    uint32_t at = list->first + list->count;

    for (uint32_t i = 0; i < list->count; i++)
        if (e->listed[list->first + i].zone == holder.zone)
            return;
    for (; at > list->first; at--) {
        const struct listed *before = &e->listed[at - 1];

        if (before->virtual_ip < holder.virtual_ip ||
            (before->virtual_ip == holder.virtual_ip && before->position < holder.position))
            break;
        e->listed[at] = *before;
    }
    e->listed[at] = holder;
    list->count++;
}

static bool is_overlap(const struct dp_endpoints *e, const struct list *list)
{
    return list->count > 1 && !e->listed[list->first + 1].virtual_ip;
}

static void mark_overlap(struct dp_endpoints *e, const struct list *list)
{
    for (uint32_t i = 0; is_overlap(e, list) && i < list->count; i++)
        if (!e->listed[list->first + i].virtual_ip)
            e->overlaps[e->listed[list->first + i].zone] = 1;
}

/*
 * Puts the holdings at sorted[0 .. n), all of one prefix, in their place. Who holds a shorter prefix around it holds it
 * too; those have been put already.
 */
static int put_group(struct dp_endpoints *e, const struct dp_holding *holdings, const struct dp_holding *const *sorted,
                     uint32_t n)
{
    const struct dp_holding *holding = sorted[0];
    bool single = holding->prefix.bits == (holding->family == 4 ? 32u : 128u);
    uint32_t around = dp_trie_lookup(&e->prefixes[holding->family == 6], holding->prefix.address);
    struct list *new = &e->lists[e->n_lists], outer = {0, 0};

    if (around != EMPTY)
        outer = e->lists[around - DP_SHARED];
    if (reserve_listed(e, n + outer.count) < 0)
        return DP_E_MEMORY;
    *new = (struct list){e->n_listed, 0};
    for (uint32_t i = 0; i < n; i++)
        list(e, new, (struct listed){sorted[i]->zone, sorted[i]->virtual_ip, (uint32_t)(sorted[i] - holdings)});
    for (uint32_t i = 0; i < outer.count; i++)
        list(e, new, e->listed[outer.first + i]);
    if (single && new->count == 1) {
        put(&e->single, holding, e->listed[new->first].zone | (e->listed[new->first].virtual_ip ? VIRTUAL : 0));
        return 0;
    }
    e->n_listed += new->count;
    mark_overlap(e, new);
    if (single)
        put(&e->single, holding, DP_SHARED + e->n_lists++);
    else {
        e->single.has_prefixes[holding->family == 6] = true;
        return dp_trie_add(&e->prefixes[holding->family == 6], holding->prefix.address, holding->prefix.bits,
                           DP_SHARED + e->n_lists++);
    }
    return 0;
}

static int put_all(struct dp_endpoints *e, const struct dp_holding *holdings, uint32_t n)
{
    const struct dp_holding **sorted = malloc(((size_t)n + 1) * sizeof(*sorted));
    int error = 0;

    if (!sorted)
        return DP_E_MEMORY;
    for (uint32_t i = 0; i < n; i++)
        sorted[i] = &holdings[i];
    qsort(sorted, n, sizeof(*sorted), by_prefix);
    for (uint32_t i = 0, next; i < n && !error; i = next) {
        for (next = i + 1; next < n && sorted[next]->family == sorted[i]->family &&
                           dp_prefix_order(&sorted[next]->prefix, &sorted[i]->prefix) == 0;
             next++)
            ;
        error = put_group(e, holdings, sorted + i, next - i);
    }
    free(sorted);
    return error;
}

static uint32_t power_of_two(uint32_t least)
{
    uint32_t n = 16;

    while (n < least)
        n *= 2;
    return n;
}

/* Empty maps for so many addresses of each family, a quarter and a half full at most; false without memory. */
static bool make_single(struct dp_single_addresses *single, const uint32_t *n)
{
    single->mask4 = power_of_two(n[0]) - 1;
    single->mask6 = power_of_two(2 * n[1]) - 1;
    single->shift4 = (uint32_t)__builtin_clz(single->mask4);
    single->shift6 = (uint32_t)__builtin_clz(single->mask6);
    single->buckets4 = aligned_alloc(64, ((size_t)single->mask4 + 1) * sizeof *single->buckets4);
    single->slots6 = malloc(((size_t)single->mask6 + 1) * sizeof *single->slots6);
    if (!single->buckets4 || !single->slots6)
        return false;
    memset(single->buckets4, 0, ((size_t)single->mask4 + 1) * sizeof *single->buckets4);
    for (uint32_t i = 0; i <= single->mask6; i++)
        single->slots6[i] = (struct dp_single6){.value = DP_NO_ZONE};
    return true;
}

static void *copy(const void *from, uint32_t n, size_t size)
{
    void *to = malloc(((size_t)n + 1) * size);

    if (to && n)
        memcpy(to, from, n * size);
    return to;
}

/* Those of balancers first, then by zone. */
static int by_owner(const void *a, const void *b)
{
    const struct dp_mac *x = a, *y = b;

    if (!x->balancer != !y->balancer)
        return x->balancer ? -1 : 1;
    return (x->zone > y->zone) - (x->zone < y->zone);
}

static void sort_macs(struct dp_endpoints *e)
{
    qsort(e->macs, e->n_macs, sizeof *e->macs, by_owner);
    while (e->n_balancer_macs < e->n_macs && e->macs[e->n_balancer_macs].balancer)
        e->n_balancer_macs++;
    for (uint32_t i = 0; i < e->n_macs; i++)
        e->has_virtual_macs |= e->macs[i].family != 0;
}

/* The MACs in the table are the policy's own: at most half of it is used. */
static uint32_t interface_slot(const struct dp_endpoints *e, const uint8_t *mac)
{
    uint64_t key = 0;

    memcpy(&key, mac, 6);
    return (uint32_t)(key * 0x9e3779b97f4a7c15u >> 32) & e->interface_mask;
}

static void hash_interfaces(struct dp_endpoints *e)
{
    for (uint32_t i = e->n_balancer_macs; i < e->n_macs; i++) {
        uint32_t at = interface_slot(e, e->macs[i].mac);

        if (e->macs[i].family)
            continue;
        while (e->interface_macs[at])
            at = (at + 1) & e->interface_mask;
        e->interface_macs[at] = i + 1;
    }
}

static bool valid(const struct dp_holding *holdings, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (holdings[i].zone >= DP_ZONES_MAX || !((holdings[i].family == 4 && holdings[i].prefix.bits <= 32) ||
                                                  (holdings[i].family == 6 && holdings[i].prefix.bits <= 128)))
            return false;
    return true;
}

int dp_endpoints_new(const struct dp_holding *holdings, uint32_t n_holdings, const struct dp_mac *macs, uint32_t n_macs,
                     const struct dp_balancer_address *balancers, uint32_t n_balancers,
                     const struct dp_backend *backends, uint32_t n_backends, struct dp_endpoints **endpoints)
{
    struct dp_endpoints *e;
    int error = DP_E_MEMORY;
    uint32_t n[2] = {0, 0};

    *endpoints = NULL;
    if (n_holdings >= DP_ZONES_MAX || !valid(holdings, n_holdings))
        return DP_E_ARGUMENT;
    e = calloc(1, sizeof *e);
    if (!e)
        return DP_E_MEMORY;
    e->references = 1;
    for (uint32_t i = 0; i < n_holdings; i++)
        n[holdings[i].family == 6]++;
    for (uint32_t i = 0; i < n_holdings; i++)
        if (holdings[i].zone >= e->n_overlaps)
            e->n_overlaps = holdings[i].zone + 1;
    e->lists = malloc(((size_t)n_holdings + 1) * sizeof *e->lists);
    e->macs = copy(macs, n_macs, sizeof *macs);
    e->balancers = copy(balancers, n_balancers, sizeof *balancers);
    e->backends = copy(backends, n_backends, sizeof *backends);
    e->overlaps = calloc(e->n_overlaps + 1, 1);
    while (e->interface_mask < 2 * n_macs)
        e->interface_mask = e->interface_mask << 1 | 1;
    e->interface_macs = calloc((size_t)e->interface_mask + 1, sizeof *e->interface_macs);
    e->n_macs = n_macs;
    e->n_balancers = n_balancers;
    e->n_backends = n_backends;
    dp_trie_init(&e->prefixes[0], EMPTY, NULL, 0);
    dp_trie_init(&e->prefixes[1], EMPTY, NULL, 0);
    if (make_single(&e->single, n) && e->lists && e->macs && e->balancers && e->backends && e->overlaps &&
        e->interface_macs) {
        sort_macs(e);
        hash_interfaces(e);
        error = put_all(e, holdings, n_holdings);
    }
    if (error)
        dp_endpoints_free(e);
    else
        *endpoints = e;
    return error;
}

/* ---- looking up ---- */

/* Where the MACs of a zone begin. */
static uint32_t macs_of(const struct dp_endpoints *e, uint32_t zone)
{
    uint32_t low = e->n_balancer_macs, high = e->n_macs;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (e->macs[middle].zone < zone)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The entry of this MAC in a zone: of its interface, else the virtual one of the address; NULL for none. */
static const struct dp_mac *find_mac(const struct dp_endpoints *e, uint32_t zone, const uint8_t *mac, uint32_t family,
                                     const union dp_address *address)
{
    const struct dp_mac *found = NULL;

    for (uint32_t i = macs_of(e, zone); i < e->n_macs && e->macs[i].zone == zone; i++) {
        const struct dp_mac *known = &e->macs[i];

        if (memcmp(known->mac, mac, 6) != 0)
            continue;
        if (!known->family)
            return known;
        if (known->family == family && dp_prefix_covers(&known->pair, address->byte))
            found = known;
    }
    return found;
}

uint32_t dp_endpoints_by_mac(const struct dp_endpoints *e, uint32_t shared, const uint8_t *mac, uint32_t family,
                             const union dp_address *address)
{
    const struct list *list = &e->lists[shared - DP_SHARED];
    uint32_t found = DP_NO_ZONE, virtual = 0;

    for (uint32_t i = 0; mac && i < list->count; i++) {
        const struct dp_mac *known = find_mac(e, e->listed[list->first + i].zone, mac, family, address);

        if (known && !known->family)
            return known->zone;
        if (known && !virtual++)
            found = known->zone;
    }
    return virtual == 1 ? found : DP_NO_ZONE;
}

bool dp_endpoints_is_others_mac(const struct dp_endpoints *e, uint32_t zone, const uint8_t *mac)
{
    bool others = false;

    for (uint32_t at = interface_slot(e, mac); e->interface_macs[at]; at = (at + 1) & e->interface_mask) {
        const struct dp_mac *known = &e->macs[e->interface_macs[at] - 1];

        if (memcmp(known->mac, mac, 6) != 0)
            continue;
        if (known->zone == zone)
            return false;
        others = true;
    }
    return others;
}

uint32_t dp_endpoints_nth_virtual(const struct dp_endpoints *e, uint32_t zone, const uint8_t *mac, uint32_t nth,
                                  union dp_address *address)
{
    for (uint32_t i = macs_of(e, zone); mac && i < e->n_macs && e->macs[i].zone == zone; i++) {
        const struct dp_mac *known = &e->macs[i];

        if (known->family && known->pair.bits == (known->family == 4 ? 32 : 128) && memcmp(known->mac, mac, 6) == 0 &&
            !nth--) {
            memcpy(address, known->pair.address, sizeof *address);
            return known->family;
        }
    }
    return 0;
}

bool dp_endpoints_is_virtual_mac(const struct dp_endpoints *e, uint32_t zone, const uint8_t *mac, uint32_t family,
                                 const union dp_address *address)
{
    if (!e->has_virtual_macs || !mac)
        return false;
    for (uint32_t i = zone == DP_NO_ZONE ? e->n_balancer_macs : macs_of(e, zone);
         i < e->n_macs && (zone == DP_NO_ZONE || e->macs[i].zone == zone); i++) {
        const struct dp_mac *known = &e->macs[i];

        if (known->family && memcmp(known->mac, mac, 6) == 0 &&
            (!address || (known->family == family && dp_prefix_covers(&known->pair, address->byte))))
            return true;
    }
    return false;
}

bool dp_endpoints_holds(const struct dp_endpoints *e, uint32_t shared, uint32_t zone)
{
    const struct list *list = &e->lists[shared - DP_SHARED];

    for (uint32_t i = 0; i < list->count; i++)
        if (e->listed[list->first + i].zone == zone)
            return true;
    return false;
}

uint32_t dp_endpoints_first(const struct dp_endpoints *e, uint32_t shared)
{
    return e->listed[e->lists[shared - DP_SHARED].first].zone;
}

bool dp_endpoints_has_shared(const struct dp_endpoints *e)
{
    return e && e->n_lists > 0;
}

bool dp_endpoints_is_overlap(const struct dp_endpoints *e, uint32_t shared)
{
    return is_overlap(e, &e->lists[shared - DP_SHARED]);
}

bool dp_endpoints_overlaps(const struct dp_endpoints *e, uint32_t zone)
{
    return zone < e->n_overlaps && e->overlaps[zone];
}

/* What an address leads to, DP_NO_ZONE for nothing. */
static inline uint32_t look_up(const struct dp_endpoints *e, uint32_t family, const union dp_address *address)
{
    uint32_t value = family == 4 ? dp_single_find4(&e->single, address->word[0]) : dp_single_find6(&e->single, address);

    if (value == DP_NO_ZONE)
        value = dp_trie_lookup(&e->prefixes[family == 6], address->byte);
    return value == EMPTY ? DP_NO_ZONE : value;
}

uint32_t dp_endpoints_find(const struct dp_endpoints *e, uint32_t family, const union dp_address *address)
{
    return dp_endpoint_zone(look_up(e, family, address));
}

const struct dp_single_addresses *dp_endpoints_single(const struct dp_endpoints *e)
{
    return &e->single;
}

uint32_t dp_endpoints_own(const struct dp_endpoints *e, uint32_t family, const union dp_address *address, uint32_t nth)
{
    uint32_t value = look_up(e, family, address);
    const struct list *list;

    if (value == DP_NO_ZONE)
        return DP_NO_ZONE;
    if (value < DP_SHARED)
        return nth == 0 && !(value & VIRTUAL) ? value : DP_NO_ZONE;
    list = &e->lists[value - DP_SHARED];
    return nth < list->count && !e->listed[list->first + nth].virtual_ip ? e->listed[list->first + nth].zone
                                                                         : DP_NO_ZONE;
}

bool dp_endpoints_is_held(const struct dp_endpoints *e, uint32_t zone, uint32_t family, const union dp_address *address)
{
    uint32_t found = dp_endpoints_find(e, family, address);

    return dp_is_shared(found) ? dp_endpoints_holds(e, found, zone) : found == zone;
}

bool dp_endpoints_is_backend(const struct dp_endpoints *e, uint32_t balancer, uint32_t zone)
{
    for (uint32_t i = 0; i < e->n_backends; i++)
        if (e->backends[i].balancer == balancer && e->backends[i].zone == zone)
            return true;
    return false;
}

bool dp_endpoints_has_balancers(const struct dp_endpoints *e)
{
    return e->n_backends != 0;
}

bool dp_endpoints_is_balancer(const struct dp_endpoints *e, uint32_t zone, uint32_t family,
                              const union dp_address *address, const uint8_t *mac, bool portless)
{
    size_t size = family == 4 ? 4 : 16;

    for (uint32_t i = 0; i < e->n_balancers; i++)
        if (e->balancers[i].family == family && !(portless && e->balancers[i].has_port) &&
            memcmp(e->balancers[i].address, address->byte, size) == 0 &&
            dp_endpoints_is_backend(e, e->balancers[i].balancer, zone))
            return true;
    for (uint32_t i = 0; mac && i < e->n_balancer_macs; i++)
        if (!(portless && e->macs[i].has_port) && memcmp(e->macs[i].mac, mac, 6) == 0 &&
            dp_endpoints_is_backend(e, e->macs[i].balancer, zone))
            return true;
    return false;
}

bool dp_endpoints_is_balancer_mac(const struct dp_endpoints *e, const uint8_t *mac)
{
    for (uint32_t i = 0; i < e->n_balancer_macs; i++)
        if (memcmp(e->macs[i].mac, mac, 6) == 0)
            return true;
    return false;
}

uint32_t dp_endpoints_balancer_at_port(const struct dp_endpoints *e, uint32_t family, const union dp_address *address)
{
    for (uint32_t i = 0; i < e->n_balancers; i++)
        if (e->balancers[i].has_port && e->balancers[i].family == family &&
            memcmp(e->balancers[i].address, address->byte, family == 4 ? 4 : 16) == 0)
            return e->balancers[i].balancer;
    return 0;
}
