/*
 * forward.c: one burst from its ports to its ports: placed, judged, sent.
 *
 * ORDER of frames is kept for each pair of ports: they are sent in the order in which they came, except a fragment that
 * waited. No frame leaves through the port that it came from.
 */
#include "forward.h"

#include "../pipeline.h"
#include "feed.h"

#include <string.h>

static const uint8_t *frame_of(const struct dp_passing *passing)
{
    return passing->header + DP_VNET_HEADER;
}

static uint32_t seconds(const struct dp_worker *w)
{
    return (uint32_t)(w->now_ns / 1000000000u);
}

/* ---- sending ---- */

static void send(struct dp_worker *w)
{
    struct dp_port_counters *counters = &w->port_counters[w->sending_port];
    uint64_t before = counters->sent.packets;
    int error = dp_port_flush(&w->sending, &w->uring, w->sending_port, counters);

    w->port[w->sending_port].wants_tunnel |= w->sending.wants_tunnel;
    w->sending.wants_tunnel = false;
    if (error)
        dp_worker_failed(w, w->sending_port, error, false);
    else if (counters->error && counters->sent.packets != before)
        dp_worker_is_well(w, w->sending_port);
}

static void flush(struct dp_worker *w)
{
    if (w->sending.n)
        send(w);
}

static void send_to(struct dp_worker *w, uint8_t *header, uint32_t length, const struct dp_record *record,
                    uint32_t port)
{
    const struct dp_worker_port *to = &w->port[port];

    if (w->sending.n && (w->sending_port != port || w->sending.n == DP_SEND_BATCH))
        flush(w);
    if ((w->watch & DP_FEED_FRAMES) && (w->watch_port < 0 || (uint32_t)w->watch_port == port))
        dp_feed_frame(w, header, length, record, port, true);
    w->sending_port = port;
    w->sending.fd = to->fd;
    w->sending.kind = to->port.kind;
    w->sending.tunnel = to->tunnel;
    w->sending.header[w->sending.n] = header;
    w->sending.length[w->sending.n++] = length;
}

/* ---- judging ---- */

static void count_checks(struct dp_worker *w, const struct dp_record *record, uint32_t in, uint32_t out)
{
    for (uint32_t i = 0; i < record->checks; i++) {
        const struct dp_check *check = &record->check[i];
        uint32_t port = check->direction == DP_EGRESS ? in : out;
        struct dp_counter *counter;

        if (port >= DP_PORTS_MAX)
            continue;
        counter = &w->port_counters[port].check[check->direction][check->verdict][check->reason];
        counter->packets++;
        counter->bytes += record->length;
    }
}

static void report(struct dp_worker *w, const struct dp_frame *frame, const struct dp_record *record,
                   const struct dp_flow *flow, uint32_t in, uint32_t out)
{
    bool at_ingress = record->checks && record->check[record->checks - 1].direction == DP_INGRESS;

    if (record->verdict == DP_DENY)
        dp_feed_record(w, frame, record, flow, at_ingress && out < DP_PORTS_MAX ? out : in);
}

/* ---- fragments that wait ---- */

static uint8_t *waiting_bytes(const struct dp_worker *w, uint32_t slot)
{
    return w->waiting_bytes + (size_t)slot * DP_PORT_ROOM;
}

static void wait_for_first(struct dp_worker *w, const uint8_t *header, uint32_t length, uint32_t in, uint32_t out,
                           uint64_t number)
{
    /* No fragment is as long as a place, whatever stands behind it. */
    for (uint32_t slot = 0; slot < DP_WAITING_SLOTS && w->n_waiting < DP_WAITING_SLOTS && length <= DP_FRAME_BYTES_MAX;
         slot++)
        if (!w->waiting[slot].used) {
            w->waiting[slot] = (struct dp_waiting_frame){number, in, out, length, true};
            memcpy(waiting_bytes(w, slot), header, DP_VNET_HEADER + (size_t)length);
            w->n_waiting++;
            return;
        }
    w->port_counters[in].drop[DP_DROP_FRAGMENT]++;
}

/* The slot of the frame with this number; DP_WAITING_SLOTS when it has none. */
static uint32_t slot_of(const struct dp_worker *w, uint64_t number)
{
    uint32_t slot = 0;

    while (slot < DP_WAITING_SLOTS && !(w->waiting[slot].used && w->waiting[slot].number == number))
        slot++;
    return slot;
}

/* ---- where they go ---- */

/* The ingress checks of a frame for everybody, and sending it where they allow. */
static void flood(struct dp_worker *w, uint8_t *header, const struct dp_frame *frame, uint32_t in)
{
    uint32_t reached = 0;

    for (uint32_t out = 0; out < w->n_ports; out++) {
        const struct dp_worker_port *to = &w->port[out];
        uint64_t number = dp_engine_frames(w->engine);
        struct dp_place place;
        struct dp_record record;
        struct dp_flow flow;

        if (out == in || !to->active || !dp_is_flooded_to(w->engine->policy->endpoints, frame, &to->port))
            continue;
        dp_place_flood(&place, &w->served, &w->port[in].port, in, &to->port);
        reached++;
        dp_engine_process_at(w->engine, frame, &place, 1, &record, &flow);
        count_checks(w, &record, in, out);
        if (w->watch & DP_FEED_DENIED)
            report(w, frame, &record, &flow, in, out);
        if (w->engine->flow_log)
            dp_flow_log_add_one(w->engine->flow_log, number + 1, &record, &flow);
        if (w->shadow.engine)
            dp_shadow_judge(&w->shadow, w->engine, frame, &place, &record, &flow, 1);
        if (record.verdict == DP_ALLOW || record.verdict == DP_BYPASS)
            send_to(w, header, frame->length, &record, out);
        else if (record.verdict == DP_WAITING)
            wait_for_first(w, header, frame->length, in, out, number);
    }
    w->port[in].owes += reached;
    w->reached += reached;
    if (!reached)
        w->port_counters[in].drop[DP_DROP_NO_DESTINATION]++;
}

