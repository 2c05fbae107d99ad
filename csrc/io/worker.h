/*
 * worker.h: a thread that moves frames between ports and asks its engine about each of them.
 *
 * A WORKER runs one shard of the plane, has its own queue of every port, and its own counters; workers share only the
 * switch's table and hand each other the frames that the kernel gave to the wrong one: each belongs to the shard that
 * shard.h says.
 *
 * WHO MAY DO WHAT. Once it runs, a worker is its thread's. What others may rely on:
 *
 *   1. Nobody but its thread reads or writes a worker, but for rings, which have two ends (ring.h, inbox.h), the
 * wake-up (dp_worker_wake), and `watched` and `watched_port`, which the control thread sets.
 *   2. A COMMAND of the control thread (dp_worker_call) is carried out between two bursts, and whoever called waits for
 *      its end: it may read and change all of the worker, and what it points to need not outlive the call.
 *   3. No frame of a burst meets half of a command: all are judged by one policy, with what it has behind the ports.
 *   4. A frame handed to another worker for a port that has been taken out, or given to another, is dropped there: it
 *      carries the port's generation.
 *   5. One that is stopped has ended every burst that it began.
 *
 * A FRAME'S WAY. Received in a burst -> the switch says where to -> the engine judges all of the burst, with the egress
 * check of the port's instance and, where one port is meant, the ingress check of that one's -> allowed ones are sent;
 * those for everybody are judged again for each port that they would enter. A fragment that waits for its first is
 * kept in a slot of its own. DP_WAITING_FRAMES_MAX may wait, shared among ports as datagram_table.h says; what gave way
 * to another keeps its slot to the burst's end, for which there are as many more as a burst has frames. Frames for
 * everybody can need still more: what finds no slot is dropped and counted.
 */
#ifndef DP_IO_WORKER_H
#define DP_IO_WORKER_H

#include "../flow_log_live.h"
#include "frame_path.h"
#include "inbox.h"
#include "port.h"
#include "shadow.h"

#include <pthread.h>
#include <semaphore.h>

/* A burst is asked for at twice, at most. */
enum { DP_SLOTS = 31, DP_BURST = 2 * DP_SLOTS };
/* A turn ends behind the frame for everybody with which they have gone to so many ports. */
enum { DP_REACH = 1024 };
enum { DP_WAITING_SLOTS = DP_WAITING_FRAMES_MAX + DP_BURST };
/* A burst ends behind the frame that fills it up: a super-packet is sent while it is in the nearest cache. */
enum { DP_BURST_BYTES = 64 * 1024, DP_PACKED_BYTES = DP_BURST_BYTES + 520 * 1024 };
/*
 * Frames that are received one by one lie packed at the arena's begin. Those that are asked for at once have a slot
 * each, which begin at other places of their pages, so that they do not share the few places of a cache. The arena is
 * one huge page, where the kernel gives one.
 */
enum { DP_SLOT_BYTES = 66 * 1024 + 64, DP_ARENA_BYTES = 2 * 1024 * 1024 };

struct dp_worker;
typedef void dp_command(struct dp_worker *worker, void *argument);

/* A port as one worker sees it. */
struct dp_worker_port {
    struct dp_port port;
    int fd;
    int tunnel;          /* dp_firewall_set_tunnel; -1: none */
    uint32_t batch;      /* frames to be asked for at once; 0 at first */
    uint32_t generation; /* one more for each port of this number */
    uint32_t owes;       /* ports that its frames for everybody went to, and its turns have not paid for yet */
    uint32_t reach;      /* how many a frame of its last burst went to so, on average */
    bool used;           /* it has a descriptor */
    bool active;         /* and is not closed */
    bool polled;
    bool failing;
    bool wants_tunnel;   /* one was missed since it was asked last */
    uint64_t retry_ns;   /* when one that fails is tried again */
    uint64_t backoff_ns; /* how long that was after the last failure */
};

/* A fragment that waits, and where it would go. */
struct dp_waiting_frame {
    uint64_t number;
    uint32_t in;
    uint32_t out;
    uint32_t length;
    bool used;
};

/* A frame of the burst at hand. */
struct dp_passing {
    uint8_t *header; /* virtio-net header, then the frame */
    uint32_t in;
    uint32_t out; /* a port, or DP_OUT_ALL, DP_OUT_NONE */
};

