/*
 * firewall.h: the workers of a firewall, and how its control side (firewall.c, survey.c) has them do something.
 *
 * Only the thread that called dp_api.h's functions is in here. A worker's own state is its alone: all that is read or
 * changed of it is read or changed by a COMMAND, which the worker carries out between two turns while the caller waits.
 * Long walks over the connection table are cut into steps of DP_VISITS entries, each a command of its own, so that a
 * worker is kept from its packets for tens of microseconds at most.
 */
#ifndef DP_FIREWALL_H
#define DP_FIREWALL_H

#include "worker.h"

enum { DP_VISITS = 4096 };

struct dp_firewall {
    uint32_t workers;
    int feed_wake;
    bool used[DP_PORTS_MAX];
    struct dp_switch stations;
    struct dp_worker worker[];
};

/* Calls all workers, one after the other. */
static inline void dp_call_all(struct dp_firewall *f, dp_command *command, void *argument)
{
    for (uint32_t i = 0; i < f->workers; i++)
        dp_worker_call(&f->worker[i], command, argument);
}

#endif
