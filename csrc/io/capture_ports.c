/* capture_ports.c: capture_ports.h in code. */
#include "capture_ports.h"

#include "../flow_key.h"

#include <stdlib.h>

struct dp_at_port *dp_at_port_new(void)
{
    static const uint64_t seed[2] = {0}; /* runs repeat */
    struct dp_hash_secret secret;
    struct dp_at_port *ports = calloc(1, sizeof *ports);

    if (ports) {
        ports->at = -1;
        dp_hash_secret_init(&secret, seed);
        dp_mac_table_init(&ports->stations, secret.multiplier);
    }
    return ports;
}

void dp_at_port_free(struct dp_at_port *ports)
{
    if (!ports)
        return;
    for (uint32_t i = 0; i < DP_WAITING_FRAMES_MAX; i++)
        free(ports->waiting[i].bytes);
    free(ports->known);
    free(ports);
}

void dp_at_port_drop_waiting(struct dp_at_port *ports, struct dp_at_port_frame *waiting)
{
    free(waiting->bytes);
    waiting->bytes = NULL;
    ports->n_waiting--;
}

static void put(struct dp_at_port *ports, uint32_t number, const struct dp_named_port *to)
{
    struct dp_capture_port *named = &ports->named[number];

    if (named->active && (!to->name || dp_port_forgets(&named->port, &to->port)))
        dp_mac_table_forget(&ports->stations, number);
    /* An answer of before is none for who is there now. */
    for (uint32_t i = 0; i < DP_WAITING_FRAMES_MAX && named->port.zone != to->port.zone; i++)
        if (ports->waiting[i].bytes && ports->waiting[i].in == number)
            dp_at_port_drop_waiting(ports, &ports->waiting[i]);
    *named = (struct dp_capture_port){.active = to->name != NULL, .seen = to->name && named->seen, .port = to->port};
    if (to->name)
        strcpy(named->name, to->name);
}

int dp_at_port_set(struct dp_at_port *ports, const struct dp_named_port *named, uint32_t n, int32_t at)
{
    static const struct dp_named_port none = {0};

    if (n > DP_PORTS_MAX || at >= (int32_t)n || (at >= 0 && !named[at].name))
        return DP_E_ARGUMENT;
    for (uint32_t i = 0; i < n; i++)
        if (named[i].name && strlen(named[i].name) > DP_INTERFACE_NAME)
            return DP_E_ARGUMENT;
    for (uint32_t i = 0; i < n || i < ports->n; i++)
        put(ports, i, i < n ? &named[i] : &none);
    ports->n = n;
    ports->at = at;
    ports->version++;
    memset(&ports->served, 0, sizeof ports->served);
    memset(&ports->alone, 0, sizeof ports->alone);
    for (uint32_t i = 0; i < n; i++) {
        if (!ports->named[i].active)
            continue;
        dp_bindings_add(&ports->served, i, &ports->named[i].port);
    }
    if (at >= 0)
        dp_bindings_add(&ports->alone, (uint32_t)at, &ports->named[at].port);
    return 0;
}

static uint32_t port_by_name(const struct dp_at_port *ports, const char *name)
{
    for (uint32_t i = 0; i < DP_PORTS_MAX; i++)
        if (ports->named[i].active && strcmp(ports->named[i].name, name) == 0)
            return i;
    return DP_AT_NO_PORT;
}

/* An uplink that the policy does not name has a port as soon as it is seen; DP_AT_NO_PORT where there are too many. */
static uint32_t learn_uplink(struct dp_at_port *ports, const char *name)
{
    static const struct dp_port outside = {.zone = DP_ZONE_NONE};

    for (uint32_t i = DP_PORTS_MAX; i-- > ports->n;)
        if (!ports->named[i].active) {
            put(ports, i, &(struct dp_named_port){name, outside});
            return i;
        }
    return DP_AT_NO_PORT;
}

/* What is known of the interface with this number, from 1; NULL without memory. */
static struct dp_known_interface *known_of(struct dp_at_port *ports, uint32_t number)
{
    if (number >= ports->n_known) {
        uint32_t n = 2 * number + 2;
        struct dp_known_interface *grown = realloc(ports->known, n * sizeof *grown);

        if (!grown)
            return NULL;
        memset(grown + ports->n_known, 0, (n - ports->n_known) * sizeof *grown);
        ports->known = grown;
        ports->n_known = n;
    }
    return &ports->known[number];
}

int dp_at_port_look_up(struct dp_at_port *ports, const struct dp_capture_interface *interface, uint32_t number)
{
    struct dp_known_interface *known = known_of(ports, number);

    if (!known)
        return DP_E_MEMORY;
    if (known->version == ports->version)
        return 0;
    known->version = ports->version;
    known->port = interface->name ? port_by_name(ports, interface->name) : DP_AT_NO_PORT;
    if (known->port == DP_AT_NO_PORT && interface->uplink && interface->name)
        known->port = learn_uplink(ports, interface->name);
    return 0;
}

uint32_t dp_at_port_of(const struct dp_at_port *ports, uint32_t number)
{
    return number ? ports->known[number].port : DP_AT_NO_PORT;
}

const struct dp_port *dp_at_port_balancer(const struct dp_at_port *ports, const struct dp_endpoints *endpoints,
                                          const uint8_t *mac, uint32_t family, const union dp_address *address)
{
    const struct dp_bound_mac *found = mac ? dp_bindings_find(&ports->served, mac) : NULL;
    uint32_t balancer = found    ? found->balancer
                        : family ? dp_endpoints_balancer_at_port(endpoints, family, address)
                                 : 0;

    for (uint32_t i = 0; balancer && i < ports->n; i++)
        if (ports->named[i].active && ports->named[i].port.balancer == balancer &&
            (found || !ports->named[i].port.has_mac))
            return &ports->named[i].port;
    return NULL;
}