struct dp_worker {
    uint32_t number;
    uint32_t workers;
    struct dp_worker *all;    /* workers[0 .. workers) */
    struct dp_engine *engine; /* its shard, which is the plane's */
    struct dp_mac_table *stations;
    int epoll;
    int wake; /* eventfd: a command, or frames from another worker */
    int feed_wake;
    uint32_t busy_poll_ns; /* set while it does not run, as wants_uring is */
    bool wants_uring;
    struct dp_uring uring; /* open while it runs, where that is wanted and can be had */
    pthread_t thread;
    bool running;
    bool stopping;
    _Atomic(dp_command *) command;
    void *argument;
    sem_t done;
    uint64_t now_ns;
    uint64_t advanced_ns;
    uint64_t bytes;                        /* received since the last wait */
    struct dp_inbox inbox[DP_WORKERS_MAX]; /* frames from each other worker */
    bool handed[DP_WORKERS_MAX];
    uint32_t handed_reach[DP_WORKERS_MAX]; /* as `reach` of a port */
    uint64_t reached;                      /* ports that frames for everybody went to */
    struct dp_ring feed;
    bool fed;
    struct dp_shadow shadow;  /* its engine is NULL where there is none */
    struct dp_ring flows;     /* records that engine->flow_log gave out */
    _Atomic uint32_t watched; /* enum dp_feed */
    _Atomic int32_t watched_port;
    uint32_t watch; /* both, as they were when this burst began */
    int32_t watch_port;
    struct dp_worker_counters counters;
    struct dp_worker_port port[DP_PORTS_MAX];
    uint32_t n_ports; /* ports are below this number */
    uint32_t n_failing;
    struct dp_bindings served; /* what stands behind active ports, and where the MACs are that the policy tells */
    struct dp_port_counters *port_counters;
    /* the burst at hand */
    uint32_t n;
    struct dp_frame frame[DP_BURST];
    struct dp_place place[DP_BURST];
    struct dp_passing passing[DP_BURST];
    struct dp_record record[DP_BURST];
    struct dp_flow flow[DP_BURST];
    struct dp_sending sending;
    uint32_t sending_port;
    struct dp_waiting_frame waiting[DP_WAITING_SLOTS];
    uint8_t *waiting_bytes;
    uint32_t n_waiting;
    uint8_t *arena;
};

int dp_worker_init(struct dp_worker *worker, uint32_t number, uint32_t workers, struct dp_worker *all,
                   struct dp_mac_table *stations, int feed_wake, struct dp_engine *engine);
void dp_worker_release(struct dp_worker *worker);
/* Ends its thread (worker_loop.h), if it has one. */
void dp_worker_stop(struct dp_worker *worker);
/* Has a command carried out, and waits for its end: at once where the worker does not run.
 * => By the control thread only, and by no command: it would wait for itself. */
void dp_worker_call(struct dp_worker *worker, dp_command *command, void *argument);
/* Adds or takes out a port.
 * => By a command, or before the worker runs. The descriptor stays the caller's, who closes it behind the removal. */
int dp_worker_add_port(struct dp_worker *worker, uint32_t number, const struct dp_port *port, int fd);
void dp_worker_remove_port(struct dp_worker *worker, uint32_t number);
/* Something else stands behind these ports: what waits for one, or came by it, is dropped where it is another
 * instance. Cannot fail.
 * => By a command, in which the policy that says so is put in force too. */
void dp_worker_set_ports(struct dp_worker *worker, const struct dp_port_update *ports, uint32_t n);

/* What epoll says of the eventfd; ports say their number. */
enum { DP_WORKER_WAKE = DP_PORTS_MAX };

/* Ends its wait. */
void dp_worker_wake(const struct dp_worker *worker);
/*
 * The port, not a frame, failed with an errno. It is tried again after 10 ms, then after twice as long each time, 1 s
 * at most; a failure to receive (`off_poll`) keeps it out of the wait until then.
 */
void dp_worker_failed(struct dp_worker *worker, uint32_t number, int error, bool off_poll);
/* Lets timers of connections come up between two bursts; whether some are left. */
static inline bool dp_worker_catch_up(struct dp_worker *worker)
{
    bool shadow = worker->shadow.engine && dp_engine_catch_up(worker->shadow.engine);

    return dp_engine_catch_up(worker->engine) || shadow;
}
/* A frame came from it, or went to it. */
void dp_worker_is_well(struct dp_worker *worker, uint32_t number);
/* The wait is for this port, too; false, with errno, when the system cannot. */
bool dp_worker_poll_again(struct dp_worker *worker, uint32_t number);
/* In its own thread, to which the ring belongs; it goes on without one where none can be had. */
void dp_worker_open_uring(struct dp_worker *worker);

#endif
