/* replay_at_port.c: replay_at_port.h in code. */
#include "replay_at_port.h"

#include "../pipeline.h"
#include "frame_path.h"

#include <stdlib.h>

enum {
    /* Where all are who are behind no port that the capture was taken at. */
    ELSEWHERE = DP_PORTS_MAX,
    NO_PORT = DP_PORTS_MAX + 1,
    ETHERNET_HEADER = 14
};

/* From which side of an interface a capture was taken. */
enum side { SIDE_UNKNOWN, SIDE_HOST, SIDE_INSTANCE };

struct named {
    char name[DP_INTERFACE_NAME + 1];
    bool active;
    bool seen; /* a frame was captured there */
    struct dp_port port;
};

/* An interface of a capture: its port, as of a version of the ports, and the side that it was taken from. */
struct known {
    uint64_t version;
    uint32_t port;
    uint32_t side;
};

/* A fragment for everybody that waits for its datagram's answer. */
struct waiting_frame {
    uint64_t number;
    uint32_t in;
    struct dp_frame frame;
    uint8_t *bytes; /* NULL: the slot is free */
};

struct dp_at_port {
    struct named named[DP_PORTS_MAX];
    uint32_t n; /* ports are below this number, but for those that are learned: these are from DP_PORTS_MAX down */
    int32_t at;
    uint64_t version;
    bool bounded;
    struct dp_bindings served;
    struct dp_bindings alone; /* the instance at whose port the captures were taken */
    struct dp_mac_table stations;
    struct waiting_frame waiting[DP_WAITING_FRAMES_MAX];
    uint32_t n_waiting;
    struct known *known; /* by the interface's number */
    uint32_t n_known;
};

/* A frame on its way, as far as it was looked at. */
struct sight {
    struct known *interface; /* NULL where the capture tells none */
    const struct dp_frame *frame;
    struct dp_packet packet;
    uint32_t now_s;
    bool switched; /* Ethernet, with its whole header */
};

struct dp_at_port *dp_at_port_new(void)
{
    static const uint64_t seed[2] = {0}; /* runs repeat */
    struct dp_hash_secret secret;
    struct dp_at_port *ports = calloc(1, sizeof *ports);

    if (ports) {
        ports->at = -1;
        dp_hash_secret_init(&secret, seed);
        dp_mac_table_init(&ports->stations, secret.multiplier);
    }
    return ports;
}

void dp_at_port_free(struct dp_at_port *ports)
{
    if (!ports)
        return;
    for (uint32_t i = 0; i < DP_WAITING_FRAMES_MAX; i++)
        free(ports->waiting[i].bytes);
    free(ports->known);
    free(ports);
}

static void drop_waiting(struct dp_at_port *ports, struct waiting_frame *waiting)
{
    free(waiting->bytes);
    waiting->bytes = NULL;
    ports->n_waiting--;
}

/* ---- the ports ---- */

static void put(struct dp_at_port *ports, uint32_t number, const struct dp_named_port *to)
{
    struct named *named = &ports->named[number];

    if (named->active && (!to->name || dp_port_forgets(&named->port, &to->port)))
        dp_mac_table_forget(&ports->stations, number);
    /* An answer of before is none for who is there now. */
    for (uint32_t i = 0; i < DP_WAITING_FRAMES_MAX && named->port.zone != to->port.zone; i++)
        if (ports->waiting[i].bytes && ports->waiting[i].in == number)
            drop_waiting(ports, &ports->waiting[i]);
    *named = (struct named){.active = to->name != NULL, .seen = to->name && named->seen, .port = to->port};
    if (to->name)
        strcpy(named->name, to->name);
}

int dp_at_port_set(struct dp_at_port *ports, const struct dp_named_port *named, uint32_t n, int32_t at)
{
    static const struct dp_named_port none = {0};

    if (n > DP_PORTS_MAX || at >= (int32_t)n || (at >= 0 && !named[at].name))
        return DP_E_ARGUMENT;
    for (uint32_t i = 0; i < n; i++)
        if (named[i].name && strlen(named[i].name) > DP_INTERFACE_NAME)
            return DP_E_ARGUMENT;
    for (uint32_t i = 0; i < n || i < ports->n; i++)
        put(ports, i, i < n ? &named[i] : &none);
    ports->n = n;
    ports->at = at;
    ports->version++;
    memset(&ports->served, 0, sizeof ports->served);
    memset(&ports->alone, 0, sizeof ports->alone);
    for (uint32_t i = 0; i < n; i++) {
        if (!ports->named[i].active)
            continue;
        dp_bindings_add(&ports->served, i, &ports->named[i].port);
    }
    if (at >= 0)
        dp_bindings_add(&ports->alone, (uint32_t)at, &ports->named[at].port);
    return 0;
}

static uint32_t port_by_name(const struct dp_at_port *ports, const char *name)
{
    for (uint32_t i = 0; i < DP_PORTS_MAX; i++)
        if (ports->named[i].active && strcmp(ports->named[i].name, name) == 0)
            return i;
    return NO_PORT;
}

/* An uplink that the policy does not name has a port as soon as it is seen; NO_PORT where there are too many. */
static uint32_t learn_uplink(struct dp_at_port *ports, const char *name)
{
    static const struct dp_port outside = {.zone = DP_ZONE_NONE};

    for (uint32_t i = DP_PORTS_MAX; i-- > ports->n;)
        if (!ports->named[i].active) {
            put(ports, i, &(struct dp_named_port){name, outside});
            return i;
        }
    return NO_PORT;
}

