/* arrivals.c: arrivals.h in code. */
#include "arrivals.h"

#include <stdlib.h>

static int compare(const void *one, const void *other)
{
    const struct dp_arrival *a = one, *b = other;
    int order = memcmp(a->address, b->address, sizeof a->address);

    if (a->family != b->family)
        return a->family < b->family ? -1 : 1;
    if (order)
        return order;
    return a->rule < b->rule ? -1 : a->rule > b->rule;
}

struct dp_arrivals *dp_arrivals_new(const struct dp_arrival *arrivals, uint32_t n)
{
    struct dp_arrivals *set = malloc(sizeof *set + n * sizeof set->arrival[0]);

    if (!set)
        return NULL;
    set->n = n;
    if (n)
        memcpy(set->arrival, arrivals, n * sizeof set->arrival[0]);
    qsort(set->arrival, n, sizeof set->arrival[0], compare);
    return set;
}

/* The first arrival that is not before `key`; NULL where none is. */
static const struct dp_arrival *at_or_after(const struct dp_arrivals *set, const struct dp_arrival *key)
{
    uint32_t low = 0, high = set->n;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (compare(&set->arrival[middle], key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < set->n ? &set->arrival[low] : NULL;
}

bool dp_arrivals_deny(const struct dp_arrivals *arrivals, const struct dp_rule_table *table,
                      const struct dp_flow_table *flows, const struct dp_entry *e)
{
    struct dp_arrival key = {.family = e->flags & DP_ENTRY_IPV6 ? 6 : 4};
    const struct dp_arrival *found;
    uint32_t position;

    if (!table)
        return false;
    if (e->flags & DP_ENTRY_WIDE)
        memcpy(key.address, &flows->pairs[e->local].remote, sizeof key.address);
    else
        memcpy(key.address, &e->remote, sizeof e->remote);
    found = at_or_after(arrivals, &key);
    if (!found || found->family != key.family || memcmp(found->address, key.address, sizeof key.address) != 0)
        return false;
    position = dp_rule_table_find(table, key.address, dp_entry_selector(e));
    if (position == DP_NO_MATCH || table->rule_action[position] != DP_DENY)
        return false;
    key.rule = table->rule_number[position];
    found = at_or_after(arrivals, &key);
    return found && compare(found, &key) == 0;
}
