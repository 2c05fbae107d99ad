/*
 * engine.c: an engine made, a policy put in force, counters read. What packets meet is in pipeline.c.
 *
 * AN UPDATE takes all the memory that it needs first, in two steps: the policy is built (dp_policy_new), and the engine
 * makes room for it (dp_engine_reserve). After that nothing in it can fail (dp_engine_swap), so it happens whole or not
 * at all, in all shards (plane.h). In the last step: time is set, the dead are taken out (so that the counts of
 * disconnected connections are exact), the change is numbered, zones come and go, and the policy pointer is swapped,
 * with which hold what the change cuts (conntrack_changes.h) and what it did to remote groups (remote_change.h).
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

/* From a zone on, how many have the same table: instances of a group mostly stand together. */
static uint32_t zones_alike(const struct dp_policy *policy, uint32_t zone, int i)
{
    uint32_t n = 1;

    while (n < policy->n_zones - zone && policy->table[zone + n][i / 2][i % 2] == policy->table[zone][i / 2][i % 2])
        n++;
    return n;
}

void dp_policy_release(struct dp_policy *policy)
{
    if (!policy || --policy->references)
        return;
    dp_endpoints_free(policy->endpoints);
    free(policy->remotes);
    free(policy->zones);
    free(policy->cut);
    for (int i = 0; i < 4; i++)
        for (uint32_t z = 0, n; z < policy->n_zones; z += n) {
            struct dp_rule_table *table = policy->table[z][i / 2][i % 2];

            n = zones_alike(policy, z, i);
            if (table && n > 1)
                table->references -= n - 1;
            dp_rule_table_free(table);
        }
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
    *verdict = found == DP_NO_MATCH ? DP_DENY : dp_rule_table_action(table, found);
    return found == DP_NO_MATCH ? 0 : dp_rule_table_number(table, found);
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
    struct dp_denied_flows *denied = engine->denied_waiting ? engine->denied_waiting : engine->denied;
    uint32_t at;

    if (number & DP_FRAGMENT_OF_COPY) {
        dp_engine_count_checks(engine, denied, packet, record);
        return;
    }
    at = (engine->first_resolved + engine->n_resolved++) % DP_RESOLVED_MAX;
    engine->resolved[at] = (struct dp_resolution){number, *record};
    dp_engine_count(engine, denied, packet, record);
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
    e->cache = dp_flow_cache_new();
    e->owners = dp_owners_new();
    e->fragments = dp_fragments_new(answered, e, &e->conntrack.table.secret);
    e->resolved = dp_reserve(DP_RESOLVED_MAX * sizeof *e->resolved);
    if (!e->policy || !e->denied || !e->cache || !e->owners || !e->fragments || !e->resolved) {
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
    dp_denied_free(e->denied_waiting);
    dp_flow_cache_free(e->cache);
    dp_owners_free(e->owners);
    dp_fragments_free(e->fragments);
    dp_unreserve(e->resolved, DP_RESOLVED_MAX * sizeof *e->resolved);
    free(e->rule_counters);
    free(e);
}

int dp_engine_populate(struct dp_engine *e, uint32_t most)
{
    dp_denied_populate(e->denied);
    return dp_conntrack_populate(&e->conntrack, most);
}

/* ---- update ---- */

static int reserve_rule_counters(struct dp_engine *e, uint32_t largest)
{
    uint32_t n = largest + 1;
    struct dp_rule_counter *counters;

    if (n <= e->n_rule_counters)
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
    p->zones = calloc((size_t)n_zones + 1, 1);
    p->cut = update->n_cut ? calloc((size_t)n_zones + 1, 1) : NULL;
    if (!p->remotes || !p->zones || (update->n_cut && !p->cut)) {
        free(p->remotes);
        free(p->zones);
        free(p->cut);
        free(p);
        return DP_E_MEMORY;
    }
    p->references = 1;
    p->n_zones = n_zones;
    p->endpoints = update->endpoints;
    p->balancers = dp_endpoints_has_balancers(p->endpoints);
    dp_endpoints_reference(p->endpoints);
    for (uint32_t i = 0; i < update->n_zones; i++) {
        const struct dp_zone_tables *zone = &update->zones[i];

        p->zones[zone->zone] = DP_ZONE_LISTED | (zone->dhcp_server ? DP_ZONE_DHCP_SERVER : 0);
        memcpy(p->table[zone->zone], zone->table, sizeof zone->table);
    }
    for (uint32_t i = 0; i < update->n_cut; i++)
        p->cut[update->cut[i]] = 1;
    for (int i = 0; i < 4; i++)
        for (uint32_t z = 0, n; z < n_zones; z += n) {
            struct dp_rule_table *table = p->table[z][i / 2][i % 2];

            n = zones_alike(p, z, i);
            if (!table)
                continue;
            table->references += n;
            if (table->largest_rule > p->largest_rule)
                p->largest_rule = table->largest_rule;
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
    if (reserve_rule_counters(e, policy->largest_rule) < 0 || dp_conntrack_reserve_zones(ct, policy->n_zones) < 0)
        return DP_E_MEMORY;
    return 0;
}

/* Those that are others than under the policy before: most changes leave all as they are. */
static void set_zones(struct dp_conntrack *ct, const struct dp_policy *old, const struct dp_policy *policy)
{
    if (old->n_zones == policy->n_zones && memcmp(old->zones, policy->zones, policy->n_zones) == 0)
        return;
    for (uint32_t z = 0; z < old->n_zones || z < policy->n_zones; z++) {
        uint8_t was = z < old->n_zones ? old->zones[z] : 0, flags = z < policy->n_zones ? policy->zones[z] : 0;

        if (flags == was)
            continue;
        ct->zones[z].dhcp_server = (flags & DP_ZONE_DHCP_SERVER) != 0;
        dp_conntrack_set_present(ct, z, flags & DP_ZONE_LISTED);
    }
}

struct dp_policy *dp_engine_swap(struct dp_engine *e, struct dp_policy_update *update, struct dp_policy *policy)
{
    struct dp_conntrack *ct = &e->conntrack;
    struct dp_policy *old = e->policy;

    dp_conntrack_advance(ct, update->time_ns);
    dp_conntrack_configure(ct, update->config);
    dp_conntrack_reap(ct);
    ct->change++;
    set_zones(ct, old, policy);
    dp_conntrack_cut(ct, policy->cut, policy->n_zones);
    if (policy->endpoints != old->endpoints)
        dp_flow_cache_clear(e->cache);
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
    if (!e->conntrack.pace)
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
            (sizeof(struct dp_timer_link) + sizeof(struct dp_queue_link) + (ct->openers ? sizeof *ct->openers : 0));
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
