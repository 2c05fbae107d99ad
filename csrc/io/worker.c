/*
 * worker.c: the thread of worker.h: waiting, receiving, commands.
 *
 * FAIRNESS. Each port that has something gives one burst before the next port's turn; a port with more is asked again
 * in the next round. Commands and other workers' frames come up once a round.
 */
#include "worker.h"

#include "../memory.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { WAKE = DP_PORTS_MAX, EVENTS = 64, IDLE_MS = 100 };
enum { FEED_BYTES = 8 * 1024 * 1024, INBOX_BYTES = 4 * 1024 * 1024 };
#define IDLE_NS 100000000u

_Static_assert(DP_PACKED_BYTES - DP_BURST_BYTES >= DP_PORT_ROOM, "a burst's last frame has room");
_Static_assert((int)DP_SLOT_BYTES >= (int)DP_PORT_ROOM, "a slot has room for a frame");
_Static_assert((int)DP_ARENA_BYTES >= (int)DP_PACKED_BYTES && (int)DP_ARENA_BYTES >= DP_SLOTS * (int)DP_SLOT_BYTES,
               "the arena has room for either way");
_Static_assert((int)DP_SLOTS <= (int)DP_BURST && (int)DP_SLOTS <= (int)DP_URING_REQUESTS, "all are asked for at once");

/* A frame on its way to another worker, followed by its virtio-net header and bytes. */
struct handed {
    uint32_t size;
    uint32_t port;
    uint32_t length;
    uint32_t unused;
};

/* ---- who a frame belongs to ---- */

static uint32_t fold(const union dp_address *a, uint8_t family)
{
    return family == 4 ? a->word[0] : a->word[0] ^ a->word[1] ^ a->word[2] ^ a->word[3];
}

uint32_t dp_worker_of(uint32_t workers, uint8_t family, const union dp_address *a, const union dp_address *b)
{
    uint64_t h = (fold(a, family) + (uint64_t)fold(b, family)) * 0x9e3779b97f4a7c15u;

    return (uint32_t)((h >> 32) % workers);
}

/* All fragments have the same, and an ICMP error that of what it quotes. */
static uint32_t owner_of(const struct dp_worker *w, const uint8_t *data, uint32_t length)
{
    struct dp_frame frame = {.data = data, .captured = length, .length = length, .link = DP_LINK_ETHERNET};
    struct dp_packet packet, inner;
    const struct dp_packet *p = &packet;

    dp_packet_parse(&frame, &packet);
    if (packet.kind != DP_PACKET_IP)
        return w->number;
    if (packet.icmp_class == DP_ICMP_ERROR && dp_packet_parse_quoted(&packet, &inner))
        p = &inner;
    return dp_worker_of(w->workers, p->family, &p->source, &p->destination);
}

/* Gives the frame to its worker if that is another one; a full inbox drops it, as a full queue does. */
static bool hand_over(struct dp_worker *w, uint32_t port, uint8_t *header, uint32_t length)
{
    struct handed handed = {.port = port, .length = length};
    uint32_t owner = owner_of(w, header + DP_VNET_HEADER, length);

    if (owner == w->number)
        return false;
    if (dp_ring_put(&w->all[owner].inbox[w->number], &handed, sizeof handed, header, DP_VNET_HEADER + length))
        w->handed[owner] = true;
    else
        w->port_counters[port].drop[DP_DROP_FULL]++;
    return true;
}

static void wake(const struct dp_worker *w)
{
    uint64_t one = 1;

    /* The counter of an eventfd is never full: it is read away. */
    if (write(w->wake, &one, sizeof one) < 0)
        return;
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

static void take_off_poll(struct dp_worker *w, uint32_t number)
{
    if (w->port[number].polled)
        epoll_ctl(w->epoll, EPOLL_CTL_DEL, w->port[number].fd, NULL);
    w->port[number].polled = false;
}

/* An interface that went down may come back; one that is gone is not asked again. */
static void failed(struct dp_worker *w, uint32_t number, int error)
{
    w->port_counters[number].error = error;
    if (error != ENETDOWN && error != ENOBUFS && error != ENOMEM)
        take_off_poll(w, number);
}

/* Takes a frame that was received into the burst; false when it is none, or another worker's. */
static bool take(struct dp_worker *w, uint32_t number, uint8_t *header, uint32_t length)
{
    struct dp_port_counters *counters = &w->port_counters[number];

    if (length == 0) {
        counters->drop[DP_DROP_DAMAGED]++;
        return false;
    }
    counters->received.packets++;
    counters->received.bytes += length;
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
            if (got < 0)
                failed(w, number, -got);
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
            if (length[i] != -EAGAIN)
                failed(w, number, -length[i]);
            *more = false;
            continue;
        }
        have++;
        bytes += (uint32_t)length[i];
        take(w, number, w->arena + (size_t)i * DP_SLOT_BYTES, (uint32_t)length[i]);
    }
    port->batch = next_batch(batch, asked, have, bytes);
    return have;
}

