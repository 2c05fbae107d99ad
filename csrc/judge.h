/*
 * judge.h: what a check comes to when control traffic and load balancers are out of the way.
 *
 * A JOB is a packet on its way through a burst, as pipeline.c has read it; it lives as long as the burst. The functions
 * fill in a check whose zone and direction are set. What every packet of a connection goes through stands here, to be
 * compiled into its caller; what is for first packets, errors and disconnected connections is in judge.c. Nothing here
 * fails: a table without room is an answer too.
 */
#ifndef DP_JUDGE_H
#define DP_JUDGE_H

#include "engine.h"
#include "tcp.h"

/* A packet on its way through a burst. */
struct dp_job {
    struct dp_packet packet;
    const struct dp_place *place; /* NULL where addresses tell it */
    uint32_t zone[DP_DIRECTIONS]; /* of an address that several hold, what dp_endpoints_find says until it is judged */
    bool tells;                   /* may say which of several has an address */
    uint32_t hash[DP_DIRECTIONS];
    struct dp_flow_key key[DP_DIRECTIONS];
};

/* VLANs belong to the key of a connection where two networks share addresses. */
static inline void dp_job_tag(const struct dp_engine *engine, uint32_t vlans, uint32_t zone, struct dp_flow_key *key,
                              uint32_t *hash)
{
    if (zone == DP_NO_ZONE || !dp_endpoints_overlaps(engine->policy->endpoints, zone))
        return;
    dp_flow_key_tag(key, vlans);
    *hash = dp_flow_hash(&engine->conntrack.table.secret, key);
}

/* ---- answers ---- */

static inline void dp_answer(struct dp_check *check, enum dp_verdict verdict, enum dp_state state,
                             enum dp_reason reason)
{
    check->verdict = (uint8_t)verdict;
    check->state = (uint8_t)state;
    check->reason = (uint8_t)reason;
}

static inline void dp_answer_invalid(struct dp_check *check, enum dp_cause cause)
{
    dp_answer(check, DP_DENY, DP_STATE_INVALID, DP_REASON_INVALID);
    check->cause = (uint8_t)cause;
}

static inline void dp_answer_belongs_to(struct dp_check *check, const struct dp_conntrack *ct, uint32_t entry)
{
    check->origin = ct->table.entries[entry].flags & DP_ENTRY_INBOUND ? DP_INBOUND : DP_OUTBOUND;
    if (ct->openers)
        check->opened_by = ct->openers[entry];
}

static inline void dp_answer_disconnected(struct dp_check *check, const struct dp_conntrack *ct, uint32_t entry)
{
    dp_answer(check, DP_DENY, DP_STATE_DISCONNECTED, DP_REASON_DISCONNECTED);
    dp_answer_belongs_to(check, ct, entry);
}

/* ---- rules ---- */

/* Those that decide about a packet of a family in a zone and direction; NULL for none. */
static inline const struct dp_rule_table *dp_rules_at(const struct dp_engine *engine, uint32_t zone, uint32_t direction,
                                                      uint8_t family)
{
    return zone < engine->policy->n_zones ? engine->policy->table[zone][direction][family == 6] : NULL;
}

/* ---- what is in judge.c ---- */

/* An ICMP error, by the connection that it quotes (SPEC 4.5). */
void dp_judge_error(struct dp_engine *engine, const struct dp_job *job, uint32_t direction, struct dp_check *check);
/* A packet without a connection, or one that begins anew in place of the closed connection `old` (0 for none); `asked`
 * is the position that the rules found when they were asked before, NULL if they were not. */
void dp_judge_new(struct dp_engine *engine, const struct dp_job *job, uint32_t direction, uint32_t old,
                  const uint32_t *asked, struct dp_check *check);
/* A packet of a live connection that is not valid there for this cause, unless it passes outside the window (SPEC 4.4).
 */
void dp_judge_refused(struct dp_engine *engine, const struct dp_job *job, uint32_t entry, enum dp_side side,
                      enum dp_cause cause, struct dp_check *check);
/* A packet that was refused for its place on its way out does not arrive: its receiver's connection notes it all the
 * same, as the one on its way out did. */
