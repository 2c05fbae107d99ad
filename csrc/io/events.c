/* events.c: events.h in code. */
#include "events.h"

/* Before a thread sleeps: some 60 microseconds; to wake it takes about as long. */
enum { LOOKS = 4000 };

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

void dp_events_init(struct dp_events *events)
{
    atomic_init(&events->count, 0);
    atomic_init(&events->sleepers, 0);
    pthread_mutex_init(&events->lock, NULL);
    pthread_cond_init(&events->changed, NULL);
}

void dp_events_release(struct dp_events *events)
{
    pthread_cond_destroy(&events->changed);
    pthread_mutex_destroy(&events->lock);
}

void dp_events_tell(struct dp_events *events)
{
    atomic_fetch_add(&events->count, 1);
    if (atomic_load(&events->sleepers)) {
        pthread_mutex_lock(&events->lock);
        pthread_cond_broadcast(&events->changed);
        pthread_mutex_unlock(&events->lock);
    }
}

void dp_events_await(struct dp_events *events, uint64_t seen)
{
    for (uint32_t look = 0; look < LOOKS; look++) {
        if (atomic_load_explicit(&events->count, memory_order_acquire) != seen)
            return;
        relax();
    }
    pthread_mutex_lock(&events->lock);
    atomic_fetch_add(&events->sleepers, 1);
    while (atomic_load(&events->count) == seen)
        pthread_cond_wait(&events->changed, &events->lock);
    atomic_fetch_sub(&events->sleepers, 1);
    pthread_mutex_unlock(&events->lock);
}