/* A port's turn: what it has, up to a burst of small frames, super-packets on the way one by one. */
static void receive(struct dp_worker *w, uint32_t number)
{
    bool more = true;

    for (uint32_t left = DP_BURST; more && left > 0;) {
        bool at_once = w->port[number].port.kind == DP_PORT_TAP && dp_uring_is_open(&w->uring);

        left -= (at_once ? fill_at_once : fill)(w, number, left, &more);
        w->port_counters[number].bursts += w->n != 0;
        forward(w);
    }
}

static void receive_handed(struct dp_worker *w)
{
    for (uint32_t from = 0; from < w->workers; from++) {
        struct dp_ring *inbox = &w->inbox[from];
        uint8_t *at = w->arena;
        uint32_t size;

        if (from == w->number)
            continue;
        w->n = 0;
        while (w->n < DP_BURST && (size = dp_ring_next(inbox)) != 0 && size <= w->arena + DP_PACKED_BYTES - at) {
            struct handed handed;

            dp_ring_take(inbox, at, size);
            memcpy(&handed, at, sizeof handed);
            if (w->port[handed.port].active) {
                w->passing[w->n] = (struct dp_passing){.header = at + sizeof handed, .in = handed.port};
                w->frame[w->n++].length = handed.length;
                at += size;
            }
        }
        forward(w);
        if (dp_ring_next(inbox))
            wake(w);
    }
}

/* ---- the thread ---- */

static void obey(struct dp_worker *w)
{
    dp_command *command = atomic_load_explicit(&w->command, memory_order_acquire);
    uint64_t count;

    if (read(w->wake, &count, sizeof count) < 0 && errno != EAGAIN)
        return;
    if (command) {
        command(w, w->argument);
        atomic_store_explicit(&w->command, NULL, memory_order_release);
        sem_post(&w->done);
    }
    if (w->workers > 1)
        receive_handed(w);
}

static void end_round(struct dp_worker *w)
{
    uint64_t one = 1;

    for (uint32_t other = 0; other < w->workers; other++)
        if (w->handed[other]) {
            w->handed[other] = false;
            wake(&w->all[other]);
        }
    if (w->now_ns - w->advanced_ns >= IDLE_NS) {
        w->advanced_ns = w->now_ns;
        dp_engine_advance(w->engine, w->now_ns);
        if (w->n_held)
            dp_forward_resolved(w);
    }
    if (w->fed) {
        w->fed = false;
        if (write(w->feed_wake, &one, sizeof one) < 0)
            return;
    }
}

static void register_port(struct dp_worker *w, uint32_t number)
{
    if (w->port[number].port.kind == DP_PORT_TAP)
        dp_uring_register(&w->uring, number, w->port[number].fd);
}

/* A ring belongs to the thread that opens it. */
static void open_uring(struct dp_worker *w)
{
    if (!w->wants_uring || dp_uring_open(&w->uring, w->arena, DP_ARENA_BYTES) < 0)
        return;
    for (uint32_t number = 0; number < w->n_ports; number++)
        if (w->port[number].active)
            register_port(w, number);
}

static void *run(void *argument)
{
    struct dp_worker *w = argument;
    struct epoll_event event[EVENTS];

    open_uring(w);
    while (!w->stopping) {
        int n = epoll_wait(w->epoll, event, EVENTS, IDLE_MS);

        w->counters.wakeups++;
        w->now_ns = dp_firewall_now();
        for (int i = 0; i < n; i++) {
            if (event[i].data.u32 == WAKE)
                obey(w);
            else if (w->port[event[i].data.u32].polled)
                receive(w, event[i].data.u32);
        }
        end_round(w);
    }
    dp_uring_close(&w->uring);
    return NULL;
}

static void stop(struct dp_worker *w, void *argument)
{
    (void)argument;
    w->stopping = true;
}

