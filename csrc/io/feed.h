/* feed.h: what the control thread wants to hear of, put into the ring of a worker. */
#ifndef DP_IO_FEED_H
#define DP_IO_FEED_H

#include "worker.h"

void dp_feed_record(struct dp_worker *worker, const struct dp_frame *frame, const struct dp_record *record,
                    const struct dp_flow *flow, uint32_t port);
void dp_feed_frame(struct dp_worker *worker, const uint8_t *header, uint32_t length, const struct dp_record *record,
                   uint32_t port, bool sent);
/* What is watched of connections, and what the flow log must know of them; `owner` is the worker. */
dp_entry_observer dp_feed_connection;

#endif
