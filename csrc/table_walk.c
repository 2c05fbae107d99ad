/* table_walk.c: table_walk.h in code: describing, walking, saving, restoring. */
#include "table_walk.h"

#include "admission.h"
#include "prefix.h"

static void addresses_of(const struct dp_conntrack *ct, const struct dp_entry *e, uint8_t *local, uint8_t *remote)
{
    union dp_address there = dp_entry_remote(&ct->table, e);
    union dp_address here = e->flags & DP_ENTRY_WIDE ? ct->table.pairs[e->local].local : (union dp_address){{e->local}};

    memcpy(local, &here, sizeof here);
    memcpy(remote, &there, sizeof there);
}

void dp_connection_of(const struct dp_conntrack *ct, const struct dp_entry *e, struct dp_connection *c)
{
    uint64_t timeout = ct->config.timeout_ns[e->state];

    memset(c, 0, sizeof *c);
    c->family = e->flags & DP_ENTRY_IPV6 ? 6 : 4;
    addresses_of(ct, e, c->local, c->remote);
    c->last_ns = e->last_ns;
    c->expires_ns = e->last_ns > UINT64_MAX - timeout ? UINT64_MAX : e->last_ns + timeout;
    c->zone = e->zone_protocol >> 8;
    c->rule = e->rule;
    c->local_port = e->local_port;
    c->remote_port = e->remote_port;
    c->protocol = (uint8_t)e->zone_protocol;
    c->origin = e->flags & DP_ENTRY_INBOUND ? DP_INBOUND : DP_OUTBOUND;
    c->state = e->state;
    c->disconnected = (e->flags & DP_ENTRY_CUT) != 0;
}

/* Whether the filter takes the address; a prefix that no address has takes none. */
static bool takes(const struct dp_prefix *prefix, const uint8_t *address)
{
    return prefix->bits <= 128 && dp_prefix_covers(prefix, address);
}

static bool passes(const struct dp_connection_filter *filter, const struct dp_connection *c)
{
    return (filter->zone < 0 || filter->zone == c->zone) && (filter->origin < 0 || filter->origin == c->origin) &&
           (filter->protocol < 0 || filter->protocol == c->protocol) &&
           (filter->disconnected < 0 || filter->disconnected == c->disconnected) &&
           (filter->states == 0 || (filter->states >> c->state & 1)) &&
           (filter->local_port == 0 || filter->local_port == c->local_port) &&
           (filter->remote_port == 0 || filter->remote_port == c->remote_port) &&
           (filter->family == 0 ||
            (filter->family == c->family && takes(&filter->local, c->local) && takes(&filter->remote, c->remote) &&
             (takes(&filter->address, c->local) || takes(&filter->address, c->remote))));
}

/* ---- walking ---- */

/* Steps *cursor on to the next live entry, looking at no more than *visits; 0 where these or the entries end. */
static uint32_t next_entry(struct dp_conntrack *ct, uint64_t *cursor, uint64_t *visits)
{
    while (*cursor < ct->table.high && *visits) {
        uint32_t index = (uint32_t)++*cursor;

        --*visits;
        if (dp_conntrack_status(ct, index) != DP_CONN_NONE)
            return index;
    }
    if (*cursor >= ct->table.high)
        *cursor = DP_CURSOR_END;
    return 0;
}

/* The next entry that passes. */
static uint32_t next_connection(struct dp_engine *e, const struct dp_connection_filter *filter, uint64_t *cursor,
                                uint64_t *visits, struct dp_connection *c)
{
    uint32_t index;

    while ((index = next_entry(&e->conntrack, cursor, visits)) != 0) {
        /* A walk that looks for what has changed passes by most entries. */
        if (e->conntrack.table.entries[index].last_ns < filter->since_ns)
            continue;
        dp_connection_of(&e->conntrack, &e->conntrack.table.entries[index], c);
        if (passes(filter, c))
            return index;
    }
    return 0;
}

