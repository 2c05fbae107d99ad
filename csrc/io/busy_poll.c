/* busy_poll.c: busy_poll.h in code. */
#include "busy_poll.h"

#include <stdbool.h>
#include <sys/epoll.h>

static bool shall_look(struct dp_wait *w, uint64_t bytes)
{
    if (bytes > DP_WAIT_QUIET_BYTES)
        w->quiet = 0;
    else if (w->quiet < DP_WAIT_QUIET)
        w->quiet++;
    return w->busy_poll_ns && w->quiet == DP_WAIT_QUIET && w->left_out == 0;
}

static int look(const struct dp_wait *w, int epoll, struct epoll_event *event, int n)
{
    uint64_t end = dp_firewall_now() + w->busy_poll_ns;
    int found;

    do
        found = epoll_wait(epoll, event, n, 0);
    while (found == 0 && dp_firewall_now() < end);
    return found;
}

int dp_wait(struct dp_wait *w, int epoll, struct epoll_event *event, int n, int milliseconds, uint64_t bytes,
            struct dp_worker_counters *counters)
{
    int found;

    if (shall_look(w, bytes)) {
        found = look(w, epoll, event, n);
        if (found) {
            w->in_vain = 0;
            counters->busy_polls[DP_BUSY_POLL_FOUND]++;
            return found;
        }
        counters->busy_polls[DP_BUSY_POLL_IN_VAIN]++;
        w->in_vain += w->in_vain < DP_WAIT_IN_VAIN_MAX;
        w->left_out = 1u << w->in_vain;
    }
    found = epoll_wait(epoll, event, n, milliseconds);
    w->left_out -= found > 0 && w->left_out > 0;
    return found;
}
