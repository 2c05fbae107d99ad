/*
 * engine.c: an engine made, a policy put in force, counters and connections read. What packets meet is in pipeline.c.
 *
 * AN UPDATE takes all the memory that it needs first; after that nothing in it can fail, so it happens whole or not at
 * all. Then: time is set, the dead are taken out (so that the counts of disconnected connections are exact), the change
 * is numbered, zones come and go, cuts and revocations are written, and the policy pointer is swapped.
 */
#include "engine.h"

#include <stdlib.h>

const char *dp_error_text(int error)
{
    switch (error) {
    case 0:
        return "no error";
    case DP_E_MEMORY:
        return "out of memory";
    case DP_E_ARGUMENT:
        return "invalid argument";
    case DP_E_IO:
        return "read error";
    case DP_E_FORMAT:
        return "unknown or damaged format";
    case DP_E_TRUNCATED:
        return "truncated";
    case DP_E_LINK_TYPE:
        return "link type not supported";
    case DP_E_LIMIT:
        return "limit exceeded";
    default:
        return "unknown error";
    }
}

static void release_policy(struct dp_policy *policy)
{
    if (!policy)
        return;
    dp_endpoints_free(policy->endpoints);
    for (uint32_t z = 0; z < policy->n_zones; z++)
        for (int d = 0; d < 2; d++)
            for (int f = 0; f < 2; f++)
                dp_rule_table_free(policy->table[z][d][f]);
    free(policy);
}

int dp_engine_new(const struct dp_conntrack_config *config, const uint64_t *seed, struct dp_engine **engine)
{
    struct dp_engine *e = calloc(1, sizeof *e);
    int error;

    *engine = NULL;
    if (!e)
        return DP_E_MEMORY;
    error = dp_conntrack_init(&e->conntrack, config, seed);
    if (error < 0) {
        free(e);
        return error;
    }
    e->policy = calloc(1, sizeof *e->policy);
    e->denied = dp_denied_new();
    e->owners = dp_owners_new();
    e->fragments = dp_fragments_new(dp_engine_answered, e, &e->conntrack.table.secret);
    e->resolved = calloc(DP_WAITING_MAX, sizeof *e->resolved);
    if (!e->policy || !e->denied || !e->owners || !e->fragments || !e->resolved) {
        dp_engine_free(e);
        return DP_E_MEMORY;
    }
    *engine = e;
    return 0;
}

void dp_engine_free(struct dp_engine *e)
{
    if (!e)
        return;
    release_policy(e->policy);
    dp_conntrack_release(&e->conntrack);
    dp_denied_free(e->denied);
    dp_owners_free(e->owners);
    dp_fragments_free(e->fragments);
    free(e->resolved);
    free(e->rule_counters);
    free(e);
}

/* ---- update ---- */

static uint32_t largest_rule(const struct dp_rule_table *table)
{
    uint32_t largest = 0;

    for (uint32_t i = 0; table && i < table->n_rules; i++)
        if (table->rule_number[i] > largest)
            largest = table->rule_number[i];
    return largest;
}

static int reserve_rule_counters(struct dp_engine *e, const struct dp_policy_update *update)
{
    uint32_t n = e->n_rule_counters;
    const struct dp_rule_table *last = NULL;
    struct dp_rule_counter *counters;

    for (uint32_t z = 0; z < update->n_zones; z++)
        for (int i = 0; i < 4; i++) {
            const struct dp_rule_table *table = update->zones[z].table[i / 2][i % 2];

            if (table && table != last && largest_rule(table) >= n)
                n = largest_rule(table) + 1;
            last = table;
        }
    if (n == e->n_rule_counters)
        return 0;
    counters = realloc(e->rule_counters, n * sizeof *counters);
    if (!counters)
        return DP_E_MEMORY;
    memset(counters + e->n_rule_counters, 0, (n - e->n_rule_counters) * sizeof *counters);
    e->rule_counters = counters;
    e->n_rule_counters = n;
    return 0;
}

static int build_policy(const struct dp_policy_update *update, uint32_t n_zones, struct dp_policy **policy)
{
    struct dp_policy *p = calloc(1, sizeof *p + (size_t)n_zones * sizeof p->table[0]);

    if (!p)
        return DP_E_MEMORY;
    p->n_zones = n_zones;
    p->endpoints = update->endpoints;
    p->balancers = dp_endpoints_has_balancers(p->endpoints);
    dp_endpoints_hold(p->endpoints);
    for (uint32_t i = 0; i < update->n_zones; i++)
        for (int d = 0; d < 2; d++)
            for (int f = 0; f < 2; f++) {
                struct dp_rule_table *table = (struct dp_rule_table *)update->zones[i].table[d][f];

                dp_rule_table_hold(table);
                p->table[update->zones[i].zone][d][f] = table;
            }
    *policy = p;
    return 0;
}

