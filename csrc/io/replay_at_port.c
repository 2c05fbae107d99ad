/* replay_at_port.c: replay_at_port.h in code. */
#include "replay_at_port.h"

#include "../pipeline.h"

#include <stdlib.h>

enum {
    /* Where all are who are behind no port that the capture was taken at. */
    ELSEWHERE = DP_PORTS_MAX,
    ETHERNET_HEADER = 14
};

/* A frame on its way, as far as it was looked at. */
struct sight {
    struct dp_known_interface *interface; /* NULL where the capture tells none */
    const struct dp_frame *frame;
    struct dp_packet packet;
    uint32_t now_s;
    bool switched; /* Ethernet, with its whole header */
};

/* ---- which way ---- */

static bool is_own(const struct dp_endpoints *endpoints, const struct dp_port *port, uint32_t family,
                   const union dp_address *address)
{
    uint32_t zone, nth = 0;

    while (family && (zone = dp_endpoints_own(endpoints, family, address, nth)) != DP_NO_ZONE && nth < DP_PORTS_MAX) {
        if (zone == (uint32_t)port->zone)
            return true;
        nth++;
    }
    return false;
}

/* The number of the port behind which the sender's MAC is known to be. */
static uint32_t station_of(const struct dp_at_port *ports, const struct sight *sight)
{
    const struct dp_bound_mac *told =
        sight->packet.source_mac ? dp_bindings_find(&ports->served, sight->packet.source_mac) : NULL;

    if (told)
        return told->port - 1u;
    if (!sight->switched)
        return DP_PORT_UNKNOWN;
    return dp_mac_table_find(&ports->stations, sight->frame->data + 6, dp_frame_vlan(sight->frame), sight->now_s);
}

/* Whether a frame is from the instance behind a port, by what it says. */
static bool is_from_instance(const struct dp_at_port *ports, const struct dp_endpoints *endpoints, uint32_t number,
                             const struct sight *sight)
{
    const struct dp_port *port = &ports->named[number].port;
    const struct dp_packet *p = &sight->packet;
    uint32_t station;

    if (port->has_mac && p->source_mac) {
        if (memcmp(p->source_mac, port->mac, 6) == 0)
            return true;
        /* A virtual MAC is where it was last seen; its holder tells by its own address that it has it. */
        return dp_endpoints_is_virtual_mac(endpoints, (uint32_t)port->zone, p->source_mac, 0, NULL) &&
               (is_own(endpoints, port, p->family, &p->source) || station_of(ports, sight) == number);
    }
    station = station_of(ports, sight);
    return station != DP_PORT_UNKNOWN ? station == number : is_own(endpoints, port, p->family, &p->source);
}

/* Whether a frame is from somebody behind another port. */
static bool is_from_other(const struct dp_at_port *ports, uint32_t number, const struct sight *sight)
{
    uint32_t station = station_of(ports, sight);

    return ports->named[number].port.has_mac ? station != number : station != DP_PORT_UNKNOWN && station != number;
}

/* Whether a frame at a port entered by it. */
static bool entered(const struct dp_at_port *ports, const struct dp_endpoints *endpoints, uint32_t number,
                    const struct sight *sight)
{
    if (sight->frame->flags & (DP_FRAME_RECEIVED | DP_FRAME_SENT))
        return sight->frame->flags & DP_FRAME_RECEIVED;
    return ports->named[number].port.zone != DP_ZONE_NONE ? is_from_instance(ports, endpoints, number, sight)
                                                          : !is_from_other(ports, number, sight);
}

/* What a frame with the instance's MAC, or an address of its own where that is not known, tells of its capture. */
static void look_from_where(const struct dp_at_port *ports, const struct dp_endpoints *endpoints,
                            const struct sight *sight)
{
    const struct dp_port *port = &ports->named[ports->at].port;
    const struct dp_packet *p = &sight->packet;
    bool received = sight->frame->flags & DP_FRAME_RECEIVED, from, to;

    if (port->has_mac) {
        from = p->source_mac && memcmp(p->source_mac, port->mac, 6) == 0;
        to = p->destination_mac && memcmp(p->destination_mac, port->mac, 6) == 0;
    } else {
        from = is_own(endpoints, port, p->family, &p->source);
        to = is_own(endpoints, port, p->family, &p->destination);
    }
    if (from != to)
        sight->interface->side = from == received ? DP_SIDE_HOST : DP_SIDE_INSTANCE;
}

/* Whether the instance sent a frame that was captured at its port. */
static bool was_sent(const struct dp_at_port *ports, const struct dp_endpoints *endpoints, const struct sight *sight)
{
    struct dp_known_interface *interface = sight->interface;
    const struct dp_port *port = &ports->named[ports->at].port;
    const struct dp_packet *p = &sight->packet;
    uint32_t flags = sight->frame->flags;

    if (!interface || !(flags & (DP_FRAME_RECEIVED | DP_FRAME_SENT)))
        return is_from_instance(ports, endpoints, (uint32_t)ports->at, sight);
    if (interface->side == DP_SIDE_UNKNOWN && interface->port == (uint32_t)ports->at)
        interface->side = DP_SIDE_HOST;
    if (interface->side == DP_SIDE_UNKNOWN)
        look_from_where(ports, endpoints, sight);
    return (port->has_mac && p->source_mac && memcmp(p->source_mac, port->mac, 6) == 0) ||
           flags & (interface->side == DP_SIDE_INSTANCE ? DP_FRAME_SENT : DP_FRAME_RECEIVED);
}

