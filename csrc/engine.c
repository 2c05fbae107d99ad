/*
 * engine.c: an engine made, a policy put in force, counters read. What packets meet is in pipeline.c.
 *
 * AN UPDATE takes all the memory that it needs first, in two steps: the policy is built (dp_policy_new), and the engine
 * makes room for it (dp_engine_reserve). After that nothing in it can fail (dp_engine_swap), so it happens whole or not
 * at all, in all shards (plane.h). In the last step: time is set, the dead are taken out (so that the counts of
 * disconnected connections are exact), the change is numbered, zones come and go, cuts are written, and the policy
 * pointer is swapped, with which what the change did to remote groups holds (remote_change.h).
 */
#include "engine.h"

#include "conntrack_changes.h"
#include "memory.h"

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
    case DP_E_LIMIT:
        return "limit exceeded";
    default:
        return "unknown error";
    }
}

struct dp_policy *dp_policy_reference(struct dp_policy *policy)
{
    policy->references++;
    return policy;
}

void dp_policy_release(struct dp_policy *policy)
{
    if (!policy || --policy->references)
        return;
    dp_endpoints_free(policy->endpoints);
    free(policy->remotes);
    for (uint32_t z = 0; z < policy->n_zones; z++)
        for (int d = 0; d < 2; d++)
            for (int f = 0; f < 2; f++)
                dp_rule_table_free(policy->table[z][d][f]);
    free(policy);
}

static const struct dp_rule_table *table_of(const struct dp_policy *policy, const struct dp_entry *e,
                                            enum dp_direction direction)
{
    uint32_t zone = e->zone_protocol >> 8;

    return zone < policy->n_zones ? policy->table[zone][direction][(e->flags & DP_ENTRY_IPV6) != 0] : NULL;
}

uint32_t dp_policy_ask(const struct dp_policy *policy, const struct dp_flow_table *flows, const struct dp_entry *e,
                       enum dp_verdict *verdict)
{
    const struct dp_rule_table *table = table_of(policy, e, e->flags & DP_ENTRY_INBOUND ? DP_INGRESS : DP_EGRESS);
    union dp_address remote = dp_entry_remote(flows, e);
    uint32_t found = DP_NO_MATCH;

    if (table)
        found = dp_rule_table_find(table, remote.byte, dp_entry_selector(e));
    *verdict = found == DP_NO_MATCH ? DP_DENY : (enum dp_verdict)table->rule_action[found];
    return found == DP_NO_MATCH ? 0 : table->rule_number[found];
}

bool dp_policy_cuts(const struct dp_policy *policy, const struct dp_flow_table *flows, const struct dp_entry *entry)
{
    return dp_remote_change_cuts(policy->remotes, table_of(policy, entry, DP_INGRESS), flows, entry);
}

/* For conntrack.c, which knows no rules. */
static bool is_cut(void *owner, const struct dp_entry *entry)
{
    const struct dp_engine *e = owner;

    return dp_policy_cuts(e->policy, &e->conntrack.table, entry);
}

/* A fragment that waited has its answer. */
static void answered(void *owner, uint64_t number, const struct dp_packet *packet, const struct dp_record *record)
{
    struct dp_engine *engine = owner;
    uint32_t at;

    if (number & DP_FRAGMENT_OF_COPY) {
        dp_engine_count_checks(engine, engine->denied, packet, record);
        return;
    }
    at = (engine->first_resolved + engine->n_resolved++) % DP_RESOLVED_MAX;
    engine->resolved[at] = (struct dp_resolution){number, *record};
    dp_engine_count(engine, engine->denied, packet, record);
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
    e->first = e;
    e->conntrack.is_cut = is_cut;
    e->conntrack.cutter = e;
    e->policy = calloc(1, sizeof *e->policy);
    e->denied = dp_denied_new();
    e->owners = dp_owners_new();
    e->fragments = dp_fragments_new(answered, e, &e->conntrack.table.secret);
    e->resolved = dp_reserve(DP_RESOLVED_MAX * sizeof *e->resolved);
    if (!e->policy || !e->denied || !e->owners || !e->fragments || !e->resolved) {
        dp_engine_free(e);
        return DP_E_MEMORY;
    }
    e->policy->references = 1;
    *engine = e;
    return 0;
}

void dp_engine_free(struct dp_engine *e)
{
    if (!e)
        return;
    dp_policy_release(e->policy);
    dp_conntrack_release(&e->conntrack);
    dp_denied_free(e->denied);
    dp_owners_free(e->owners);
    dp_fragments_free(e->fragments);
    dp_unreserve(e->resolved, DP_RESOLVED_MAX * sizeof *e->resolved);
    free(e->rule_counters);
    free(e);
}

