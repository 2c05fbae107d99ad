/*
 * capture.h: captures opened, and their frames, whatever the format: dp_captures.h has what is not told here.
 */
#ifndef DP_IO_CAPTURE_H
#define DP_IO_CAPTURE_H

#include "capture_state.h"

/* Opens a capture that stands in memory: `data` stays the caller's and must outlive the handle. 0 or DP_E_MEMORY. */
int dp_capture_open_memory(const uint8_t *data, size_t size, struct dp_capture **capture);

/*
 * Refills the queue, which must have been taken empty. Afterwards the queue holds at least one frame, or the capture is
 * `starved`, or it has ended.
 */
void dp_capture_fill(struct dp_capture *capture);

/*
 * Back to the beginning, as if nothing had been read, with nothing held but the handle itself; false, and nothing
 * done, for a capture whose bytes come only once.
 */
bool dp_capture_rewind(struct dp_capture *capture);

#endif
