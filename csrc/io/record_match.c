/*
 * record_match.c: which records are as a filter says: the packet's verdict, and the check that is looked at.
 *
 * That is, of the checks in the filter's direction and at its zone, the one that denied, else the last. A filter that
 * names a direction or a zone selects no packet without such a check; any other is then asked about no check, which has
 * no state, reason, origin and rule.
 */
#include "../dp_text.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

enum { ANY = -1 };

static const struct dp_check *meant(const struct dp_record *record, const struct dp_record_filter *filter)
{
    const struct dp_check *found = NULL;

    for (uint32_t i = 0; i < record->checks; i++) {
        const struct dp_check *check = &record->check[i];

        if ((filter->direction != ANY && check->direction != filter->direction) ||
            (filter->zone != ANY && check->zone != filter->zone))
            continue;
        if (!found || found->verdict != DP_DENY || check->verdict == DP_DENY)
            found = check;
    }
    return found;
}

static bool has(uint32_t set, uint32_t value)
{
    return set >> value & 1;
}

static bool matches(const struct dp_record *record, const struct dp_record_filter *filter)
{
    bool of_check = filter->direction != ANY || filter->zone != ANY;
    const struct dp_check *check = meant(record, filter);
    uint32_t rule = check ? check->rule : 0;

    if (of_check && !check)
        return false;
    return has(filter->verdicts, of_check ? check->verdict : record->verdict) &&
           has(filter->states, check ? check->state : DP_FILTER_NONE) &&
           has(filter->reasons, check ? check->reason : DP_FILTER_NONE) &&
           has(filter->origins, check ? check->origin : DP_ORIGIN_NONE) &&
           (!filter->rules || (rule < filter->n_rules && filter->rules[rule]));
}

_Static_assert((int)DP_STATES < (int)DP_FILTER_NONE && (int)DP_REASONS < (int)DP_FILTER_NONE, "a word has a bit");

int dp_records_match(const struct dp_record *records, const uint32_t *among, uint32_t n,
                     const struct dp_record_filter *filter, uint32_t *indices)
{
    uint32_t found = 0;

    if (!filter || n > INT_MAX || (n && (!records || !indices)))
        return DP_E_ARGUMENT;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = among ? among[i] : i;

        if (matches(&records[at], filter))
            indices[found++] = at;
    }
    return (int)found;
}
