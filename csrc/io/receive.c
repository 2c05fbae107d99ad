/*
 * receive.c: frames from ports, and from other workers, into the burst at hand.
 *
 * A FRAME'S WORKER is chosen by its addresses; a frame that came to another one is handed over.
 */
#include "receive.h"

#include "../shard.h"
#include "forward.h"
#include "offload.h"

#include <errno.h>
#include <string.h>

_Static_assert((int)DP_PACKED_BYTES - (int)DP_BURST_BYTES >= (int)DP_PORT_BIG_ROOM, "a burst's last frame has room");
_Static_assert((int)DP_SLOT_BYTES >= (int)DP_PORT_ROOM, "a slot has room for a frame");
_Static_assert((int)DP_ARENA_BYTES >= (int)DP_PACKED_BYTES && (int)DP_ARENA_BYTES >= DP_SLOTS * (int)DP_SLOT_BYTES,
               "the arena has room for either way");
_Static_assert((int)DP_SLOTS <= (int)DP_BURST && (int)DP_SLOTS <= (int)DP_URING_REQUESTS, "all are asked for at once");

/* A frame on its way to another worker, followed by its virtio-net header and bytes. */
struct handed {
    uint32_t size;
    uint32_t port;
    uint32_t length;
    uint32_t generation; /* of the port */
    uint32_t times;      /* what it counts as (inbox.h) */
};
_Static_assert((int)DP_PACKED_BYTES - (int)DP_BURST_BYTES >= (int)DP_PORT_BIG_ROOM + (int)sizeof(struct handed),
               "so has one that was handed over");

/* ---- who a frame belongs to ---- */

/* In the first byte of the MAC that a frame is for. */
enum { FOR_MANY = 1 };

/* Gives the frame to its worker if that is another one; a full inbox drops it, as a full queue does (inbox.h). */
static bool hand_over(struct dp_worker *w, uint32_t port, uint8_t *header, uint32_t length)
{
    struct handed handed = {.port = port, .length = length, .generation = w->port[port].generation, .times = 1};
    struct dp_frame frame = {
        .data = header + DP_VNET_HEADER, .captured = length, .length = length, .link = DP_LINK_ETHERNET};
    struct dp_packet packet;
    uint32_t owner;

    dp_packet_parse(&frame, &packet);
    owner = dp_shard_of_packet(w->workers, &packet, w->number);
    if (owner == w->number)
        return false;
    /* The other worker cannot pass over the port of a frame that takes it long; so that it has no more of them. */
    if (header[DP_VNET_HEADER] & FOR_MANY) {
        handed.times += w->n_ports / DP_BURST;
        w->port[port].owes += w->n_ports;
    }
    if (dp_inbox_put(&w->all[owner].inbox[w->number], port, handed.times, &handed, sizeof handed, header,
                     DP_VNET_HEADER + length))
        w->handed[owner] = true;
    else
        w->port_counters[port].drop[DP_DROP_FULL]++;
    return true;
}

/* ---- receiving ---- */

static void forward(struct dp_worker *w)
{
    uint32_t size = 0;

    if (w->n == 0)
        return;
    while (w->n >> (size + 1) && size < DP_BURST_SIZES - 1)
        size++;
    w->counters.bursts[size]++;
    w->counters.burst_frames += w->n;
    w->watch = atomic_load_explicit(&w->watched, memory_order_relaxed);
    w->watch_port = atomic_load_explicit(&w->watched_port, memory_order_relaxed);
    dp_forward_burst(w);
    w->n = 0;
}

/* Whether there may be a next frame to receive. */
static bool goes_on(struct dp_worker *w, uint32_t number, int error)
{
    if (dp_port_receive_failure(error) == DP_FAILURE_FRAME) {
        w->port_counters[number].drop[DP_DROP_UNREADABLE]++;
        return true;
    }
    /* A packet socket says once that its interface went down, and wakes us when it is back. */
    dp_worker_failed(w, number, error, error != ENETDOWN || w->port[number].failing);
    return false;
}

/* Takes a frame that was received into the burst; false when it is none, or another worker's. */
static bool take(struct dp_worker *w, uint32_t number, uint8_t *header, uint32_t length)
{
    struct dp_port_counters *counters = &w->port_counters[number];

    if (counters->error)
        dp_worker_is_well(w, number);
    if (length == 0 || length == DP_PORT_TOO_LONG) {
        counters->drop[length ? DP_DROP_TOO_LONG : DP_DROP_DAMAGED]++;
        return false;
    }
    if (!dp_offload_is_sound(header, length)) {
        counters->drop[DP_DROP_OFFLOAD]++;
        return false;
    }
    counters->received.packets++;
    counters->received.bytes += length;
    w->bytes += length;
    if (w->workers > 1 && hand_over(w, number, header, length))
        return false;
    w->passing[w->n] = (struct dp_passing){.header = header, .in = number};
    w->frame[w->n++].length = length;
    return true;
}

