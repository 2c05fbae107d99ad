/* fast_first.c: fast_first.h in code. */
#include "fast_first.h"

#include "bytes.h"

/* Of fewer, and small tables, it is cheaper to ask when they are judged. */
enum { ASKED_LEAST = 4, ASKED_BYTES_LEAST = 64 << 10 };
/* Tables that are asked about one burst: looking who belongs to which is no longer worth it then. */
enum { TABLES_MOST = 4 };
_Static_assert((int)DP_BURST <= (int)DP_LOOKUPS_MAX, "a burst is asked about at once");

/* ---- asking ---- */

static const struct dp_rule_table *rules_at(const struct dp_engine *engine, const struct dp_fast *fast)
{
    return dp_rules_at(engine, fast->check[0].zone_protocol >> 8, fast->direction[0], fast->family);
}

/* Of the two addresses right before the transport header the first, if the packet enters. */
static const uint8_t *remote_of(const struct dp_fast *fast)
{
    uint32_t size = fast->family == 4 ? 4 : 16;

    return fast->transport - (fast->direction[0] == DP_INGRESS ? 2 * size : size);
}

/* As dp_packet.selector. */
static uint32_t selector_of(const struct dp_fast *fast)
{
    bool ports = fast->protocol == DP_PROTO_TCP || fast->protocol == DP_PROTO_UDP;

    return (uint32_t)fast->protocol << 16 | dp_get16(fast->transport + (ports ? 2 : 0));
}

/* Those of a set that may begin a connection. */
static uint32_t that_may_begin(const struct dp_fast *fast, uint32_t set)
{
    uint32_t may = 0;

    for (uint32_t rest = set; rest; rest &= rest - 1) {
        uint32_t k = (uint32_t)__builtin_ctz(rest);
        bool begins = fast[k].protocol != DP_PROTO_TCP || fast[k].transport[13] & DP_TCP_FLAG_SYN;

        may |= (uint32_t)(fast[k].checks == 1 && begins) << k;
    }
    return may;
}

/* Asks a table about those of a set that it decides about; returns what is left. */
static uint32_t ask(const struct dp_engine *engine, const struct dp_rule_table *table, struct dp_fast *fast,
                    uint32_t set)
{
    const uint8_t *remote[DP_BURST];
    uint32_t selector[DP_BURST], found[DP_BURST], which[DP_BURST], n = 0, left = 0;

    for (uint32_t rest = set; rest; rest &= rest - 1) {
        uint32_t k = (uint32_t)__builtin_ctz(rest);

        if (rules_at(engine, &fast[k]) != table) {
            left |= 1u << k;
            continue;
        }
        which[n] = k;
        remote[n] = remote_of(&fast[k]);
        selector[n++] = selector_of(&fast[k]);
    }
    if (n < ASKED_LEAST)
        return left;
    dp_rule_table_find_many(table, remote, selector, n, found);
    for (uint32_t i = 0; i < n; i++) {
        fast[which[i]].asked = true;
        fast[which[i]].rule = found[i];
    }
    return left;
}

static bool is_large(const struct dp_rule_table *table)
{
    return table && dp_rule_table_size(table) >= ASKED_BYTES_LEAST;
}

void dp_fast_ask(const struct dp_engine *engine, struct dp_fast *fast, uint32_t set)
{
    /* Most bursts are of one table, or of tables alike. */
    if (!is_large(rules_at(engine, &fast[__builtin_ctz(set)])))
        return;
    set = that_may_begin(fast, set);
    for (int tables = 0; set && tables < TABLES_MOST; tables++) {
        const struct dp_rule_table *table = rules_at(engine, &fast[__builtin_ctz(set)]);

        set = is_large(table) ? ask(engine, table, fast, set) : set & (set - 1);
    }
}

/* ---- judging ---- */

/* Whether there is no connection for the one check. */
static bool is_unknown(struct dp_conntrack *ct, const struct dp_fast *fast, const struct dp_flow_key *key)
{
    const struct dp_fast_check *check = &fast->check[0];
    const struct dp_vacancy vacancy = {fast->rearranged, check->hash, check->end};
    uint32_t entry;

    return (!check->entry && dp_flow_table_is_vacant(&ct->table, &vacancy)) ||
           dp_conntrack_find(ct, key, check->hash, &entry) == DP_CONN_NONE;
}

bool dp_fast_judge_first(struct dp_engine *engine, const struct dp_fast *fast, struct dp_denied_flows *denied,
                         struct dp_record *record)
{
    const uint32_t d = fast->direction[0];
    struct dp_job job;

    dp_fast_packet_of(fast, &job.packet);
    job.zone[d] = fast->check[0].zone_protocol >> 8;
    job.hash[d] = fast->check[0].hash;
    dp_flow_key_of(&job.packet, job.zone[d], d, &job.key[d]);
    if (!is_unknown(&engine->conntrack, fast, &job.key[d]))
        return false;
    record->check[0] = (struct dp_check){.zone = job.zone[d], .direction = (uint8_t)d};
    dp_judge_new(engine, &job, d, 0, fast->asked ? &fast->rule : NULL, &record->check[0]);
    record->verdict = record->check[0].verdict;
    record->checks = 1;
    dp_engine_count(engine, denied, &job.packet, record);
    return true;
}
