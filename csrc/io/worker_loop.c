/*
 * worker_loop.c: the thread of a worker: waiting, commands, ports' turns.
 *
 * FAIRNESS. Each port that has something gives one burst before the next port's turn; a port with more is asked again
 * in the next round. A frame for everybody takes as long as it has receivers: its port gives up so many turns as would
 * have moved as many frames, while others wait for theirs. Other workers' frames come up once a round, a command
 * behind the turn in which it comes.
 */
#include "worker_loop.h"

#include "busy_poll.h"
#include "forward.h"
#include "receive.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { EVENTS = 64, IDLE_MS = 100 };
#define IDLE_NS 100000000u

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
        dp_receive_handed(w);
}

/* ---- ports that fail ---- */

/* Asks ports whose time has come. One that has nothing to give is well only if its interface is. */
static void retry(struct dp_worker *w)
{
    for (uint32_t number = 0; number < w->n_ports; number++) {
        struct dp_worker_port *p = &w->port[number];
        int error = w->port_counters[number].error;

        if (!p->failing || w->now_ns < p->retry_ns)
            continue;
        w->n_failing--;
        p->failing = false;
        if (!dp_worker_poll_again(w, number)) {
            dp_worker_failed(w, number, errno, true);
            continue;
        }
        dp_receive(w, number);
        if (p->failing || w->port_counters[number].error == 0)
            continue;
        if (dp_port_is_up(p->fd, p->port.kind))
            dp_worker_is_well(w, number);
        else
            dp_worker_failed(w, number, error, false);
    }
}

/* ---- the thread ---- */

static void end_round(struct dp_worker *w)
{
    uint64_t one = 1;

    for (uint32_t other = 0; other < w->workers; other++)
        if (w->handed[other]) {
            w->handed[other] = false;
            dp_worker_wake(&w->all[other]);
        }
    if (w->now_ns - w->advanced_ns >= IDLE_NS) {
        w->advanced_ns = w->now_ns;
        dp_engine_advance(w->engine, w->now_ns);
        dp_forward_resolved(w);
        if (w->shadow.engine)
            dp_shadow_advance(&w->shadow, w->now_ns);
        if (w->engine->flow_log) {
            dp_flow_log_catch_up(w->engine->flow_log);
            dp_flow_log_pass(w->engine->flow_log);
        }
    }
    if (w->n_failing)
        retry(w);
    if (w->fed) {
        w->fed = false;
        if (write(w->feed_wake, &one, sizeof one) < 0)
            return;
    }
}

/* `ready` ports and other things wait for this worker, this one among them. */
static bool has_turn(struct dp_worker_port *p, int ready)
{
    if (ready == 1)
        p->owes = 0;
    if (p->owes < DP_BURST)
        return true;
    p->owes -= DP_BURST;
    return false;
}

static void *run(void *argument)
{
    struct dp_worker *w = argument;
    struct dp_wait wait = {.busy_poll_ns = w->busy_poll_ns};
    struct epoll_event event[EVENTS];
    bool behind = false;

    w->bytes = 0;
    dp_worker_open_uring(w);
    while (!w->stopping) {
        int n = dp_wait(&wait, w->epoll, event, EVENTS, behind ? 0 : IDLE_MS, w->bytes, &w->counters);

        w->counters.wakeups++;
        w->now_ns = dp_firewall_now();
        w->bytes = 0;
        for (int i = 0; i < n && !w->stopping; i++) {
            if (event[i].data.u32 == DP_WORKER_WAKE)
                obey(w);
            else if (w->port[event[i].data.u32].polled && has_turn(&w->port[event[i].data.u32], n))
                dp_receive(w, event[i].data.u32);
            /* Where many send to everybody, a round of all ports takes longer than a command may wait. */
            if (atomic_load_explicit(&w->command, memory_order_relaxed))
                obey(w);
        }
        end_round(w);
        behind = dp_worker_catch_up(w);
    }
    dp_uring_close(&w->uring);
    return NULL;
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
