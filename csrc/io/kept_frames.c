/* kept_frames.c: kept_frames.h in code. */
#include "kept_frames.h"

/* Where the block of a frame begins whose data stand at `data`. */
enum { BEFORE_DATA = 28 };

/* What the block of a frame tells besides its bytes; returns its options. */
static const uint8_t *look_at_block(const struct dp_frame *frame, struct dp_kept_frame *head)
{
    const uint8_t *block = frame->data - BEFORE_DATA;
    const uint8_t *options = frame->data + ((frame->captured + (size_t)3) & ~(size_t)3);

    head->options = (uint32_t)(block + dp_load_u32(block + 4, head->swapped) - 4 - options);
    head->timestamp = (uint64_t)dp_load_u32(block + 12, head->swapped) << 32 | dp_load_u32(block + 16, head->swapped);
    return options;
}

int dp_kept_frame_add(struct dp_byte_queue *kept, const struct dp_frame *frame,
                      const struct dp_capture_interface *interface, uint32_t number, uint32_t link_type)
{
    struct dp_kept_frame head = {.time_ns = frame->time_ns,
                                 .captured = frame->captured,
                                 .length = frame->length,
                                 .capture = frame->capture,
                                 .interface = number,
                                 .link_type = link_type,
                                 .in_block = (frame->flags & DP_FRAME_IN_BLOCK) != 0,
                                 .swapped = interface && interface->swapped};
    const uint8_t *options = head.in_block ? look_at_block(frame, &head) : NULL;
    uint8_t *at;

    head.size = (uint32_t)((sizeof head + frame->captured + head.options + 7) & ~(size_t)7);
    at = dp_byte_queue_add(kept, head.size);
    if (!at)
        return DP_E_MEMORY;
    memcpy(at, &head, sizeof head);
    memcpy(at + sizeof head, frame->data, frame->captured);
    if (head.options)
        memcpy(at + sizeof head + frame->captured, options, head.options);
    return 0;
}

const uint8_t *dp_kept_frames_take(struct dp_byte_queue *kept, uint32_t n, uint64_t *size)
{
    struct dp_kept_frame head;

    for (*size = 0; n-- && *size + sizeof head <= dp_byte_queue_size(kept); *size += head.size)
        memcpy(&head, kept->bytes + kept->first + *size, sizeof head);
    return dp_byte_queue_take(kept, *size);
}