static int reserve(struct dp_engine *e, const struct dp_policy_update *update, uint32_t n_zones)
{
    struct dp_conntrack *ct = &e->conntrack;

    if (reserve_rule_counters(e, update) < 0 || dp_conntrack_reserve_zones(ct, n_zones) < 0 ||
        dp_conntrack_reserve_revocations(ct, update->n_revocations) < 0)
        return DP_E_MEMORY;
    for (uint32_t i = 0; i < update->n_cut; i++)
        if (dp_conntrack_reserve_cut(ct, update->cut[i]) < 0)
            return DP_E_MEMORY;
    return 0;
}

static void set_zones(struct dp_engine *e, const struct dp_policy_update *update)
{
    struct dp_conntrack *ct = &e->conntrack;

    for (uint32_t z = 0; z < ct->n_zones; z++)
        ct->zones[z].listed = 0;
    for (uint32_t i = 0; i < update->n_zones; i++)
        ct->zones[update->zones[i].zone].listed = 1;
    for (uint32_t z = 0; z < ct->n_zones; z++)
        dp_conntrack_set_present(ct, z, ct->zones[z].listed);
}

/* Looks at every entry, so that those which a revocation reaches are counted now. */
static uint64_t count_revoked(struct dp_conntrack *ct)
{
    uint64_t before = ct->disconnected;

    for (uint32_t i = 1; i <= ct->table.high; i++)
        dp_conntrack_status(ct, i);
    return ct->disconnected - before;
}

static int check_update(const struct dp_policy_update *update, uint32_t *n_zones)
{
    if (!update->endpoints || !update->config)
        return DP_E_ARGUMENT;
    *n_zones = 0;
    for (uint32_t i = 0; i < update->n_zones; i++) {
        if (update->zones[i].zone >= DP_ZONES_MAX)
            return DP_E_LIMIT;
        if (update->zones[i].zone >= *n_zones)
            *n_zones = update->zones[i].zone + 1;
    }
    for (uint32_t i = 0; i < update->n_cut; i++)
        if (update->cut[i] >= *n_zones)
            return DP_E_ARGUMENT;
    return 0;
}

int dp_engine_update(struct dp_engine *e, struct dp_policy_update *update)
{
    struct dp_conntrack *ct = &e->conntrack;
    struct dp_policy *policy = NULL;
    uint32_t n_zones;
    int error = check_update(update, &n_zones);

    if (error < 0)
        return error;
    dp_conntrack_advance(ct, update->time_ns);
    if (reserve(e, update, n_zones) < 0 || build_policy(update, n_zones, &policy) < 0)
        return DP_E_MEMORY;
    error = dp_conntrack_configure(ct, update->config);
    if (error < 0) {
        release_policy(policy);
        return error;
    }
    dp_conntrack_reap(ct);
    ct->change++;
    set_zones(e, update);
    for (uint32_t i = 0; i < update->n_cut; i++) {
        uint32_t cut = dp_conntrack_cut(ct, update->cut[i]);

        if (update->disconnected)
            update->disconnected[i] = cut;
    }
    for (uint32_t i = 0; i < update->n_revocations; i++)
        dp_conntrack_revoke(ct, &update->revocations[i]);
    update->revoked = update->n_revocations && update->count_revoked ? count_revoked(ct) : 0;
    release_policy(e->policy);
    e->policy = policy;
    return 0;
}

void dp_engine_advance(struct dp_engine *e, uint64_t time_ns)
{
    dp_conntrack_advance(&e->conntrack, time_ns);
    dp_conntrack_reap(&e->conntrack);
    dp_fragments_expire(e->fragments, e->conntrack.now);
}

int dp_engine_resolved(struct dp_engine *e, struct dp_resolution *resolutions, uint32_t n)
{
    uint32_t have = 0;

    for (; have < n && e->n_resolved; have++) {
        resolutions[have] = e->resolved[e->first_resolved];
        e->first_resolved = (e->first_resolved + 1) % DP_WAITING_MAX;
        e->n_resolved--;
    }
    return (int)have;
}

uint64_t dp_engine_frames(const struct dp_engine *e)
{
    return e->frames;
}

uint32_t dp_engine_waiting(const struct dp_engine *e)
{
    return dp_fragments_waiting(e->fragments) + e->n_resolved;
}

void dp_engine_give_up(struct dp_engine *e, uint64_t number)
{
    dp_fragments_give_up(e->fragments, number);
}

/* ---- counters ---- */

void dp_engine_counters(const struct dp_engine *e, struct dp_counters *counters)
{
    const struct dp_conntrack *ct = &e->conntrack;

    *counters = e->counters;
    for (int v = 0; v < DP_VERDICTS; v++)
        for (int r = 0; r < DP_REASONS; r++)
            for (int s = 0; s < DP_STATES; s++) {
                const struct dp_counter *count = &e->answers[v][r][s];

                counters->check[v][r].packets += count->packets;
                counters->check[v][r].bytes += count->bytes;
                counters->state[s].packets += count->packets;
                counters->state[s].bytes += count->bytes;
            }
    counters->connections_opened = ct->opened;
    counters->connections_expired = ct->expired;
    counters->connections_replaced = ct->replaced;
    counters->connections_disconnected = ct->disconnected;
    counters->early_drops = ct->early_drops;
    memcpy(counters->flood, ct->flood, sizeof counters->flood);
    dp_fragments_count(e->fragments, counters);
    counters->entries = ct->table.count;
    counters->max_entries = ct->config.max_entries;
    counters->table_bytes = dp_flow_table_bytes(&ct->table) +
                            (uint64_t)ct->table.high * (sizeof(struct dp_timer_link) + sizeof(struct dp_zone_link));
}