/* What is known of the interface with this number, from 1; NULL without memory. */
static struct known *known_of(struct dp_at_port *ports, uint32_t number)
{
    if (number >= ports->n_known) {
        uint32_t n = 2 * number + 2;
        struct known *grown = realloc(ports->known, n * sizeof *grown);

        if (!grown)
            return NULL;
        memset(grown + ports->n_known, 0, (n - ports->n_known) * sizeof *grown);
        ports->known = grown;
        ports->n_known = n;
    }
    return &ports->known[number];
}

/* Looks for the port whose name an interface bears; 0 or DP_E_MEMORY. */
static int look_up(struct dp_at_port *ports, const struct dp_capture_interface *interface, uint32_t number)
{
    struct known *known = known_of(ports, number);

    if (!known)
        return DP_E_MEMORY;
    if (known->version == ports->version)
        return 0;
    known->version = ports->version;
    known->port = interface->name ? port_by_name(ports, interface->name) : NO_PORT;
    if (known->port == NO_PORT && interface->uplink && interface->name)
        known->port = learn_uplink(ports, interface->name);
    return 0;
}

static uint32_t port_of(const struct dp_at_port *ports, uint32_t number)
{
    return number ? ports->known[number].port : NO_PORT;
}

/* The port of the load balancer with this MAC, or if it has none that is known, this address; else NULL. */
static const struct dp_port *balancer_of(const struct dp_at_port *ports, const struct dp_endpoints *endpoints,
                                         const uint8_t *mac, uint32_t family, const union dp_address *address)
{
    const struct dp_bound_mac *found = mac ? dp_bindings_find(&ports->served, mac) : NULL;
    uint32_t balancer = found    ? found->balancer
                        : family ? dp_endpoints_balancer_at_port(endpoints, family, address)
                                 : 0;

    for (uint32_t i = 0; balancer && i < ports->n; i++)
        if (ports->named[i].active && ports->named[i].port.balancer == balancer &&
            (found || !ports->named[i].port.has_mac))
            return &ports->named[i].port;
    return NULL;
}

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
        sight->interface->side = from == received ? SIDE_HOST : SIDE_INSTANCE;
}

/* Whether the instance sent a frame that was captured at its port. */
static bool was_sent(const struct dp_at_port *ports, const struct dp_endpoints *endpoints, const struct sight *sight)
{
    struct known *interface = sight->interface;
    const struct dp_port *port = &ports->named[ports->at].port;
    const struct dp_packet *p = &sight->packet;
    uint32_t flags = sight->frame->flags;

    if (!interface || !(flags & (DP_FRAME_RECEIVED | DP_FRAME_SENT)))
        return is_from_instance(ports, endpoints, (uint32_t)ports->at, sight);
    if (interface->side == SIDE_UNKNOWN && interface->port == (uint32_t)ports->at)
        interface->side = SIDE_HOST;
    if (interface->side == SIDE_UNKNOWN)
        look_from_where(ports, endpoints, sight);
    return (port->has_mac && p->source_mac && memcmp(p->source_mac, port->mac, 6) == 0) ||
           flags & (interface->side == SIDE_INSTANCE ? DP_FRAME_SENT : DP_FRAME_RECEIVED);
}

/* ---- judging ---- */

/* Frames for everybody, at each other instance's port. */
static void flood(const struct dp_at_port *ports, struct dp_engine *engine, const struct dp_frame *frame, uint32_t in)
{
    struct dp_frame copy = *frame;
    struct dp_place place;

    copy.time_ns = engine->conntrack.now;
    for (uint32_t out = 0; out < ports->n; out++) {
        const struct named *to = &ports->named[out];

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
        struct waiting_frame *waiting = &ports->waiting[i];

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
        struct waiting_frame *waiting = &ports->waiting[i];

        if (!waiting->bytes || waiting->number != resolution->number)
            continue;
        if (resolution->record.verdict != DP_DENY && ports->named[waiting->in].active)
            flood(ports, engine, &waiting->frame, waiting->in);
        drop_waiting(ports, waiting);
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

    other = balancer_of(ports, endpoints, sent ? p->destination_mac : p->source_mac, p->family,
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
        const struct named *named = &ports->named[i];

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
    int error = interface ? look_up(ports, interface, number) : 0;

    return error ? error : ports->at >= 0 || (port_of(ports, number) != NO_PORT && is_switched(frame));
}

void dp_at_port_judge(struct dp_at_port *ports, struct dp_engine *engine, const struct dp_frame *frame, uint32_t number,
                      struct dp_record *record, struct dp_flow *flow)
{
    uint64_t now_ns = frame->time_ns > engine->conntrack.now ? frame->time_ns : engine->conntrack.now;
    uint32_t port = port_of(ports, number);
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
    } else if ((port != NO_PORT && port != (uint32_t)ports->at) || frame->link == DP_LINKS ||
               (frame->link == DP_LINK_ETHERNET && !sight.switched)) {
        pass_over(engine, frame, record, flow);
    } else {
        judge_there(ports, engine, &sight, was_sent(ports, engine->policy->endpoints, &sight), record, flow);
    }
}
