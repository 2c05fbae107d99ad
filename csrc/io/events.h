/*
 * events.h: threads that wait for each other: looking for a while, then asleep.
 *
 * `count` says how much has happened. Who waits has read it before it looked for work; who goes to sleep says so in
 * `sleepers` before it looks at the count for the last time, and who changes the count looks at `sleepers` afterwards,
 * so no change is slept through.
 */
#ifndef DP_IO_EVENTS_H
#define DP_IO_EVENTS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

struct dp_events {
    _Atomic uint64_t count;
    _Atomic uint32_t sleepers;
    pthread_mutex_t lock;
    pthread_cond_t changed;
};

void dp_events_init(struct dp_events *events);
void dp_events_release(struct dp_events *events);
/* Something has happened. */
void dp_events_tell(struct dp_events *events);
/* Until something has happened since the count was `seen`. */
void dp_events_await(struct dp_events *events, uint64_t seen);

#endif