void dp_judge_unseen(struct dp_engine *engine, const struct dp_job *job);
/* A packet that the rules decide about and that gets no connection. */
void dp_judge_alone(struct dp_engine *engine, const struct dp_job *job, uint32_t direction, struct dp_check *check);
/* A packet of a disconnected connection (SPEC 5.3); with reevaluate, its initiator's may keep it (SPEC 5.7). */
void dp_judge_disconnected(struct dp_engine *engine, const struct dp_job *job, uint32_t direction, uint32_t entry,
                           struct dp_check *check);
/* Keeps the keys of the connections that the checks of a first fragment belong to. */
void dp_judge_keep_first(const struct dp_engine *engine, const struct dp_job *job, const struct dp_record *record,
                         struct dp_fragment_first *first);
/*
 * A check that allowed a datagram, looked at once more for a later fragment behind a change: it stands while its
 * connection lives. Of a disconnected one the fragment is denied, and keeps nothing (SPEC 5.3); without a connection
 * the rules of now decide about the first fragment's header.
 */
void dp_judge_later(struct dp_engine *engine, const struct dp_job *job, const struct dp_fragment_first *first,
                    struct dp_check *check);

/* ---- connection ---- */

/* The state that a packet of `side` leads to, a segment if it is TCP; a cause when it is not valid. */
static inline enum dp_cause dp_judge_step(struct dp_conntrack *ct, struct dp_entry *e, uint8_t protocol,
                                          const struct dp_tcp_segment *segment, enum dp_side side, uint8_t *next)
{
    *next = e->state;
    if (protocol == DP_PROTO_TCP)
        return dp_tcp_step(&ct->config, e, side, segment, next);
    if (side == DP_RESPONDER && e->state == DP_CONN_OTHER_ONE_WAY)
        *next = DP_CONN_OTHER_TWO_WAY;
    if (side == DP_RESPONDER && e->state == DP_CONN_ICMP_ONE_WAY)
        *next = DP_CONN_ICMP_TWO_WAY;
    return DP_CAUSE_NONE;
}

/* Whether a segment begins a connection anew in place of a closing or closed one (SPEC 4.4). */
static inline bool dp_judge_reopens(const struct dp_conntrack *ct, const struct dp_entry *e, const struct dp_packet *p)
{
    return p->protocol == DP_PROTO_TCP && ct->config.reopens[e->state] && dp_tcp_flags_valid(p->tcp.flags) &&
           dp_tcp_first_event(p->tcp.flags) == DP_TCP_SYN;
}

/*
 * Whether both ends of a packet are one and the same, as of LAND: its way out made the connection that its way in
 * finds, which answers nobody.
 */
static inline bool dp_is_to_itself(const struct dp_flow_key *key, const struct dp_packet *p)
{
    return !p->icmp_query && key->local_port == key->remote_port &&
           memcmp(&p->source, &p->destination, p->family == 4 ? 4 : 16) == 0;
}

/* A packet of a live connection. */
static inline __attribute__((always_inline)) void dp_judge_known(struct dp_engine *engine, const struct dp_job *job,
                                                                 uint32_t direction, uint32_t entry,
                                                                 struct dp_check *check)
{
    struct dp_conntrack *ct = &engine->conntrack;
    struct dp_entry *e = &ct->table.entries[entry];
    bool inbound = e->flags & DP_ENTRY_INBOUND;
    enum dp_side side = (direction == DP_INGRESS) == inbound ? DP_INITIATOR : DP_RESPONDER;
    enum dp_cause cause;
    uint8_t next;

    if (side == DP_RESPONDER && dp_is_to_itself(&job->key[direction], &job->packet)) {
        dp_judge_alone(engine, job, direction, check);
        return;
    }
    if (dp_judge_reopens(ct, e, &job->packet)) {
        dp_judge_new(engine, job, direction, entry, NULL, check);
        return;
    }
    cause = dp_judge_step(ct, e, job->packet.protocol, &job->packet.tcp, side, &next);
    dp_answer_belongs_to(check, ct, entry);
    if (cause) {
        dp_judge_refused(engine, job, entry, side, cause, check);
        return;
    }
    dp_answer(check, DP_ALLOW, DP_STATE_ESTABLISHED, DP_REASON_CONNECTION);
    check->rule = e->rule;
    dp_conntrack_keep(ct, entry, next);
}

#endif
