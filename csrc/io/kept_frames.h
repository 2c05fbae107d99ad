/* kept_frames.h: frames as they were captured, kept as struct dp_kept_frame (dp_captures.h) until somebody writes them.
 */
#ifndef DP_IO_KEPT_FRAMES_H
#define DP_IO_KEPT_FRAMES_H

#include "capture.h"

/*
 * Keeps a frame behind the others. `interface` is the one it was captured at (NULL: none is told), `number` its number
 * in struct dp_seen. What stands behind the frame's bytes in its block of pcapng is kept too. 0 or DP_E_MEMORY.
 */
int dp_kept_frame_add(struct dp_byte_queue *kept, const struct dp_frame *frame,
                      const struct dp_capture_interface *interface, uint32_t number, uint32_t link_type);
/* Takes the first `n` frames, one behind the other, `size` bytes in all; they last until the next call. */
const uint8_t *dp_kept_frames_take(struct dp_byte_queue *kept, uint32_t n, uint64_t *size);

#endif