int dp_worker_start(struct dp_worker *w)
{
    sigset_t all, before;
    int error;

    w->stopping = false;
    /* Signals are for the threads that Python runs. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&w->thread, NULL, run, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    w->running = error == 0;
    return error ? DP_E_IO : 0;
}

void dp_worker_stop(struct dp_worker *w)
{
    if (!w->running)
        return;
    dp_worker_call(w, stop, NULL);
    pthread_join(w->thread, NULL);
    w->running = false;
}

void dp_worker_call(struct dp_worker *w, dp_command *command, void *argument)
{
    if (!w->running) {
        w->now_ns = dp_firewall_now();
        command(w, argument);
        return;
    }
    w->argument = argument;
    atomic_store_explicit(&w->command, command, memory_order_release);
    wake(w);
    while (sem_wait(&w->done) < 0 && errno == EINTR)
        ;
}

/* ---- ports ---- */

int dp_worker_add_port(struct dp_worker *w, uint32_t number, const struct dp_port *port, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = number};

    if (epoll_ctl(w->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        return DP_E_IO;
    w->port[number] = (struct dp_worker_port){.port = *port, .fd = fd, .active = true, .polled = true};
    memset(&w->port_counters[number], 0, sizeof w->port_counters[number]);
    register_port(w, number);
    if (number >= w->n_ports)
        w->n_ports = number + 1;
    return 0;
}

void dp_worker_remove_port(struct dp_worker *w, uint32_t number)
{
    take_off_poll(w, number);
    dp_uring_unregister(&w->uring, number);
    w->port[number].active = false;
    for (uint32_t slot = 0; slot < DP_HELD_MAX; slot++)
        if (w->held[slot].used && (w->held[slot].in == number || w->held[slot].out == number)) {
            w->held[slot].used = false;
            w->n_held--;
        }
    while (w->n_ports && !w->port[w->n_ports - 1].active)
        w->n_ports--;
}

/* ---- life ---- */

int dp_worker_init(struct dp_worker *w, uint32_t number, uint32_t workers, struct dp_worker *all,
                   struct dp_switch *stations, int feed_wake, const struct dp_conntrack_config *config,
                   const uint64_t *seed)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = WAKE};
    int error;

    w->number = number;
    w->workers = workers;
    w->all = all;
    w->stations = stations;
    w->feed_wake = feed_wake;
    w->wants_uring = true;
    atomic_init(&w->watched_port, -1);
    sem_init(&w->done, 0, 0);
    w->epoll = epoll_create1(EPOLL_CLOEXEC);
    w->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w->epoll < 0 || w->wake < 0 || epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->wake, &event) < 0)
        return DP_E_IO;
    error = dp_engine_new(config, seed, &w->engine);
    /* A flood of new connections, of all things, must not have every packet wait for memory. */
    if (!error)
        error = dp_conntrack_populate(&w->engine->conntrack, DP_POPULATED / workers);
    if (error < 0)
        return error;
    w->now_ns = w->advanced_ns = dp_firewall_now();
    dp_engine_advance(w->engine, w->now_ns);
    w->port_counters = calloc(DP_PORTS_MAX, sizeof *w->port_counters);
    w->arena = dp_reserve(DP_ARENA_BYTES);
    w->held_bytes = dp_reserve((size_t)DP_HELD_MAX * DP_PORT_ROOM);
    if (!w->port_counters || !w->arena || !w->held_bytes || dp_ring_init(&w->feed, FEED_BYTES) < 0)
        return DP_E_MEMORY;
    for (uint32_t from = 0; from < workers; from++)
        if (from != number && dp_ring_init(&w->inbox[from], INBOX_BYTES) < 0)
            return DP_E_MEMORY;
    return 0;
}

void dp_worker_release(struct dp_worker *w)
{
    dp_worker_stop(w);
    for (uint32_t from = 0; from < w->workers; from++)
        dp_ring_release(&w->inbox[from]);
    dp_ring_release(&w->feed);
    dp_unreserve(w->arena, DP_ARENA_BYTES);
    dp_unreserve(w->held_bytes, (size_t)DP_HELD_MAX * DP_PORT_ROOM);
    free(w->port_counters);
    dp_engine_free(w->engine);
    if (w->wake >= 0)
        close(w->wake);
    if (w->epoll >= 0)
        close(w->epoll);
    sem_destroy(&w->done);
}
