/* reorder.c: the queue of reorder.h, a ring. */
#include "reorder.h"

#include <stdlib.h>

int dp_reorder_reserve(struct dp_reorder *queue)
{
    if (!queue->records)
        queue->records = malloc(DP_REORDER_MAX * sizeof *queue->records);
    if (!queue->flows)
        queue->flows = malloc(DP_REORDER_MAX * sizeof *queue->flows);
    if (!queue->seen)
        queue->seen = malloc(DP_REORDER_MAX * sizeof *queue->seen);
    return queue->records && queue->flows && queue->seen ? 0 : DP_E_MEMORY;
}

void dp_reorder_release(struct dp_reorder *queue)
{
    free(queue->records);
    free(queue->flows);
    free(queue->seen);
}

void dp_reorder_put(struct dp_reorder *queue, uint64_t number, const struct dp_record *records,
                    const struct dp_flow *flows, const struct dp_seen *seen, uint32_t n)
{
    if (queue->count == 0)
        queue->number = number;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = (queue->first + queue->count++) % DP_REORDER_MAX;

        queue->records[at] = records[i];
        if (flows)
            queue->flows[at] = flows[i];
        if (seen)
            queue->seen[at] = seen[i];
    }
}

bool dp_reorder_resolve(struct dp_reorder *queue, const struct dp_resolution *resolution)
{
    uint64_t ahead = resolution->number - queue->number;

    if (ahead >= queue->count)
        return false;
    queue->records[(queue->first + ahead) % DP_REORDER_MAX] = resolution->record;
    return true;
}

uint32_t dp_reorder_take(struct dp_reorder *queue, struct dp_record *records, struct dp_flow *flows,
                         struct dp_seen *seen, uint32_t n)
{
    uint32_t taken = 0;

    for (; taken < n && queue->count && queue->records[queue->first].verdict != DP_WAITING; taken++) {
        records[taken] = queue->records[queue->first];
        if (flows)
            flows[taken] = queue->flows[queue->first];
        if (seen)
            seen[taken] = queue->seen[queue->first];
        queue->first = (queue->first + 1) % DP_REORDER_MAX;
        queue->count--;
        queue->number++;
    }
    return taken;
}