/* Receives frames into the arena, behind each other; returns how many, of which w->n are this worker's own. */
static uint32_t fill(struct dp_worker *w, uint32_t number, uint32_t most, bool *more)
{
    const struct dp_worker_port *port = &w->port[number];
    uint8_t *at = w->arena;
    uint32_t have = 0;

    for (w->n = 0; have < most && at - w->arena < DP_BURST_BYTES; have++) {
        uint8_t *header;
        uint32_t length;
        int got = dp_port_receive(port->fd, port->port.kind, at, &header, &length);

        if (got <= 0) {
            if (got < 0 && goes_on(w, number, -got))
                continue;
            *more = false;
            break;
        }
        if (take(w, number, header, length))
            at = header + ((DP_VNET_HEADER + (size_t)length + 63) & ~(size_t)63);
    }
    return have;
}

/*
 * How many frames to ask a port for next: one more than came, or twice as many when as many came as were asked for; no
 * more than fill up a burst, if they are as long.
 */
static uint32_t next_batch(uint32_t batch, uint32_t asked, uint32_t have, uint64_t bytes)
{
    uint32_t next = have < asked ? have + 1 : batch > 2 * asked ? batch : 2 * asked;
    uint64_t room = have ? DP_BURST_BYTES / (bytes / have + 1) + 1 : DP_SLOTS;

    if (next > room)
        next = (uint32_t)room;
    return next < 2 ? 2 : next > DP_SLOTS ? DP_SLOTS : next;
}

/* As `fill`, many frames a call, each into a slot of its own. */
static uint32_t fill_at_once(struct dp_worker *w, uint32_t number, uint32_t most, bool *more)
{
    struct dp_worker_port *port = &w->port[number];
    uint32_t batch = port->batch ? port->batch : 2, asked = batch < most ? batch : most, have = 0;
    int32_t length[DP_SLOTS];
    uint64_t bytes = 0;

    dp_port_receive_many(&w->uring, number, port->fd, w->arena, DP_SLOT_BYTES, asked, length);
    w->n = 0;
    for (uint32_t i = 0; i < asked; i++) {
        if (length[i] == DP_URING_NOT_DONE)
            continue;
        if (length[i] < 0) {
            if (length[i] != -EAGAIN && goes_on(w, number, -length[i]))
                have++;
            else
                *more = false;
            continue;
        }
        have++;
        bytes += length[i] == DP_PORT_TOO_LONG ? 0 : (uint32_t)length[i];
        take(w, number, w->arena + (size_t)i * DP_SLOT_BYTES, (uint32_t)length[i]);
    }
    port->batch = next_batch(batch, asked, have, bytes);
    return have;
}

/* How many frames come next, of whom the last ones went to so many ports each. */
static uint32_t at_most(uint32_t reach)
{
    uint32_t n = DP_REACH / (reach + 1);

    return n == 0 ? 1 : n < DP_BURST ? n : DP_BURST;
}

/*
 * A port's turn: what it has, up to a burst of small frames, super-packets on the way one by one. It is over, too, when
 * frames for everybody have gone to so many ports, as far as the last ones tell how many the next go to.
 */
void dp_receive(struct dp_worker *w, uint32_t number)
{
    struct dp_worker_port *p = &w->port[number];
    bool more = true;

    for (uint32_t left = DP_BURST; more && left > 0 && p->owes < DP_REACH;) {
        bool at_once = p->port.kind == DP_PORT_TAP && dp_uring_is_open(&w->uring);
        uint32_t before = p->owes, most = at_most(p->reach), have;

        have = (at_once ? fill_at_once : fill)(w, number, left < most ? left : most, &more);
        left -= have;
        w->port_counters[number].bursts += w->n != 0;
        forward(w);
        if (have)
            p->reach = (p->owes - before) / have;
    }
}

void dp_receive_handed(struct dp_worker *w)
{
    for (uint32_t from = 0; from < w->workers; from++) {
        struct dp_inbox *inbox = &w->inbox[from];
        uint32_t most = at_most(w->handed_reach[from]), size;
        uint64_t before = w->reached;
        uint8_t *at = w->arena;

        if (from == w->number)
            continue;
        w->n = 0;
        while (w->n < most && (size = dp_ring_next(&inbox->ring)) != 0 && size <= w->arena + DP_PACKED_BYTES - at) {
            struct handed handed;

            dp_ring_take(&inbox->ring, at, size);
            memcpy(&handed, at, sizeof handed);
            dp_inbox_count(inbox, handed.port, handed.times, size);
            if (w->port[handed.port].active && w->port[handed.port].generation == handed.generation) {
                w->passing[w->n] = (struct dp_passing){.header = at + sizeof handed, .in = handed.port};
                w->frame[w->n++].length = handed.length;
                at += size;
            }
        }
        if (w->n) {
            uint32_t have = w->n;

            forward(w);
            w->handed_reach[from] = (uint32_t)((w->reached - before) / have);
        }
        if (dp_ring_next(&inbox->ring))
            dp_worker_wake(w);
    }
}