uint32_t dp_connections_some(struct dp_engine *e, const struct dp_connection_filter *filter, uint64_t *cursor,
                             uint64_t visits, struct dp_connection *connections, uint32_t n)
{
    uint32_t have = 0;

    while (have < n && next_connection(e, filter, cursor, &visits, &connections[have]))
        have++;
    return have;
}

uint64_t dp_connections_count_some(struct dp_engine *e, const struct dp_connection_filter *filter, uint64_t *cursor,
                                   uint64_t visits, uint64_t *by_state)
{
    struct dp_connection c;
    uint64_t count = 0;

    while (next_connection(e, filter, cursor, &visits, &c)) {
        count++;
        if (by_state)
            by_state[c.state]++;
    }
    return count;
}

uint64_t dp_connections_flush_some(struct dp_engine *e, const struct dp_connection_filter *filter, uint64_t *cursor,
                                   uint64_t visits, uint32_t removals)
{
    uint32_t most = removals < DP_FLUSHED_AT_ONCE ? removals : DP_FLUSHED_AT_ONCE;
    uint32_t found[DP_FLUSHED_AT_ONCE], n = 0;
    struct dp_connection c;

    while (n < most && (found[n] = next_connection(e, filter, cursor, &visits, &c)) != 0)
        n++;
    dp_conntrack_remove_many(&e->conntrack, found, n);
    return n;
}

void dp_connections_settle_some(struct dp_engine *e, uint64_t *cursor, uint64_t visits)
{
    while (next_entry(&e->conntrack, cursor, &visits))
        ;
}

/* ---- what an update would do ---- */

uint64_t dp_connections_attached(struct dp_engine *e, uint32_t zone)
{
    return zone < e->conntrack.n_zones ? e->conntrack.zones[zone].attached : 0;
}

/* What becomes of an entry that is not disconnected yet. */
static enum dp_fate fate_of(const struct dp_engine *e, const struct dp_policy *policy, const uint8_t *zones,
                            const struct dp_entry *entry)
{
    uint32_t zone = entry->zone_protocol >> 8;
    enum dp_fate fate = zone < policy->n_zones ? (enum dp_fate)zones[zone] : DP_FATE_GONE;

    if (fate == DP_FATE_GONE)
        return fate;
    if (!(entry->flags & DP_ENTRY_INBOUND))
        return DP_FATE_STAYS;
    return dp_policy_cuts(policy, &e->conntrack.table, entry) ? DP_FATE_DISCONNECTED : fate;
}

uint64_t dp_connections_revocable_some(struct dp_engine *e, const struct dp_policy *policy, const uint8_t *zones,
                                       uint64_t *cursor, uint64_t visits)
{
    uint64_t count = 0;
    uint32_t index;

    while ((index = next_entry(&e->conntrack, cursor, &visits)) != 0) {
        const struct dp_entry *entry = &e->conntrack.table.entries[index];
        uint32_t zone = entry->zone_protocol >> 8;

        count += !(entry->flags & DP_ENTRY_CUT) && zone < policy->n_zones && zones[zone] == DP_FATE_STAYS &&
                 fate_of(e, policy, zones, entry) == DP_FATE_DISCONNECTED;
    }
    return count;
}

/* What the rules in force would deny already, were it new, is not judged otherwise. */
static bool is_denied_now(const struct dp_engine *e, const struct dp_entry *entry)
{
    enum dp_verdict verdict;

    dp_policy_ask(e->policy, &e->conntrack.table, entry, &verdict);
    return verdict == DP_DENY;
}

uint32_t dp_connections_reconsider_some(struct dp_engine *e, const struct dp_policy *policy, const uint8_t *zones,
                                        uint64_t *cursor, uint64_t visits, struct dp_reconsidered *out, uint32_t n)
{
    uint32_t have = 0, index;

    while (have < n && (index = next_entry(&e->conntrack, cursor, &visits)) != 0) {
        const struct dp_entry *entry = &e->conntrack.table.entries[index];
        struct dp_reconsidered *r = &out[have];
        enum dp_verdict verdict;

        if (entry->flags & DP_ENTRY_CUT)
            continue;
        memset(r, 0, sizeof *r);
        dp_connection_of(&e->conntrack, entry, &r->connection);
        r->fate = (uint8_t)fate_of(e, policy, zones, entry);
        r->rule = dp_policy_ask(policy, &e->conntrack.table, entry, &verdict);
        r->verdict = (uint8_t)verdict;
        have += r->fate != DP_FATE_STAYS || (verdict == DP_DENY && !is_denied_now(e, entry));
    }
    return have;
}