/* ---- judging ---- */

/* Frames for everybody, at each other instance's port. */
static void flood(const struct dp_at_port *ports, struct dp_engine *engine, const struct dp_frame *frame, uint32_t in)
{
    struct dp_frame copy = *frame;
    struct dp_place place;

    copy.time_ns = engine->conntrack.now;
    for (uint32_t out = 0; out < ports->n; out++) {
        const struct dp_capture_port *to = &ports->named[out];

        if (out == in || !to->active || to->port.zone == DP_ZONE_NONE ||
            !dp_is_flooded_to(engine->policy->endpoints, frame, &to->port))
            continue;
        dp_place_flood(&place, &ports->served, &ports->named[in].port, in, &to->port);
        dp_engine_judge_copy(engine, &copy, &place);
    }
}

static void wait_for_first(struct dp_at_port *ports, const struct dp_frame *frame, uint32_t in, uint64_t number)
{
    for (uint32_t i = 0; i < DP_WAITING_FRAMES_MAX && ports->n_waiting < DP_WAITING_FRAMES_MAX; i++) {
        struct dp_at_port_frame *waiting = &ports->waiting[i];

        if (waiting->bytes)
            continue;
        waiting->bytes = malloc(frame->captured);
        if (!waiting->bytes)
            return;
        memcpy(waiting->bytes, frame->data, frame->captured);
        waiting->number = number;
        waiting->in = in;
        waiting->frame = *frame;
        waiting->frame.data = waiting->bytes;
        ports->n_waiting++;
        return;
    }
}

void dp_at_port_resolved(struct dp_at_port *ports, struct dp_engine *engine, const struct dp_resolution *resolution)
{
    for (uint32_t i = 0; i < DP_WAITING_FRAMES_MAX && ports->n_waiting; i++) {
        struct dp_at_port_frame *waiting = &ports->waiting[i];

        if (!waiting->bytes || waiting->number != resolution->number)
            continue;
        if (resolution->record.verdict != DP_DENY && ports->named[waiting->in].active)
            flood(ports, engine, &waiting->frame, waiting->in);
        dp_at_port_drop_waiting(ports, waiting);
        return;
    }
}

/* A frame that entered by port `in`. */
static void judge_entered(struct dp_at_port *ports, struct dp_engine *engine, const struct sight *sight, uint32_t in,
                          struct dp_record *record, struct dp_flow *flow)
{
    const struct dp_frame *frame = sight->frame;
    uint32_t out = dp_frame_out(&ports->stations, &ports->served, frame, in, sight->now_s);
    uint64_t number = dp_engine_frames(engine);
    struct dp_place place;

    if (out < DP_PORTS_MAX && !ports->named[out].active)
        out = DP_OUT_ALL;
    dp_place_enter(&place, &ports->stations, &ports->served, frame, &ports->named[in].port, in,
                   out < DP_PORTS_MAX ? &ports->named[out].port : NULL, sight->now_s);
    dp_engine_process_at(engine, frame, &place, 1, record, flow);
    dp_frame_teach(&ports->stations, &ports->served, engine->policy->endpoints, frame, &place, record, sight->now_s);
    if (out == DP_OUT_ALL && record->verdict == DP_WAITING)
        wait_for_first(ports, frame, in, number);
    else if (out == DP_OUT_ALL && record->verdict != DP_DENY)
        flood(ports, engine, frame, in);
}

/* A frame at the port of one instance, which sent it or gets it. */
static void judge_there(struct dp_at_port *ports, struct dp_engine *engine, const struct sight *sight, bool sent,
                        struct dp_record *record, struct dp_flow *flow)
{
    static const struct dp_port outside = {.zone = DP_ZONE_NONE};
    const struct dp_endpoints *endpoints = engine->policy->endpoints;
    const struct dp_port *port = &ports->named[ports->at].port, *other;
    const struct dp_packet *p = &sight->packet;
    const struct dp_bindings *served = sent ? &ports->served : &ports->alone;
    uint32_t number = sent ? (uint32_t)ports->at : ELSEWHERE;
    const struct dp_port *in, *out;
    struct dp_place place;

    other = dp_at_port_balancer(ports, endpoints, sent ? p->destination_mac : p->source_mac, p->family,
                                sent ? &p->destination : &p->source);
    in = sent ? port : other ? other : &outside;
    out = sent ? other : port;
    if (sight->switched) {
        dp_place_enter(&place, &ports->stations, served, sight->frame, in, number, out, sight->now_s);
    } else {
        dp_place_make(&place, served, in, out);
        place.port = number;
    }
    dp_engine_process_at(engine, sight->frame, &place, 1, record, flow);
    if (sight->switched)
        dp_frame_teach(&ports->stations, &ports->served, endpoints, sight->frame, &place, record, sight->now_s);
}

