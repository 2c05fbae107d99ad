/*
 * engine.h: what an engine owns: the policy in force, the connection table, the counters.
 *
 * The POLICY is one immutable value behind one pointer, shared by all shards, with references on its tables and
 * endpoints: an update (plane.h) builds a new one and swaps the pointer between two packets, so that no packet sees
 * half of a change (SPEC 5.1).
 */
#ifndef DP_ENGINE_H
#define DP_ENGINE_H

#include "classifier.h"
#include "conntrack.h"
#include "denied_flows.h"
#include "endpoints.h"
#include "flow_cache.h"
#include "fragment.h"
#include "owners.h"
#include "port_bindings.h"
#include "remote_change.h"

enum dp_zone_flag { DP_ZONE_LISTED = 1, DP_ZONE_DHCP_SERVER = 2 };

struct dp_policy {
    _Atomic uint32_t references;
    struct dp_endpoints *endpoints;
    struct dp_remote_change *remotes; /* by the change that put it in force */
    bool balancers;                   /* there are load balancers to look for */
    uint32_t largest_rule;            /* the largest rule number */
    uint32_t n_zones;
    uint8_t
        *zones; /* by zone: enum dp_zone_flag; `cut` are those that the change which put it in force cuts, or NULL */
    uint8_t *cut;
    struct dp_rule_table *table[][2][2]; /* by zone, direction, family; NULL denies */
};

/* Room for all that waits, and for what gave way to it since the caller has asked. */
enum { DP_RESOLVED_MAX = 5 * DP_WAITING_MAX };

/* A client's question for DHCP that came from no instance's address, as in a replay before it has one. */
struct dp_dhcp_question {
    uint64_t time_ns;
    uint32_t family; /* 0 for none */
    uint32_t id;
};

enum { DP_DHCP_QUESTIONS = 64 };

struct dp_engine {
    struct dp_policy *policy;
    struct dp_conntrack conntrack;
    struct dp_counters counters; /* its check and state are worked out of `answers` when they are asked for */
    struct dp_counter answers[DP_VERDICTS][DP_REASONS][DP_STATES];
    struct dp_rule_counter *rule_counters;
    uint32_t n_rule_counters;
    struct dp_denied_flows *denied;
    struct dp_denied_flows *denied_waiting; /* of those, fragments that waited; NULL where they are counted with all */
    uint64_t frames;                        /* judged so far */
    /* Whose owners and control traffic count: this one, or where several judge one replay, the first of them. */
    struct dp_engine *first;
    bool long_way; /* no packet takes the fast path: for tests, which hold the two against each other */
    struct dp_flow_cache *cache;
    struct dp_owners *owners;
    struct dp_fragments *fragments;
    struct dp_flow_log *flow_log;   /* of a live worker that gathers flows; NULL: nobody does */
    struct dp_resolution *resolved; /* a ring of DP_RESOLVED_MAX: what waits and what is in here never exceeds it */
    struct dp_dhcp_question question[DP_DHCP_QUESTIONS]; /* the oldest gives way */
    uint32_t n_questions;
    uint32_t first_resolved;
    uint32_t n_resolved;
};

/* One frame of a run of which other shards judge others at the same time; `bytes` may be where its bytes are. */
enum { DP_SELECTED_BYTES = 64 };
struct dp_selected {
    struct dp_frame frame;
    uint64_t now_ns; /* the time up to and with it, of the whole run, which never runs backwards */
    uint32_t at;     /* its position in the run */
    uint32_t unused[3];
    uint8_t bytes[DP_SELECTED_BYTES];
};
_Static_assert(sizeof(struct dp_selected) == 128, "a frame that is handed over is two cache lines");

/* Times and numbers of the frames of a burst, which are not their own. */
struct dp_selection {
    const uint64_t *now_ns;
    const uint64_t *number;
};