/* ---- saving and restoring ---- */

uint32_t dp_connections_save_some(struct dp_engine *engine, const struct dp_connection_filter *filter, uint64_t *cursor,
                                  uint64_t visits, struct dp_saved_connection *saved, uint32_t n)
{
    struct dp_conntrack *ct = &engine->conntrack;
    struct dp_connection c;
    uint32_t have = 0, index;

    while (have < n && (index = filter ? next_connection(engine, filter, cursor, &visits, &c)
                                       : next_entry(ct, cursor, &visits)) != 0) {
        const struct dp_entry *e = &ct->table.entries[index];
        struct dp_saved_connection *s = &saved[have++];

        *s = (struct dp_saved_connection){
            .age_ns = ct->now - e->last_ns,
            .zone = e->zone_protocol >> 8,
            .rule = e->rule,
            .local_port = e->local_port,
            .remote_port = e->remote_port,
            .family = e->flags & DP_ENTRY_IPV6 ? 6 : 4,
            .protocol = (uint8_t)e->zone_protocol,
            .origin = e->flags & DP_ENTRY_INBOUND ? DP_INBOUND : DP_OUTBOUND,
            .state = e->state,
            .disconnected = (e->flags & DP_ENTRY_CUT) != 0,
            .vlans = e->flags & DP_ENTRY_WIDE ? e->remote & ~DP_KEY_IPV4 : 0,
        };
        addresses_of(ct, e, s->local, s->remote);
        memcpy(s->tcp_scale_flags, e->tcp_scale_flags, sizeof s->tcp_scale_flags);
        memcpy(s->tcp_max_window, e->tcp_max_window, sizeof s->tcp_max_window);
        memcpy(s->tcp_end, e->tcp_end, sizeof s->tcp_end);
        memcpy(s->tcp_max_end, e->tcp_max_end, sizeof s->tcp_max_end);
        memcpy(s->tcp_max_ack, e->tcp_max_ack, sizeof s->tcp_max_ack);
    }
    return have;
}

/* A state that an entry of this protocol can be in. */
static bool state_fits(const struct dp_saved_connection *s)
{
    bool icmp = s->protocol == (s->family == 4 ? DP_PROTO_ICMP : DP_PROTO_ICMPV6);

    if (s->protocol == DP_PROTO_TCP)
        return s->state >= DP_CONN_TCP_SYN_SENT && s->state <= DP_CONN_TCP_CLOSE;
    if (icmp)
        return s->state == DP_CONN_ICMP_ONE_WAY || s->state == DP_CONN_ICMP_TWO_WAY;
    return s->state == DP_CONN_OTHER_ONE_WAY || s->state == DP_CONN_OTHER_TWO_WAY;
}

static uint32_t find(struct dp_conntrack *ct, const struct dp_saved_connection *s, struct dp_flow_key *key,
                     uint32_t *hash)
{
    uint32_t index;

    *key = (struct dp_flow_key){.local_port = s->local_port,
                                .remote_port = s->remote_port,
                                .zone_protocol = s->zone << 8 | s->protocol,
                                .family = s->family};
    memcpy(&key->local, s->local, s->family == 4 ? 4 : 16);
    memcpy(&key->remote, s->remote, s->family == 4 ? 4 : 16);
    if (s->vlans)
        dp_flow_key_tag(key, s->vlans);
    *hash = dp_flow_hash(&ct->table.secret, key);
    return dp_conntrack_find(ct, key, *hash, &index) == DP_CONN_NONE ? 0 : index;
}

