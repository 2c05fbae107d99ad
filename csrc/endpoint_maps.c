/* endpoint_maps.c: the maps of endpoint_maps.h, made and freed. */
#include "endpoint_maps.h"

#include "prefix.h"

#include <stdlib.h>
#include <string.h>

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

/* Notes the blocks of a prefix; of one with very many, all. */
static void note_prefix(struct dp_single_addresses *single, uint32_t family, const struct dp_prefix *prefix)
{
    uint64_t *near = single->near_prefix[family == 6], block = dp_block_of(prefix->address, family);
    uint32_t of_block = family == 4 ? 24 : 64, more = prefix->bits < of_block ? of_block - prefix->bits : 0;

    single->has_prefixes[family == 6] = true;
    if (more >= DP_NEAR_BITS) {
        memset(near, 0xff, sizeof single->near_prefix[0]);
        return;
    }
    for (uint64_t i = 0; i < 1u << more; i++) {
        uint32_t bit = dp_near_bit(block + i);

        near[bit / 64] |= 1ull << bit % 64;
    }
}

static int reserve_listed(struct dp_endpoints *e, uint32_t more)
{
    uint32_t room = e->listed_room ? e->listed_room : 64;
    struct dp_holder *listed;

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
static void list(struct dp_endpoints *e, struct dp_holder_list *list, struct dp_holder holder)
{
    uint32_t at = list->first + list->count;

    for (uint32_t i = 0; i < list->count; i++)
        if (e->listed[list->first + i].zone == holder.zone)
            return;
    for (; at > list->first; at--) {
        const struct dp_holder *before = &e->listed[at - 1];

        if (before->virtual_ip < holder.virtual_ip ||
            (before->virtual_ip == holder.virtual_ip && before->position < holder.position))
            break;
        e->listed[at] = *before;
    }
    e->listed[at] = holder;
    list->count++;
}

static void mark_overlap(struct dp_endpoints *e, const struct dp_holder_list *list)
{
    for (uint32_t i = 0; dp_holders_overlap(e, list) && i < list->count; i++)
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
    struct dp_holder_list *new = &e->lists[e->n_lists], outer = {0, 0};

    if (around != DP_HELD_BY_NOBODY)
        outer = e->lists[around - DP_SHARED];
    if (reserve_listed(e, n + outer.count) < 0)
        return DP_E_MEMORY;
    *new = (struct dp_holder_list){e->n_listed, 0};
    for (uint32_t i = 0; i < n; i++)
        list(e, new, (struct dp_holder){sorted[i]->zone, sorted[i]->virtual_ip, (uint32_t)(sorted[i] - holdings)});
    for (uint32_t i = 0; i < outer.count; i++)
        list(e, new, e->listed[outer.first + i]);
    if (single && new->count == 1) {
        put(&e->single, holding,
            e->listed[new->first].zone | (e->listed[new->first].virtual_ip ? DP_ENDPOINT_VIRTUAL : 0));
        return 0;
    }
    e->n_listed += new->count;
    mark_overlap(e, new);
    if (single)
        put(&e->single, holding, DP_SHARED + e->n_lists++);
    else {
        note_prefix(&e->single, holding->family, &holding->prefix);
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

static void hash_interfaces(struct dp_endpoints *e)
{
    for (uint32_t i = e->n_balancer_macs; i < e->n_macs; i++) {
        uint32_t at = dp_interface_slot(e, e->macs[i].mac);

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
    dp_trie_init(&e->prefixes[0], DP_HELD_BY_NOBODY, NULL, 0);
    dp_trie_init(&e->prefixes[1], DP_HELD_BY_NOBODY, NULL, 0);
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