void dp_engine_rule_counters(const struct dp_engine *e, struct dp_rule_counter *counters, uint32_t n)
{
    uint32_t have = n < e->n_rule_counters ? n : e->n_rule_counters;

    if (have)
        memcpy(counters, e->rule_counters, have * sizeof *counters);
    memset(counters + have, 0, (n - have) * sizeof *counters);
}

int dp_engine_denied(const struct dp_engine *e, struct dp_denied *denied, uint32_t n)
{
    return dp_denied_largest(e->denied, denied, n);
}

/* ---- connections ---- */

static void describe(const struct dp_conntrack *ct, const struct dp_entry *e, struct dp_connection *c)
{
    uint64_t timeout = ct->config.timeout_ns[e->state];
    uint8_t protocol = (uint8_t)e->zone_protocol;

    memset(c, 0, sizeof *c);
    c->family = e->flags & DP_ENTRY_IPV6 ? 6 : 4;
    if (e->flags & DP_ENTRY_WIDE) {
        memcpy(c->local, &ct->table.pairs[e->local].local, 16);
        memcpy(c->remote, &ct->table.pairs[e->local].remote, 16);
    } else {
        memcpy(c->local, &e->local, 4);
        memcpy(c->remote, &e->remote, 4);
    }
    c->last_ns = e->last_ns;
    c->expires_ns = e->last_ns > UINT64_MAX - timeout ? UINT64_MAX : e->last_ns + timeout;
    c->zone = e->zone_protocol >> 8;
    c->rule = e->rule;
    c->local_port = e->local_port;
    c->remote_port = e->remote_port;
    c->protocol = protocol;
    c->origin = e->flags & DP_ENTRY_INBOUND ? DP_INBOUND : DP_OUTBOUND;
    c->state = e->state;
    c->disconnected = (e->flags & DP_ENTRY_CUT) != 0;
}

static bool covers(const struct dp_prefix *prefix, const uint8_t *address)
{
    uint32_t bytes = prefix->bits / 8, rest = prefix->bits % 8;

    return memcmp(prefix->address, address, bytes) == 0 &&
           (rest == 0 || (prefix->address[bytes] ^ address[bytes]) >> (8 - rest) == 0);
}

static bool passes(const struct dp_connection_filter *filter, const struct dp_connection *c)
{
    return (filter->zone < 0 || filter->zone == c->zone) && (filter->origin < 0 || filter->origin == c->origin) &&
           (filter->protocol < 0 || filter->protocol == c->protocol) &&
           (filter->disconnected < 0 || filter->disconnected == c->disconnected) &&
           (filter->states == 0 || (filter->states >> c->state & 1)) &&
           (filter->family == 0 || (filter->family == c->family && filter->address.bits <= 128 &&
                                    (covers(&filter->address, c->local) || covers(&filter->address, c->remote))));
}

/* Steps *cursor on to the next live entry that passes; false at the end. */
static bool next_connection(struct dp_engine *e, const struct dp_connection_filter *filter, uint64_t *cursor,
                            struct dp_connection *c)
{
    struct dp_conntrack *ct = &e->conntrack;

    while (*cursor < ct->table.high) {
        uint32_t index = (uint32_t)++*cursor;

        if (dp_conntrack_status(ct, index) == DP_CONN_NONE)
            continue;
        describe(ct, &ct->table.entries[index], c);
        if (passes(filter, c))
            return true;
    }
    return false;
}

int dp_engine_connections(struct dp_engine *e, const struct dp_connection_filter *filter, uint64_t *cursor,
                          struct dp_connection *connections, uint32_t n)
{
    uint32_t have = 0;

    while (have < n && next_connection(e, filter, cursor, &connections[have]))
        have++;
    return (int)have;
}

uint64_t dp_engine_count(struct dp_engine *e, const struct dp_connection_filter *filter, uint64_t *by_state)
{
    struct dp_connection c;
    uint64_t cursor = 0, count = 0;

    if (by_state)
        memset(by_state, 0, DP_CONN_STATES * sizeof *by_state);
    while (next_connection(e, filter, &cursor, &c)) {
        count++;
        if (by_state)
            by_state[c.state]++;
    }
    return count;
}

uint64_t dp_engine_flush(struct dp_engine *e, const struct dp_connection_filter *filter)
{
    struct dp_connection c;
    uint64_t cursor = 0, count = 0;

    while (next_connection(e, filter, &cursor, &c)) {
        dp_conntrack_remove(&e->conntrack, (uint32_t)cursor);
        count++;
    }
    return count;
}
