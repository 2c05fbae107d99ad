/* endpoints.c: the maps of endpoints.h. Balancers are few, so theirs are plain arrays. */
#include "endpoints.h"

#include "prefix.h"

#include "trie.h"

#include <stdlib.h>
#include <string.h>

/*
 * What an address leads to: a zone, with VIRTUAL where it is a virtual IP, or DP_SHARED + position of a list. Prefixes
 * always lead to a list.
 */
enum { EMPTY = 0x7fffffff, VIRTUAL = 0x20000000 };
_Static_assert((int)VIRTUAL > (int)DP_ZONES_MAX && (int)VIRTUAL < (int)DP_SHARED, "it is no part of either");

struct slot4 {
    uint32_t address;
    uint32_t value;
};

struct slot6 {
    union dp_address address;
    uint32_t value;
    uint32_t unused;
};

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
    _Atomic uint32_t references; /* taken and given back by several threads */
    uint32_t mask4;
    uint32_t mask6;
    uint32_t shift4;
    uint32_t shift6;
    uint32_t n_lists;
    uint32_t n_listed;
    uint32_t listed_room;
    uint32_t n_macs;
    uint32_t n_balancer_macs; /* they stand first in `macs` */
    uint32_t n_balancers;
    uint32_t n_backends;
    uint32_t n_overlaps; /* length of `overlaps` */
    bool has_virtual_macs;
    struct slot4 *slots4;
    struct slot6 *slots6;
    struct dp_trie prefixes[2]; /* 4, 6; the value EMPTY means nobody */
    struct list *lists;
    struct listed *listed;
    struct dp_mac *macs;
    struct dp_balancer_address *balancers;
    struct dp_backend *backends;
    uint8_t *overlaps; /* by zone: has an own address that another has too */
};

/* Multiplicative hashing: the high bits are the good ones. The addresses in the table are the policy's own. */
static inline uint32_t hash4(const struct dp_endpoints *e, uint32_t address)
{
    return address * 0x9e3779b1u >> e->shift4;
}

static inline uint32_t hash6(const struct dp_endpoints *e, const union dp_address *a)
{
    uint64_t high = (uint64_t)a->word[0] << 32 | a->word[1], low = (uint64_t)a->word[2] << 32 | a->word[3];

    return (uint32_t)((high * 0xff51afd7ed558ccdu ^ low) * 0x9e3779b97f4a7c15u >> 32) >> e->shift6;
}

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
    free(e->slots4);
    free(e->slots6);
    free(e->lists);
    free(e->listed);
    free(e->macs);
    free(e->balancers);
    free(e->backends);
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

static void put(struct dp_endpoints *e, const struct dp_holding *holding, uint32_t value)
{
    union dp_address address;
    uint32_t at;

    memcpy(address.byte, holding->prefix.address, 16);
    if (holding->family == 4) {
        for (at = hash4(e, address.word[0]); e->slots4[at].value != EMPTY; at = (at + 1) & e->mask4)
            ;
        e->slots4[at].address = address.word[0];
        e->slots4[at].value = value;
    } else {
        for (at = hash6(e, &address); e->slots6[at].value != EMPTY; at = (at + 1) & e->mask6)
            ;
        e->slots6[at].address = address;
        e->slots6[at].value = value;
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
        put(e, holding, e->listed[new->first].zone | (e->listed[new->first].virtual_ip ? VIRTUAL : 0));
        return 0;
    }
    e->n_listed += new->count;
    mark_overlap(e, new);
    if (single)
        put(e, holding, DP_SHARED + e->n_lists++);
    else
        return dp_trie_add(&e->prefixes[holding->family == 6], holding->prefix.address, holding->prefix.bits,
                           DP_SHARED + e->n_lists++);
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

static uint32_t slots_for(uint32_t n)
{
    uint32_t slots = 16;

    while (slots < n * 2)
        slots *= 2;
    return slots;
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
    e->mask4 = slots_for(n[0]) - 1;
    e->mask6 = slots_for(n[1]) - 1;
    e->shift4 = (uint32_t)__builtin_clz(e->mask4);
    e->shift6 = (uint32_t)__builtin_clz(e->mask6);
    e->slots4 = malloc(((size_t)e->mask4 + 1) * sizeof *e->slots4);
    e->slots6 = malloc(((size_t)e->mask6 + 1) * sizeof *e->slots6);
    e->lists = malloc(((size_t)n_holdings + 1) * sizeof *e->lists);
    e->macs = copy(macs, n_macs, sizeof *macs);
    e->balancers = copy(balancers, n_balancers, sizeof *balancers);
    e->backends = copy(backends, n_backends, sizeof *backends);
    e->overlaps = calloc(e->n_overlaps + 1, 1);
    e->n_macs = n_macs;
    e->n_balancers = n_balancers;
    e->n_backends = n_backends;
    dp_trie_init(&e->prefixes[0], EMPTY, NULL, 0);
    dp_trie_init(&e->prefixes[1], EMPTY, NULL, 0);
    if (e->slots4 && e->slots6 && e->lists && e->macs && e->balancers && e->backends && e->overlaps) {
        for (uint32_t i = 0; i <= e->mask4; i++)
            e->slots4[i].value = EMPTY;
        for (uint32_t i = 0; i <= e->mask6; i++)
            e->slots6[i].value = EMPTY;
        sort_macs(e);
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

    for (uint32_t i = e->n_balancer_macs; i < e->n_macs; i++)
        if (!e->macs[i].family && memcmp(e->macs[i].mac, mac, 6) == 0) {
            if (e->macs[i].zone == zone)
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

static inline uint32_t look_up(const struct dp_endpoints *e, uint32_t family, const union dp_address *address)
{
    uint32_t value = EMPTY;

    if (family == 4) {
        uint32_t at = hash4(e, address->word[0]);

        for (; e->slots4[at].value != EMPTY; at = (at + 1) & e->mask4)
            if (e->slots4[at].address == address->word[0]) {
                value = e->slots4[at].value;
                break;
            }
    } else {
        uint32_t at = hash6(e, address);

        for (; e->slots6[at].value != EMPTY; at = (at + 1) & e->mask6)
            if (memcmp(&e->slots6[at].address, address, 16) == 0) {
                value = e->slots6[at].value;
                break;
            }
    }
    if (value == EMPTY)
        value = dp_trie_lookup(&e->prefixes[family == 6], address->byte);
    return value;
}

uint32_t dp_endpoints_find(const struct dp_endpoints *e, uint32_t family, const union dp_address *address)
{
    uint32_t value = look_up(e, family, address);

    return value == EMPTY ? DP_NO_ZONE : value >= DP_SHARED ? value : value & ~(uint32_t)VIRTUAL;
}

uint32_t dp_endpoints_own(const struct dp_endpoints *e, uint32_t family, const union dp_address *address, uint32_t nth)
{
    uint32_t value = look_up(e, family, address);
    const struct list *list;

    if (value == EMPTY)
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
