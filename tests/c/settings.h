/* settings.h: settings of connection tracking that tests share. */
#ifndef DP_TEST_SETTINGS_H
#define DP_TEST_SETTINGS_H

#include "dp_counters.h"

/* A table of transitions in which everything goes on, so that packets made by chance meet many states. */
static inline struct dp_conntrack_config settings_in_which_all_goes_on(void)
{
    struct dp_conntrack_config config = {.max_entries = 300};

    for (int s = 0; s < DP_CONN_STATES; s++) {
        config.timeout_ns[s] = 30000000000u;
        config.tentative[s] = s % 2;
        for (int side = 0; side < DP_SIDES; side++)
            for (int e = 0; e < DP_TCP_EVENTS; e++)
                config.tcp_next[s][side][e] = e == DP_TCP_RST       ? DP_CONN_TCP_CLOSE
                                              : e == DP_TCP_FIN     ? DP_CONN_TCP_FIN_WAIT_INITIATOR
                                              : e == DP_TCP_SYN     ? DP_CONN_TCP_SYN_SENT
                                              : e == DP_TCP_ACK_FIN ? DP_CONN_TCP_CLOSE_WAIT_INITIATOR
                                                                    : DP_CONN_TCP_ESTABLISHED;
    }
    config.reopens[DP_CONN_TCP_CLOSE] = 1;
    return config;
}

/* All states time out alike. */
static inline struct dp_conntrack_config settings_of(uint32_t max_entries, uint64_t timeout_ns)
{
    struct dp_conntrack_config config = {.max_entries = max_entries};

    for (int state = 0; state < DP_CONN_STATES; state++)
        config.timeout_ns[state] = timeout_ns;
    return config;
}

#endif
