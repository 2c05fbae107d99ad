/* worker.c: a worker of worker.h: its life, commands to it, ports that come, go and fail. */
#include "worker.h"

#include "../memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { BACKOFF_FIRST_NS = 10000000, BACKOFF_MOST_NS = 1000000000 };
enum { FEED_BYTES = 8 * 1024 * 1024, INBOX_BYTES = 4 * 1024 * 1024 };

/* ---- commands ---- */

void dp_worker_wake(const struct dp_worker *w)
{
    uint64_t one = 1;

    /* The counter of an eventfd is never full: it is read away. */
    if (write(w->wake, &one, sizeof one) < 0)
        return;
}

static void stop(struct dp_worker *w, void *argument)
{
    (void)argument;
    w->stopping = true;
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
    dp_worker_wake(w);
    while (sem_wait(&w->done) < 0 && errno == EINTR)
        ;
}

/* ---- ports that fail ---- */

static void take_off_poll(struct dp_worker *w, uint32_t number)
{
    if (w->port[number].polled)
        epoll_ctl(w->epoll, EPOLL_CTL_DEL, w->port[number].fd, NULL);
    w->port[number].polled = false;
}

bool dp_worker_poll_again(struct dp_worker *w, uint32_t number)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = number};

    if (!w->port[number].polled && epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->port[number].fd, &event) == 0)
        w->port[number].polled = true;
    return w->port[number].polled;
}

void dp_worker_failed(struct dp_worker *w, uint32_t number, int error, bool off_poll)
{
    struct dp_worker_port *p = &w->port[number];

    w->port_counters[number].failures += w->port_counters[number].error == 0;
    w->port_counters[number].error = error;
    if (off_poll)
        take_off_poll(w, number);
    /* Many frames of a burst may meet the same failure. */
    if (p->failing && w->now_ns < p->retry_ns)
        return;
    p->backoff_ns = p->backoff_ns == 0 ? BACKOFF_FIRST_NS : 2 * p->backoff_ns;
    if (p->backoff_ns > BACKOFF_MOST_NS)
        p->backoff_ns = BACKOFF_MOST_NS;
    p->retry_ns = w->now_ns + p->backoff_ns;
    w->n_failing += !p->failing;
    p->failing = true;
}

void dp_worker_is_well(struct dp_worker *w, uint32_t number)
{
    struct dp_worker_port *p = &w->port[number];

    w->port_counters[number].error = 0;
    w->n_failing -= p->failing;
    p->failing = false;
    p->backoff_ns = 0;
}

static void register_port(struct dp_worker *w, uint32_t number)
{
    if (w->port[number].port.kind == DP_PORT_TAP)
        dp_uring_register(&w->uring, number, w->port[number].fd);
}

void dp_worker_open_uring(struct dp_worker *w)
{
    if (!w->wants_uring || dp_uring_open(&w->uring, w->arena, DP_ARENA_BYTES) < 0)
        return;
    for (uint32_t number = 0; number < w->n_ports; number++)
        if (w->port[number].used)
            register_port(w, number);
}

/* ---- ports ---- */

/* What stands behind the ports has changed. */
static void serve(struct dp_worker *w)
{
    memset(&w->served, 0, sizeof w->served);
    for (uint32_t number = 0; number < w->n_ports; number++)
        if (w->port[number].active)
            dp_bindings_add(&w->served, number, &w->port[number].port);
}

static void drop_waiting(struct dp_worker *w, uint32_t number)
{
    for (uint32_t slot = 0; slot < DP_WAITING_SLOTS; slot++)
        if (w->waiting[slot].used && (w->waiting[slot].in == number || w->waiting[slot].out == number)) {
            w->waiting[slot].used = false;
            w->n_waiting--;
        }
}

static void close_port(struct dp_worker *w, uint32_t number)
{
    take_off_poll(w, number);
    w->n_failing -= w->port[number].failing;
    w->port[number].failing = false;
    w->port[number].active = false;
    w->port_counters[number].error = 0;
}

/* Where the system cannot do it now it is tried again, as for a port that fails. */
static void open_port(struct dp_worker *w, uint32_t number)
{
    w->port[number].active = true;
    w->port[number].backoff_ns = 0;
    if (!dp_worker_poll_again(w, number))
        dp_worker_failed(w, number, errno, true);
}

