/*
 * switch_ports.c: the ports of a firewall, their counters, and who is known to be behind them, as dp_live.h promises
 * them.
 */
#include "firewall.h"

#include <stddef.h>
#include <string.h>

/* ---- ports come and go ---- */

struct port_command {
    uint32_t number;
    const struct dp_port *port;
    const int *fd;
    int error;
};

static void add_port(struct dp_worker *w, void *argument)
{
    struct port_command *c = argument;
    int error = dp_worker_add_port(w, c->number, c->port, c->fd[w->number]);

    if (error < 0)
        c->error = error;
}

static void remove_port(struct dp_worker *w, void *argument)
{
    dp_worker_remove_port(w, ((const struct port_command *)argument)->number);
}

/* A free number: that which keeps the instance's MACs, else one that keeps none; DP_PORTS_MAX when all are used. */
static uint32_t free_number(const struct dp_firewall *f, const struct dp_port *port)
{
    uint32_t found = DP_PORTS_MAX;

    for (uint32_t i = 0; i < DP_PORTS_MAX; i++) {
        if (f->used[i])
            continue;
        if (f->left[i] && f->left[i] == (uint32_t)(port->zone + 1))
            return i;
        if (found == DP_PORTS_MAX || (f->left[found] && !f->left[i]))
            found = i;
    }
    return found;
}

int dp_firewall_add_port(struct dp_firewall *f, const struct dp_port *port, const int *fd)
{
    struct port_command c = {.port = port, .fd = fd};

    if (!dp_is_port(port))
        return DP_E_ARGUMENT;
    c.number = free_number(f, port);
    if (c.number == DP_PORTS_MAX)
        return DP_E_LIMIT;
    dp_call_all(f, add_port, &c);
    if (c.error) {
        dp_call_all(f, remove_port, &c);
        return c.error;
    }
    if (f->left[c.number] && f->left[c.number] != (uint32_t)(port->zone + 1))
        dp_mac_table_forget(&f->stations, c.number);
    f->left[c.number] = 0;
    f->used[c.number] = true;
    return (int)c.number;
}

int dp_firewall_remove_port(struct dp_firewall *f, uint32_t number)
{
    struct port_command c = {.number = number};
    int32_t zone;

    if (number >= DP_PORTS_MAX || !f->used[number])
        return DP_E_ARGUMENT;
    zone = f->worker[0].port[number].port.zone;
    dp_call_all(f, remove_port, &c);
    f->left[number] = dp_mac_table_leave(&f->stations, number) ? (uint32_t)(zone + 1) : 0;
    f->used[number] = false;
    return 0;
}

/* ---- super-packets of tunnels ---- */

struct tunnel_command {
    uint32_t number;
    int fd;
};

static void set_tunnel(struct dp_worker *w, void *argument)
{
    const struct tunnel_command *c = argument;

    w->port[c->number].tunnel = c->fd;
}

int dp_firewall_set_tunnel(struct dp_firewall *f, uint32_t number, int fd)
{
    struct tunnel_command c = {number, fd};

    if (number >= DP_PORTS_MAX || !f->used[number])
        return DP_E_ARGUMENT;
    dp_call_all(f, set_tunnel, &c);
    return 0;
}

static void add_wants(struct dp_worker *w, void *argument)
{
    uint8_t *wants = argument;

    for (uint32_t number = 0; number < w->n_ports; number++) {
        wants[number] |= w->port[number].used && w->port[number].wants_tunnel;
        w->port[number].wants_tunnel = false;
    }
}

void dp_firewall_want_tunnels(struct dp_firewall *f, uint8_t *wants)
{
    memset(wants, 0, DP_PORTS_MAX);
    dp_call_all(f, add_wants, wants);
}

/* ---- counters ---- */

/* So many ports are read by one command: each waits for a port's turn, and frames wait for each. */
enum { PORTS_AT_ONCE = 128 };

struct port_counters_command {
    uint32_t begin;
    uint32_t end;
    struct dp_port_counters *counters; /* of port `begin` */
};

static void add_port_counters(struct dp_worker *w, void *argument)
{
    const struct port_counters_command *c = argument;

    for (uint32_t number = c->begin; number < c->end; number++) {
        struct dp_port_counters *one = &w->port_counters[number], *sum = &c->counters[number - c->begin];

        if (!w->port[number].used)
            continue;
        one->drop[DP_DROP_MISSED] += dp_port_missed(w->port[number].fd, w->port[number].port.kind);
        for (size_t k = 0; k < offsetof(struct dp_port_counters, error) / sizeof(uint64_t); k++)
            ((uint64_t *)sum)[k] += ((const uint64_t *)one)[k];
        if (one->error)
            sum->error = one->error;
    }
}

int dp_firewall_port_counters(struct dp_firewall *f, uint32_t first, uint32_t n, struct dp_port_counters *counters)
{
    if (first > DP_PORTS_MAX || n > DP_PORTS_MAX - first)
        return DP_E_ARGUMENT;
    memset(counters, 0, n * sizeof *counters);
    for (uint32_t have = 0; have < n; have += PORTS_AT_ONCE) {
        uint32_t more = n - have < PORTS_AT_ONCE ? n - have : PORTS_AT_ONCE;
        struct port_counters_command c = {first + have, first + have + more, counters + have};

        dp_call_all(f, add_port_counters, &c);
    }
    return 0;
}

struct failures_command {
    struct dp_port_failures *failures;
    uint32_t n;
};

static void add_failures(struct dp_worker *w, void *argument)
{
    const struct failures_command *c = argument;

    for (uint32_t number = 0; number < c->n && number < w->n_ports; number++) {
        const struct dp_port_counters *one = &w->port_counters[number];

        if (!w->port[number].used)
            continue;
        c->failures[number].failures += one->failures;
        if (one->error)
            c->failures[number].error = one->error;
    }
}

int dp_firewall_port_failures(struct dp_firewall *f, struct dp_port_failures *failures, uint32_t n)
{
    struct failures_command c = {failures, n};

    if (n > DP_PORTS_MAX)
        return DP_E_ARGUMENT;
    memset(failures, 0, n * sizeof *failures);
    dp_call_all(f, add_failures, &c);
    return 0;
}
_Static_assert(offsetof(struct dp_port_counters, error) % sizeof(uint64_t) == 0,
               "counters before it are summed as words");

/* ---- stations ---- */

int dp_firewall_stations(struct dp_firewall *f, struct dp_station *stations, uint32_t n)
{
    uint32_t now_s = (uint32_t)(dp_firewall_now() / 1000000000u), have = 0, kept;

    /* What is behind the ports of one worker is what is behind those of all, and nobody but this thread changes it. */
    for (uint32_t number = 0; number < DP_PORTS_MAX && have < n; number++) {
        const struct dp_worker_port *p = &f->worker[0].port[number];

        if (!p->active || !p->port.has_mac)
            continue;
        stations[have] = (struct dp_station){.port = (uint16_t)number, .fixed = 1};
        memcpy(stations[have++].mac, p->port.mac, sizeof p->port.mac);
    }
    kept = have;
    n = have + dp_mac_table_list(&f->stations, now_s, stations + have, n - have);
    for (; have < n; have++)
        if (!dp_bindings_find(&f->worker[0].served, stations[have].mac))
            stations[kept++] = stations[have];
    return (int)kept;
}