/* The port that the sender of a copy is behind: by its MAC, or where the policy tells none, by an address of its own.
 */
static uint32_t sender_of(const struct dp_at_port *ports, const struct dp_endpoints *endpoints,
                          const struct sight *sight)
{
    uint32_t from = station_of(ports, sight);

    for (uint32_t i = 0; i < ports->n && from == DP_PORT_UNKNOWN; i++) {
        const struct dp_capture_port *named = &ports->named[i];

        if (named->active && named->port.zone != DP_ZONE_NONE && !named->port.has_mac &&
            is_own(endpoints, &named->port, sight->packet.family, &sight->packet.source))
            from = i;
    }
    return from;
}

/* Whether a copy entered where the captures were not taken, as far as its sender's MAC tells. */
static bool entered_unseen(const struct dp_at_port *ports, uint32_t from, uint32_t out)
{
    if (from < DP_PORTS_MAX)
        return from != out && !ports->named[from].seen;
    for (uint32_t i = 0; i < DP_PORTS_MAX; i++)
        if (i != out && ports->named[i].active && ports->named[i].seen)
            return false;
    return true;
}

/* A copy that left by port `out`. What it leaves behind is not known from elsewhere if it entered unseen. */
static void judge_left(struct dp_at_port *ports, struct dp_engine *engine, const struct sight *sight, uint32_t out)
{
    static const struct dp_port outside = {.zone = DP_ZONE_NONE};
    uint32_t from = sender_of(ports, engine->policy->endpoints, sight);
    struct dp_frame copy = *sight->frame;
    struct dp_place place;

    if (!entered_unseen(ports, from, out))
        return;
    if (from < DP_PORTS_MAX && !ports->named[from].port.has_mac)
        dp_mac_table_learn(&ports->stations, copy.data + 6, dp_frame_vlan(&copy), from, ports->named[from].port.guarded,
                           sight->now_s);
    dp_place_make(&place, &ports->served, from < DP_PORTS_MAX ? &ports->named[from].port : &outside,
                  &ports->named[out].port);
    place.port = from;
    place.guard = DP_GUARD_NONE;
    copy.time_ns = engine->conntrack.now;
    dp_engine_judge_copy(engine, &copy, &place);
}

/* What is not judged here. */
static void pass_over(struct dp_engine *engine, const struct dp_frame *frame, struct dp_record *record,
                      struct dp_flow *flow)
{
    static const struct dp_place nowhere = {.zone = {DP_NO_ZONE, DP_NO_ZONE}, .port = ELSEWHERE};

    dp_engine_process_at(engine, frame, &nowhere, 1, record, flow);
}

static bool is_switched(const struct dp_frame *frame)
{
    return frame->link == DP_LINK_ETHERNET && frame->captured >= ETHERNET_HEADER;
}

int dp_at_port_concerns(struct dp_at_port *ports, const struct dp_frame *frame,
                        const struct dp_capture_interface *interface, uint32_t number)
{
    int error = interface ? dp_at_port_look_up(ports, interface, number) : 0;

    return error ? error : ports->at >= 0 || (dp_at_port_of(ports, number) != DP_AT_NO_PORT && is_switched(frame));
}

void dp_at_port_judge(struct dp_at_port *ports, struct dp_engine *engine, const struct dp_frame *frame, uint32_t number,
                      struct dp_record *record, struct dp_flow *flow)
{
    uint64_t now_ns = frame->time_ns > engine->conntrack.now ? frame->time_ns : engine->conntrack.now;
    uint32_t port = dp_at_port_of(ports, number);
    struct sight sight = {.interface = number ? &ports->known[number] : NULL,
                          .frame = frame,
                          .now_s = (uint32_t)(now_ns / 1000000000u),
                          .switched = is_switched(frame)};

    if (!ports->bounded)
        dp_fragments_bound(engine->fragments, DP_WAITING_FRAMES_MAX);
    ports->bounded = true;
    dp_packet_parse(frame, &sight.packet);
    if (ports->at < 0) {
        ports->named[port].seen = true;
        if (entered(ports, engine->policy->endpoints, port, &sight)) {
            judge_entered(ports, engine, &sight, port, record, flow);
        } else {
            pass_over(engine, frame, record, flow);
            judge_left(ports, engine, &sight, port);
        }
    } else if ((port != DP_AT_NO_PORT && port != (uint32_t)ports->at) || frame->link == DP_LINKS ||
               (frame->link == DP_LINK_ETHERNET && !sight.switched)) {
        pass_over(engine, frame, record, flow);
    } else {
        judge_there(ports, engine, &sight, was_sent(ports, engine->policy->endpoints, &sight), record, flow);
    }
}
