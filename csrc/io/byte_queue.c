/* byte_queue.c: a buffer that grows, whose rest is moved to the front when that is no more than was taken. */
#include "byte_queue.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_CAPACITY = 64 * 1024 };

uint8_t *dp_byte_queue_add(struct dp_byte_queue *kept, size_t size)
{
    size_t rest = dp_byte_queue_size(kept), capacity = kept->capacity ? kept->capacity : FIRST_CAPACITY;
    uint8_t *grown;

    if (kept->first >= rest && kept->capacity - kept->end < size) {
        if (rest)
            memcpy(kept->bytes, kept->bytes + kept->first, rest);
        kept->first = 0;
        kept->end = rest;
    }
    if (!kept->bytes || kept->capacity - kept->end < size) {
        while (capacity - kept->end < size)
            capacity *= 2;
        grown = realloc(kept->bytes, capacity);
        if (!grown)
            return NULL;
        kept->bytes = grown;
        kept->capacity = capacity;
    }
    kept->end += size;
    return kept->bytes + kept->end - size;
}

const uint8_t *dp_byte_queue_take(struct dp_byte_queue *kept, size_t size)
{
    const uint8_t *at = kept->bytes + kept->first;

    kept->first += size;
    return at;
}

void dp_byte_queue_release(struct dp_byte_queue *kept)
{
    free(kept->bytes);
    *kept = (struct dp_byte_queue){0};
}
