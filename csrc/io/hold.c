/* hold.c: the queue of hold.h, a ring. */
#include "hold.h"

#include <stdlib.h>

int dp_hold_reserve(struct dp_hold *hold)
{
    if (!hold->records)
        hold->records = malloc(DP_HOLD_MAX * sizeof *hold->records);
    if (!hold->flows)
        hold->flows = malloc(DP_HOLD_MAX * sizeof *hold->flows);
    if (!hold->seen)
        hold->seen = malloc(DP_HOLD_MAX * sizeof *hold->seen);
    return hold->records && hold->flows && hold->seen ? 0 : DP_E_MEMORY;
}

void dp_hold_release(struct dp_hold *hold)
{
    free(hold->records);
    free(hold->flows);
    free(hold->seen);
}

void dp_hold_put(struct dp_hold *hold, uint64_t number, const struct dp_record *records, const struct dp_flow *flows,
                 const struct dp_seen *seen, uint32_t n)
{
    if (hold->count == 0)
        hold->number = number;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = (hold->first + hold->count++) % DP_HOLD_MAX;

        hold->records[at] = records[i];
        if (flows)
            hold->flows[at] = flows[i];
        if (seen)
            hold->seen[at] = seen[i];
    }
}

bool dp_hold_resolve(struct dp_hold *hold, const struct dp_resolution *resolution)
{
    uint64_t ahead = resolution->number - hold->number;

    if (ahead >= hold->count)
        return false;
    hold->records[(hold->first + ahead) % DP_HOLD_MAX] = resolution->record;
    return true;
}

uint32_t dp_hold_take(struct dp_hold *hold, struct dp_record *records, struct dp_flow *flows, struct dp_seen *seen,
                      uint32_t n)
{
    uint32_t taken = 0;

    for (; taken < n && hold->count && hold->records[hold->first].verdict != DP_WAITING; taken++) {
        records[taken] = hold->records[hold->first];
        if (flows)
            flows[taken] = hold->flows[hold->first];
        if (seen)
            seen[taken] = hold->seen[hold->first];
        hold->first = (hold->first + 1) % DP_HOLD_MAX;
        hold->count--;
        hold->number++;
    }
    return taken;
}
