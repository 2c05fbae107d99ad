/* reorder.c: the queue of reorder.h, a ring. */
#include "reorder.h"

#include <stdlib.h>

int dp_reorder_reserve(struct dp_reorder *queue, uint32_t planes)
{
    if (!queue->records)
        queue->records = malloc(planes * (size_t)DP_REORDER_MAX * sizeof *queue->records);
    if (!queue->flows)
        queue->flows = malloc(DP_REORDER_MAX * sizeof *queue->flows);
    if (!queue->seen)
        queue->seen = malloc(DP_REORDER_MAX * sizeof *queue->seen);
    queue->planes = planes;
    return queue->records && queue->flows && queue->seen ? 0 : DP_E_MEMORY;
}

void dp_reorder_release(struct dp_reorder *queue)
{
    free(queue->records);
    free(queue->flows);
    free(queue->seen);
}

static struct dp_record *record_of(const struct dp_reorder *queue, uint32_t plane, uint64_t ahead)
{
    return &queue->records[plane * (size_t)DP_REORDER_MAX + (queue->first + ahead) % DP_REORDER_MAX];
}

void dp_reorder_put(struct dp_reorder *queue, uint64_t number, const struct dp_records *from, uint32_t at, uint32_t n)
{
    if (queue->count == 0)
        queue->number = number;
    for (uint32_t i = at; i < at + n; i++, queue->count++) {
        uint32_t place = (queue->first + queue->count) % DP_REORDER_MAX;

        for (uint32_t plane = 0; plane < queue->planes; plane++)
            *record_of(queue, plane, queue->count) = from->of[plane][i];
        if (from->flows)
            queue->flows[place] = from->flows[i];
        if (from->seen)
            queue->seen[place] = from->seen[i];
    }
}

bool dp_reorder_resolve(struct dp_reorder *queue, uint32_t plane, uint64_t number, const struct dp_record *record)
{
    uint64_t ahead = number - queue->number;

    if (ahead >= queue->count)
        return false;
    *record_of(queue, plane, ahead) = *record;
    return true;
}

static bool first_waits(const struct dp_reorder *queue)
{
    for (uint32_t plane = 0; plane < queue->planes; plane++)
        if (record_of(queue, plane, 0)->verdict == DP_WAITING)
            return true;
    return false;
}

uint32_t dp_reorder_take(struct dp_reorder *queue, const struct dp_records *to, uint32_t at, uint32_t n)
{
    uint32_t end = at + n, i = at;

    for (; i < end && queue->count && !first_waits(queue); i++) {
        for (uint32_t plane = 0; plane < queue->planes; plane++)
            to->of[plane][i] = *record_of(queue, plane, 0);
        if (to->flows)
            to->flows[i] = queue->flows[queue->first];
        if (to->seen)
            to->seen[i] = queue->seen[queue->first];
        queue->first = (queue->first + 1) % DP_REORDER_MAX;
        queue->count--;
        queue->number++;
    }
    return i - at;
}