static void pass(struct dp_worker *w, uint8_t *header, const struct dp_frame *frame, const struct dp_record *record,
                 uint32_t in, uint32_t out)
{
    if (out == DP_OUT_ALL)
        flood(w, header, frame, in);
    else if (out < DP_PORTS_MAX && w->port[out].active)
        send_to(w, header, frame->length, record, out);
    else
        w->port_counters[in].drop[DP_DROP_NO_DESTINATION]++;
}

/* What a frame that waited came to. */
static void release(struct dp_worker *w, uint32_t slot, const struct dp_record *record)
{
    struct dp_waiting_frame *waiting = &w->waiting[slot];
    struct dp_frame frame = {.time_ns = w->now_ns,
                             .data = waiting_bytes(w, slot) + DP_VNET_HEADER,
                             .captured = waiting->length,
                             .length = waiting->length,
                             .link = DP_LINK_ETHERNET,
                             .flags = dp_port_frame_flags(waiting_bytes(w, slot))};

    count_checks(w, record, waiting->in, waiting->out);
    if ((w->watch & DP_FEED_DENIED) || w->engine->flow_log) {
        struct dp_packet packet;
        struct dp_flow flow;

        dp_packet_parse(&frame, &packet);
        dp_flow_of(&packet, &flow);
        if (w->engine->flow_log)
            dp_flow_log_add_one(w->engine->flow_log, waiting->number + 1, record, &flow);
        if (w->watch & DP_FEED_DENIED)
            report(w, &frame, record, &flow, waiting->in, waiting->out);
    }
    if (record->verdict == DP_ALLOW || record->verdict == DP_BYPASS)
        pass(w, waiting_bytes(w, slot), &frame, record, waiting->in, waiting->out);
    /* Its bytes may be used again from now on. */
    flush(w);
    waiting->used = false;
    w->n_waiting--;
}

void dp_forward_resolved(struct dp_worker *w)
{
    struct dp_resolution resolution;

    while (dp_engine_resolved(w->engine, &resolution, 1) == 1) {
        uint32_t slot = slot_of(w, resolution.number);

        if (slot < DP_WAITING_SLOTS)
            release(w, slot, &resolution.record);
    }
}

/* ---- the burst ---- */

static void place(struct dp_worker *w, uint32_t i)
{
    struct dp_passing *passing = &w->passing[i];
    const struct dp_port *out = NULL;

    passing->out = dp_frame_out(w->stations, &w->served, &w->frame[i], passing->in, seconds(w));
    if (passing->out < DP_PORTS_MAX && !w->port[passing->out].active)
        passing->out = DP_OUT_ALL;
    if (passing->out < DP_PORTS_MAX)
        out = &w->port[passing->out].port;
    dp_place_enter(&w->place[i], w->stations, &w->served, &w->frame[i], &w->port[passing->in].port, passing->in, out,
                   seconds(w));
}

static void finish(struct dp_worker *w, uint32_t i, uint64_t number)
{
    const struct dp_passing *passing = &w->passing[i];
    const struct dp_frame *frame = &w->frame[i];
    const struct dp_record *record = &w->record[i];

    dp_frame_teach(w->stations, &w->served, w->engine->policy->endpoints, frame, &w->place[i], record, seconds(w));
    if ((w->watch & DP_FEED_FRAMES) && (w->watch_port < 0 || (uint32_t)w->watch_port == passing->in))
        dp_feed_frame(w, passing->header, frame->length, record, passing->in, false);
    if (record->verdict == DP_WAITING) {
        wait_for_first(w, passing->header, frame->length, passing->in, passing->out, number);
        return;
    }
    count_checks(w, record, passing->in, passing->out);
    if (w->watch & DP_FEED_DENIED)
        report(w, frame, record, &w->flow[i], passing->in, passing->out);
    if (record->verdict != DP_DENY)
        pass(w, passing->header, frame, record, passing->in, passing->out);
}

void dp_forward_burst(struct dp_worker *w)
{
    uint64_t number = dp_engine_frames(w->engine);
    struct dp_flow_log *log = w->engine->flow_log;

    for (uint32_t i = 0; i < w->n; i++) {
        w->frame[i].time_ns = w->now_ns;
        w->frame[i].data = frame_of(&w->passing[i]);
        w->frame[i].captured = w->frame[i].length;
        w->frame[i].link = DP_LINK_ETHERNET;
        w->frame[i].flags = dp_port_frame_flags(w->passing[i].header);
        place(w, i);
    }
    dp_engine_process_at(w->engine, w->frame, w->place, w->n, w->record,
                         log || w->shadow.engine || (w->watch & DP_FEED_DENIED) ? w->flow : NULL);
    for (uint32_t i = 0; i < w->n; i++)
        finish(w, i, number + i);
    flush(w);
    if (log)
        dp_flow_log_add_burst(log, number + 1, w->record, w->flow, w->n);
    if (w->shadow.engine)
        dp_shadow_judge(&w->shadow, w->engine, w->frame, w->place, w->record, w->flow, w->n);
    dp_forward_resolved(w);
    dp_worker_catch_up(w);
}