int dp_engine_new(const struct dp_conntrack_config *config, const uint64_t *seed, struct dp_engine **engine);
void dp_engine_free(struct dp_engine *engine);
/* Takes the memory now that `most` connections and the denied flows come to need; 0 or DP_E_MEMORY. */
int dp_engine_populate(struct dp_engine *engine, uint32_t most);
/* Lets timers come up that are due, as many as may at once. Whether some are left. */
static inline bool dp_engine_catch_up(struct dp_engine *engine)
{
    if (!dp_conntrack_is_behind(&engine->conntrack))
        return false;
    dp_conntrack_run_timers(&engine->conntrack);
    return dp_conntrack_is_behind(&engine->conntrack);
}
void dp_engine_counters(const struct dp_engine *engine, struct dp_counters *counters);
/* Adds those of the rules numbered `first` .. `end` - 1 to counters[0] and on. */
void dp_engine_add_rule_counters(const struct dp_engine *engine, struct dp_rule_counter *counters, uint32_t first,
                                 uint32_t end);

/* One reference more; returns the policy. */
struct dp_policy *dp_policy_reference(struct dp_policy *policy);
/* Gives one back, the last of which frees it. */
void dp_policy_release(struct dp_policy *policy);

/* The steps of dp_plane_update. Builds the policy; no engine is touched. */
int dp_policy_new(const struct dp_policy_update *update, struct dp_policy **policy);
/* Makes room for it in an engine. On an error nothing is in force that was not before. */
int dp_engine_reserve(struct dp_engine *engine, const struct dp_policy_update *update, const struct dp_policy *policy);
/* Puts it in force, which cannot fail, and returns the one before; the caller releases that. Before the next change he
 * has every zone that is cut counted (dp_engine_count_cut), and where there are revocations or arrivals every entry
 * looked at. */
struct dp_policy *dp_engine_swap(struct dp_engine *engine, struct dp_policy_update *update, struct dp_policy *policy);

/* What a policy's rules say about the first packet of an entry's connection: the rule's number, 0 for none, which
 * denies.
 */
uint32_t dp_policy_ask(const struct dp_policy *policy, const struct dp_flow_table *flows, const struct dp_entry *entry,
                       enum dp_verdict *verdict);

/* Whether the change that puts the policy in force cuts an inbound entry because of remote groups (SPEC 5.4). */
bool dp_policy_cuts(const struct dp_policy *policy, const struct dp_flow_table *flows, const struct dp_entry *entry);

static inline void dp_engine_count_denied_check(struct dp_engine *engine, struct dp_denied_flows *denied,
                                                const struct dp_packet *packet, const struct dp_check *check,
                                                uint32_t length)
{
    engine->counters.consequences[check->cause] += dp_denied_count(denied, packet, check, length);
}

/* What a check, and all of a packet, was answered, in the counters. `denied` is where denied flows are counted; NULL
 * where that is done later. */
static inline void dp_engine_count_check(struct dp_engine *engine, struct dp_denied_flows *denied,
                                         const struct dp_packet *packet, const struct dp_check *check, uint32_t length)
{
    struct dp_counters *c = &engine->counters;
    struct dp_counter *answer = &engine->answers[check->verdict][check->reason][check->state];

    answer->packets++;
    answer->bytes += length;
    if (check->cause) {
        c->cause[check->cause].packets++;
        c->cause[check->cause].bytes += length;
    }
    if (check->rule < engine->n_rule_counters && check->rule) {
        struct dp_rule_counter *rule = &engine->rule_counters[check->rule];

        rule->hits += check->reason == DP_REASON_RULE;
        rule->traffic.packets++;
        rule->traffic.bytes += length;
    }
    if (check->verdict == DP_DENY && denied)
        dp_engine_count_denied_check(engine, denied, packet, check, length);
}

static inline void dp_engine_count_checks(struct dp_engine *engine, struct dp_denied_flows *denied,
                                          const struct dp_packet *packet, const struct dp_record *record)
{
    for (uint32_t i = 0; i < record->checks; i++)
        dp_engine_count_check(engine, denied, packet, &record->check[i], record->length);
}

static inline void dp_engine_count(struct dp_engine *engine, struct dp_denied_flows *denied,
                                   const struct dp_packet *packet, const struct dp_record *record)
{
    dp_engine_count_checks(engine, denied, packet, record);
    engine->counters.verdict[record->verdict].packets++;
    engine->counters.verdict[record->verdict].bytes += record->length;
}

#endif