void dp_worker_set_ports(struct dp_worker *w, const struct dp_port_update *ports, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t number = ports[i].number;
        struct dp_worker_port *p = &w->port[number];

        /* An answer of before is none for who is there now. */
        if (p->port.zone != ports[i].port.zone || ports[i].port.closed)
            drop_waiting(w, number);
        p->port = ports[i].port;
        if (p->active && p->port.closed)
            close_port(w, number);
        else if (!p->active && !p->port.closed)
            open_port(w, number);
    }
    if (n)
        serve(w);
}

int dp_worker_add_port(struct dp_worker *w, uint32_t number, const struct dp_port *port, int fd)
{
    struct dp_worker_port *p = &w->port[number];

    *p = (struct dp_worker_port){.port = *port, .fd = fd, .tunnel = -1, .generation = p->generation, .used = true};
    if (!port->closed && !dp_worker_poll_again(w, number))
        return DP_E_IO;
    p->active = !port->closed;
    memset(&w->port_counters[number], 0, sizeof w->port_counters[number]);
    register_port(w, number);
    if (number >= w->n_ports)
        w->n_ports = number + 1;
    serve(w);
    return 0;
}

void dp_worker_remove_port(struct dp_worker *w, uint32_t number)
{
    close_port(w, number);
    dp_uring_unregister(&w->uring, number);
    drop_waiting(w, number);
    w->port[number].used = false;
    w->port[number].generation++;
    while (w->n_ports && !w->port[w->n_ports - 1].used)
        w->n_ports--;
    serve(w);
}

/* ---- life ---- */

int dp_worker_init(struct dp_worker *w, uint32_t number, uint32_t workers, struct dp_worker *all,
                   struct dp_mac_table *stations, int feed_wake, struct dp_engine *engine)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = DP_WORKER_WAKE};

    w->number = number;
    w->workers = workers;
    w->all = all;
    w->stations = stations;
    w->engine = engine;
    w->feed_wake = feed_wake;
    w->wants_uring = true;
    atomic_init(&w->watched_port, -1);
    sem_init(&w->done, 0, 0);
    w->epoll = epoll_create1(EPOLL_CLOEXEC);
    w->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w->epoll < 0 || w->wake < 0 || epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->wake, &event) < 0)
        return DP_E_IO;
    dp_fragments_bound(w->engine->fragments, DP_WAITING_FRAMES_MAX);
    w->now_ns = w->advanced_ns = dp_firewall_now();
    dp_engine_advance(w->engine, w->now_ns);
    w->port_counters = dp_reserve(DP_PORTS_MAX * sizeof *w->port_counters);
    w->arena = dp_reserve_huge(DP_ARENA_BYTES);
    w->waiting_bytes = dp_reserve((size_t)DP_WAITING_SLOTS * DP_PORT_ROOM);
    if (!w->port_counters || !w->arena || !w->waiting_bytes || dp_ring_init(&w->feed, FEED_BYTES) < 0)
        return DP_E_MEMORY;
    dp_populate(w->arena, DP_ARENA_BYTES);
    for (uint32_t from = 0; from < workers; from++)
        if (from != number && dp_inbox_init(&w->inbox[from], INBOX_BYTES) < 0)
            return DP_E_MEMORY;
    return 0;
}

void dp_worker_release(struct dp_worker *w)
{
    dp_worker_stop(w);
    for (uint32_t from = 0; from < w->workers; from++)
        dp_inbox_release(&w->inbox[from]);
    dp_ring_release(&w->feed);
    dp_ring_release(&w->flows);
    if (w->engine)
        dp_flow_log_end(w->engine);
    dp_unreserve(w->arena, DP_ARENA_BYTES);
    dp_unreserve(w->waiting_bytes, (size_t)DP_WAITING_SLOTS * DP_PORT_ROOM);
    dp_unreserve(w->port_counters, DP_PORTS_MAX * sizeof *w->port_counters);
    if (w->wake >= 0)
        close(w->wake);
    if (w->epoll >= 0)
        close(w->epoll);
    sem_destroy(&w->done);
}
