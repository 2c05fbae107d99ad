/* remote_change.c: remote_change.h in code. */
#include "remote_change.h"

#include <stdlib.h>

static int compare(const void *one, const void *other)
{
    const struct dp_rule_address *a = one, *b = other;
    int order = memcmp(a->address, b->address, sizeof a->address);

    if (a->family != b->family)
        return a->family < b->family ? -1 : 1;
    if (order)
        return order;
    return a->rule < b->rule ? -1 : a->rule > b->rule;
}

struct dp_remote_change *dp_remote_change_new(const struct dp_policy_update *update)
{
    uint32_t revoked = update->n_revocations, arrived = update->n_arrivals;
    struct dp_remote_change *change = malloc(sizeof *change + ((size_t)revoked + arrived) * sizeof change->address[0]);

    if (!change)
        return NULL;
    change->n_revoked = revoked;
    change->n_arrived = arrived;
    if (revoked)
        memcpy(change->address, update->revocations, revoked * sizeof change->address[0]);
    if (arrived)
        memcpy(change->address + revoked, update->arrivals, arrived * sizeof change->address[0]);
    qsort(change->address, revoked, sizeof change->address[0], compare);
    qsort(change->address + revoked, arrived, sizeof change->address[0], compare);
    return change;
}

/* The first of `n` in order that is not before `key`; NULL where none is. */
static const struct dp_rule_address *at_or_after(const struct dp_rule_address *all, uint32_t n,
                                                 const struct dp_rule_address *key)
{
    uint32_t low = 0, high = n;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (compare(&all[middle], key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < n ? &all[low] : NULL;
}

static bool has(const struct dp_rule_address *all, uint32_t n, const struct dp_rule_address *key)
{
    const struct dp_rule_address *found = at_or_after(all, n, key);

    return found && compare(found, key) == 0;
}

/* Whether a deny rule that the address of `key` came to is the first to match the entry. */
static bool is_denied(const struct dp_remote_change *change, const struct dp_rule_table *table,
                      struct dp_rule_address key, const struct dp_entry *e)
{
    const struct dp_rule_address *arrived = change->address + change->n_revoked, *found;
    uint32_t position;

    key.rule = 0;
    found = at_or_after(arrived, change->n_arrived, &key);
    if (!found || found->family != key.family || memcmp(found->address, key.address, sizeof key.address) != 0)
        return false;
    position = dp_rule_table_find(table, key.address, dp_entry_selector(e));
    if (position == DP_NO_MATCH || dp_rule_table_action(table, position) != DP_DENY)
        return false;
    key.rule = dp_rule_table_number(table, position);
    return has(arrived, change->n_arrived, &key);
}

bool dp_remote_change_cuts(const struct dp_remote_change *change, const struct dp_rule_table *table,
                           const struct dp_flow_table *flows, const struct dp_entry *e)
{
    union dp_address remote = dp_entry_remote(flows, e);
    struct dp_rule_address key = {.family = e->flags & DP_ENTRY_IPV6 ? 6 : 4, .rule = e->rule};

    memcpy(key.address, &remote, sizeof key.address);
    return has(change->address, change->n_revoked, &key) ||
           (table && change->n_arrived && is_denied(change, table, key, e));
}
