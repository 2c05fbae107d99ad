/* feed.c: items for the feed of dp_live.h, put into the worker's ring; one that finds it full is lost and counted. */
#include "feed.h"

#include "../table_walk.h"

#include <string.h>

_Static_assert(DP_FEED_DENIED >> 1 == 0 && DP_FEED_CONNECTIONS >> 1 == 1 && DP_FEED_FRAMES >> 1 == DP_FEED_KINDS - 1,
               "a kind's place in feed_lost");

static void put(struct dp_worker *w, struct dp_feed_item *item, const uint8_t *data)
{
    if (dp_ring_put(&w->feed, item, sizeof *item, data, item->captured))
        w->fed = true;
    else
        w->counters.feed_lost[item->kind >> 1]++;
}

void dp_feed_record(struct dp_worker *w, const struct dp_frame *frame, const struct dp_record *record,
                    const struct dp_flow *flow, uint32_t port)
{
    struct dp_feed_item item;

    memset(&item, 0, sizeof item);
    item.kind = DP_FEED_DENIED;
    item.port = port;
    item.time_ns = frame->time_ns;
    item.record = *record;
    item.flow = *flow;
    put(w, &item, NULL);
}

void dp_feed_frame(struct dp_worker *w, const uint8_t *header, uint32_t length, const struct dp_record *record,
                   uint32_t port, bool sent)
{
    struct dp_feed_item item;

    memset(&item, 0, sizeof item);
    item.kind = DP_FEED_FRAMES;
    item.sent = sent;
    item.flags = (uint8_t)dp_port_frame_flags(header);
    item.port = port;
    item.captured = length;
    item.time_ns = record->time_ns;
    item.record = *record;
    put(w, &item, header + DP_VNET_HEADER);
}

void dp_feed_connection(void *owner, enum dp_connection_event event, uint32_t entry)
{
    struct dp_worker *w = owner;
    const struct dp_conntrack *ct = &w->engine->conntrack;
    struct dp_feed_item item;

    if (w->engine->flow_log)
        dp_flow_log_observe(w->engine->flow_log, event, entry);
    if (!(atomic_load_explicit(&w->watched, memory_order_relaxed) & DP_FEED_CONNECTIONS))
        return;
    memset(&item, 0, sizeof item);
    item.kind = DP_FEED_CONNECTIONS;
    item.event = (uint8_t)event;
    item.time_ns = ct->now;
    dp_connection_of(ct, &ct->table.entries[entry], &item.connection);
    put(w, &item, NULL);
}