/* What the state and the window of an entry are, and when its last packet was. */
static void put_back(struct dp_conntrack *ct, uint32_t index, const struct dp_saved_connection *s, uint64_t age)
{
    struct dp_entry *e = &ct->table.entries[index];

    memcpy(e->tcp_scale_flags, s->tcp_scale_flags, sizeof e->tcp_scale_flags);
    memcpy(e->tcp_max_window, s->tcp_max_window, sizeof e->tcp_max_window);
    memcpy(e->tcp_end, s->tcp_end, sizeof e->tcp_end);
    memcpy(e->tcp_max_end, s->tcp_max_end, sizeof e->tcp_max_end);
    memcpy(e->tcp_max_ack, s->tcp_max_ack, sizeof e->tcp_max_ack);
    dp_conntrack_age(ct, index, age, s->disconnected && !(e->flags & DP_ENTRY_CUT));
}

/* An entry with the key and the origin of `s` goes on as that was. */
static void update(struct dp_conntrack *ct, uint32_t index, const struct dp_saved_connection *s, uint64_t age)
{
    struct dp_entry *e = &ct->table.entries[index];

    if ((e->flags & DP_ENTRY_CUT) && !s->disconnected)
        dp_conntrack_reattach(ct, index, s->rule);
    e->rule = s->rule;
    dp_conntrack_keep(ct, index, s->state);
    put_back(ct, index, s, age);
}

enum dp_restored dp_connections_restore(struct dp_engine *engine, const struct dp_saved_connection *s,
                                        uint64_t passed_ns, int how)
{
    struct dp_conntrack *ct = &engine->conntrack;
    uint64_t age = s->age_ns > UINT64_MAX - passed_ns ? UINT64_MAX : s->age_ns + passed_ns;
    bool cut_now = s->disconnected >= DP_CUT_NOW && s->origin == DP_INBOUND;
    bool is_update = how == DP_RESTORE_NEWER || how == DP_RESTORE_NEWER_UNLESS_CUT;
    struct dp_flow_key key;
    uint32_t hash, index;

    if (s->zone >= ct->n_zones || !ct->zones[s->zone].present)
        return DP_RESTORED_NO_INSTANCE;
    if ((s->family != 4 && s->family != 6) || (s->origin != DP_INBOUND && s->origin != DP_OUTBOUND) || !state_fits(s))
        return DP_RESTORED_NOT_VALID;
    if (age >= ct->config.timeout_ns[s->state])
        return DP_RESTORED_EXPIRED;
    if (age > ct->now)
        return DP_RESTORED_NOT_VALID;
    index = find(ct, s, &key, &hash);
    if (index) {
        const struct dp_entry *e = &ct->table.entries[index];

        if (how == DP_RESTORE_MISSING || (is_update && ct->now - e->last_ns + DP_SAME_TIME_NS < age))
            return DP_RESTORED_THERE;
        if (how == DP_RESTORE_NEWER_UNLESS_CUT && (e->flags & DP_ENTRY_CUT) && !s->disconnected)
            return DP_RESTORED_THERE;
        if (is_update && (e->flags & DP_ENTRY_INBOUND) == (s->origin == DP_INBOUND ? DP_ENTRY_INBOUND : 0)) {
            update(ct, index, s, age);
            return DP_RESTORED_UPDATED;
        }
        dp_conntrack_remove(ct, index);
    }
    index = dp_conntrack_admit(ct, &key, hash, (enum dp_origin)s->origin, s->state, s->rule);
    if (!index)
        return DP_RESTORED_FULL;
    /* As if a frame had opened it, so that no other connection is taken for it. */
    if (ct->openers)
        ct->openers[index] = ++engine->frames;
    put_back(ct, index, s, cut_now ? 0 : age);
    return cut_now ? DP_RESTORED_CUT : DP_RESTORED_TAKEN;
}

bool dp_connections_forget(struct dp_engine *engine, const struct dp_saved_connection *s)
{
    struct dp_flow_key key;
    uint32_t hash, index = 0;

    if (s->family == 4 || s->family == 6)
        index = find(&engine->conntrack, s, &key, &hash);
    if (index)
        dp_conntrack_remove(&engine->conntrack, index);
    return index != 0;
}