/* ---- update ---- */

static int reserve_rule_counters(struct dp_engine *e, const struct dp_policy_update *update)
{
    uint32_t n = e->n_rule_counters;
    struct dp_rule_counter *counters;

    for (uint32_t z = 0; z < update->n_zones; z++)
        for (int i = 0; i < 4; i++) {
            const struct dp_rule_table *table = update->zones[z].table[i / 2][i % 2];

            if (table && table->largest_rule >= n)
                n = table->largest_rule + 1;
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

int dp_policy_new(const struct dp_policy_update *update, struct dp_policy **policy)
{
    struct dp_policy *p;
    uint32_t n_zones;
    int error = check_update(update, &n_zones);

    *policy = NULL;
    if (error < 0)
        return error;
    p = calloc(1, sizeof *p + (size_t)n_zones * sizeof p->table[0]);
    if (!p)
        return DP_E_MEMORY;
    p->remotes = dp_remote_change_new(update);
    if (!p->remotes) {
        free(p);
        return DP_E_MEMORY;
    }
    p->references = 1;
    p->n_zones = n_zones;
    p->endpoints = update->endpoints;
    p->balancers = dp_endpoints_has_balancers(p->endpoints);
    dp_endpoints_reference(p->endpoints);
    for (uint32_t i = 0; i < update->n_zones; i++)
        for (int d = 0; d < 2; d++)
            for (int f = 0; f < 2; f++) {
                struct dp_rule_table *table = (struct dp_rule_table *)update->zones[i].table[d][f];

                dp_rule_table_reference(table);
                p->table[update->zones[i].zone][d][f] = table;
            }
    *policy = p;
    return 0;
}

int dp_engine_reserve(struct dp_engine *e, const struct dp_policy_update *update, const struct dp_policy *policy)
{
    struct dp_conntrack *ct = &e->conntrack;
    int error;

    dp_conntrack_advance(ct, update->time_ns);
    error = dp_conntrack_reserve_entries(ct, update->config->max_entries);
    if (error < 0)
        return error;
    if (reserve_rule_counters(e, update) < 0 || dp_conntrack_reserve_zones(ct, policy->n_zones) < 0)
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
    for (uint32_t i = 0; i < update->n_zones; i++) {
        struct dp_zone *zone = &ct->zones[update->zones[i].zone];

        zone->listed = 1;
        zone->dhcp_server = update->zones[i].dhcp_server != 0;
    }
    for (uint32_t z = 0; z < ct->n_zones; z++)
        dp_conntrack_set_present(ct, z, ct->zones[z].listed);
}

struct dp_policy *dp_engine_swap(struct dp_engine *e, struct dp_policy_update *update, struct dp_policy *policy)
{
    struct dp_conntrack *ct = &e->conntrack;
    struct dp_policy *old = e->policy;

    dp_conntrack_advance(ct, update->time_ns);
    dp_conntrack_configure(ct, update->config);
    dp_conntrack_reap(ct);
    ct->change++;
    set_zones(e, update);
    for (uint32_t i = 0; i < update->n_cut; i++) {
        uint32_t cut = dp_conntrack_cut(ct, update->cut[i]);

        if (update->disconnected)
            update->disconnected[i] = cut;
    }
    e->policy = policy;
    if (update->n_revocations || update->n_arrivals)
        dp_conntrack_cut_some(ct);
    return old;
}

int dp_engine_note_openers(struct dp_engine *e)
{
    return dp_conntrack_note_openers(&e->conntrack);
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
        e->first_resolved = (e->first_resolved + 1) % DP_RESOLVED_MAX;
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
    counters->connections_resynchronised = ct->resynchronised;
    counters->early_drops = ct->early_drops;
    memcpy(counters->flood, ct->flood, sizeof counters->flood);
    dp_fragments_count(e->fragments, counters);
    counters->entries = ct->table.count;
    counters->max_entries = ct->limit;
    counters->table_bytes =
        dp_flow_table_bytes(&ct->table) +
        (uint64_t)dp_flow_table_touched(&ct->table) *
            (sizeof(struct dp_timer_link) + sizeof(struct dp_zone_link) + (ct->openers ? sizeof *ct->openers : 0));
}

void dp_engine_add_rule_counters(const struct dp_engine *e, struct dp_rule_counter *counters, uint32_t first,
                                 uint32_t end)
{
    for (uint32_t i = first; i < end && i < e->n_rule_counters; i++) {
        counters[i - first].hits += e->rule_counters[i].hits;
        counters[i - first].traffic.packets += e->rule_counters[i].traffic.packets;
        counters[i - first].traffic.bytes += e->rule_counters[i].traffic.bytes;
    }
}
