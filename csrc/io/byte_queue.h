/*
 * byte_queue.h: bytes that are kept in the order in which they came until somebody takes them.
 *
 *   ownership  The struct owns its buffer; what is taken stays in it until the next call.
 */
#ifndef DP_IO_BYTE_QUEUE_H
#define DP_IO_BYTE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All zeros: nothing. */
struct dp_byte_queue {
    uint8_t *bytes;
    size_t capacity;
    size_t first;
    size_t end;
};

/* Room for `size` bytes behind the last, which are kept from now on; NULL without memory. */
uint8_t *dp_byte_queue_add(struct dp_byte_queue *kept, size_t size);
/* The next `size` bytes of those that are kept, which are not from now on. */
const uint8_t *dp_byte_queue_take(struct dp_byte_queue *kept, size_t size);
void dp_byte_queue_release(struct dp_byte_queue *kept);

static inline size_t dp_byte_queue_size(const struct dp_byte_queue *kept)
{
    return kept->end - kept->first;
}

#endif
