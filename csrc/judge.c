/*
 * judge.c: checks that are not of a live connection's packets, the rarer ones: an ICMP error about a connection (SPEC
 * 4.5), a first packet, which the rules decide about (SPEC 3) and which gets an entry when they allow (SPEC 4.1), and a
 * packet of a disconnected connection (SPEC 5.3, 5.7), and a later fragment behind a change.
 */
#include "judge.h"

#include "admission.h"

/* ---- related ---- */

/* The key of the connection that an ICMP error is about; false when it quotes none of its receiver's. */
static bool quoted_key(const struct dp_engine *engine, const struct dp_job *job, uint32_t direction,
                       struct dp_flow_key *key, uint32_t *hash)
{
    struct dp_packet inner;

    if (!dp_packet_parse_quoted(&job->packet, &inner) ||
        memcmp(&inner.source, &job->packet.destination, inner.family == 4 ? 4 : 16) != 0)
        return false;
    /* What an error that enters quotes, has left; and the other way round. */
    dp_flow_key_of(&inner, job->zone[direction], direction == DP_INGRESS ? DP_EGRESS : DP_INGRESS, key);
    *hash = dp_flow_hash(&engine->conntrack.table.secret, key);
    if (job->packet.vlans)
        dp_job_tag(engine, job->packet.vlans, job->zone[direction], key, hash);
    return true;
}

void dp_judge_error(struct dp_engine *engine, const struct dp_job *job, uint32_t direction, struct dp_check *check)
{
    struct dp_conntrack *ct = &engine->conntrack;
    struct dp_flow_key key;
    uint32_t hash, entry;

    if (!quoted_key(engine, job, direction, &key, &hash)) {
        dp_answer_invalid(check, DP_CAUSE_ICMP_UNRELATED);
        return;
    }
    switch (dp_conntrack_find(ct, &key, hash, &entry)) {
    case DP_CONN_LIVE:
        dp_answer(check, DP_ALLOW, DP_STATE_RELATED, DP_REASON_RELATED);
        check->rule = ct->table.entries[entry].rule;
        dp_answer_belongs_to(check, ct, entry);
        break;
    case DP_CONN_DISCONNECTED:
        dp_answer_disconnected(check, ct, entry);
        break;
    default:
        dp_answer_invalid(check, DP_CAUSE_ICMP_UNRELATED);
    }
}

/* ---- rules ---- */

/* Asks the rules, or answers by the position that they found when they were asked before; true when they allow. */
static bool ask_rules(struct dp_engine *engine, const struct dp_packet *p, uint32_t zone, uint32_t direction,
                      const uint32_t *asked, struct dp_check *check)
{
    const struct dp_rule_table *table = dp_rules_at(engine, zone, direction, p->family);
    const union dp_address *remote = direction == DP_INGRESS ? &p->source : &p->destination;
    uint32_t found = asked ? *asked : table ? dp_rule_table_find(table, remote->byte, p->selector) : DP_NO_MATCH;

    if (found == DP_NO_MATCH) {
        dp_answer(check, DP_DENY, DP_STATE_NEW, DP_REASON_NO_RULE_MATCHED);
        return false;
    }
    dp_answer(check, dp_rule_table_action(table, found), DP_STATE_NEW, DP_REASON_RULE);
    check->rule = dp_rule_table_number(table, found);
    return check->verdict == DP_ALLOW;
}

/* The state that a first packet's connection would have; DP_CONN_INVALID with a cause when it can begin none. */
static uint8_t first_state(const struct dp_conntrack *ct, const struct dp_packet *p, enum dp_cause *cause)
{
    uint8_t state;

    if (p->protocol == DP_PROTO_TCP) {
        *cause = DP_CAUSE_TCP_FLAGS;
        if (!dp_tcp_flags_valid(p->tcp.flags))
            return DP_CONN_INVALID;
        *cause = DP_CAUSE_TCP_NO_CONNECTION;
        state = ct->config.tcp_next[DP_CONN_INVALID][DP_INITIATOR][dp_tcp_first_event(p->tcp.flags)];
        return state;
    }
    if (p->icmp_class == DP_ICMP_REQUEST)
        return DP_CONN_ICMP_ONE_WAY;
    if (p->protocol == (p->family == 4 ? DP_PROTO_ICMP : DP_PROTO_ICMPV6)) {
        *cause = p->icmp_class == DP_ICMP_REPLY ? DP_CAUSE_ICMP_UNSOLICITED : DP_CAUSE_ICMP_TYPE;
        return DP_CONN_INVALID;
    }
    return DP_CONN_OTHER_ONE_WAY;
}

void dp_judge_alone(struct dp_engine *engine, const struct dp_job *job, uint32_t direction, struct dp_check *check)
{
    enum dp_cause cause = DP_CAUSE_NONE;

    if (first_state(&engine->conntrack, &job->packet, &cause) == DP_CONN_INVALID)
        dp_answer_invalid(check, cause);
    else
        ask_rules(engine, &job->packet, job->zone[direction], direction, NULL, check);
}

/* The part of a query that the rules see and the key does not have. */
static void keep_code(struct dp_entry *e, const struct dp_packet *p)
{
    if (p->icmp_class == DP_ICMP_REQUEST)
        e->icmp_code = (uint8_t)p->selector;
}

void dp_judge_new(struct dp_engine *engine, const struct dp_job *job, uint32_t direction, uint32_t old,
                  const uint32_t *asked, struct dp_check *check)
{
    struct dp_conntrack *ct = &engine->conntrack;
    enum dp_cause cause = DP_CAUSE_NONE;
    uint8_t state = first_state(ct, &job->packet, &cause);
    enum dp_origin origin = direction == DP_INGRESS ? DP_INBOUND : DP_OUTBOUND;
    uint32_t entry;

    if (state == DP_CONN_INVALID) {
        dp_answer_invalid(check, cause);
        return;
    }
    if (!ask_rules(engine, &job->packet, job->zone[direction], direction, asked, check))
        return;
    if (old) {
        dp_conntrack_remove(ct, old);
        ct->replaced++;
    }
    entry = dp_conntrack_admit(ct, &job->key[direction], job->hash[direction], origin, state, check->rule);
    if (!entry) {
        dp_answer(check, DP_DENY, DP_STATE_NEW, DP_REASON_TABLE_FULL);
        check->rule = 0;
        engine->counters.table_full++;
        return;
    }
    check->origin = (uint8_t)origin;
    if (ct->openers)
        check->opened_by = ct->openers[entry] = engine->frames + 1;
    if (job->packet.protocol == DP_PROTO_TCP)
        dp_tcp_open(&ct->table.entries[entry], &job->packet.tcp);
    else
        keep_code(&ct->table.entries[entry], &job->packet);
}

/* ---- outside the window ---- */

void dp_judge_refused(struct dp_engine *engine, const struct dp_job *job, uint32_t entry, enum dp_side side,
                      enum dp_cause cause, struct dp_check *check)
{
    struct dp_conntrack *ct = &engine->conntrack;
    const struct dp_tcp_segment *segment = &job->packet.tcp;
    enum dp_tcp_outside found = DP_TCP_REFUSED;
    uint8_t next;

    if (cause == DP_CAUSE_TCP_WINDOW)
        found = dp_tcp_outside(&ct->config, &ct->resync, &ct->table, entry, side, segment, &next);
    if (found == DP_TCP_REFUSED) {
        if (cause == DP_CAUSE_TCP_WINDOW)
            dp_tcp_refuse(&ct->resync, &ct->table, entry, side, segment);
        dp_answer_invalid(check, cause);
        return;
    }
    dp_answer(check, DP_ALLOW, DP_STATE_ESTABLISHED, DP_REASON_CONNECTION);
    check->rule = ct->table.entries[entry].rule;
    if (found == DP_TCP_RESYNCED) {
        ct->resynchronised++;
        dp_conntrack_keep(ct, entry, next);
    }
}

void dp_judge_unseen(struct dp_engine *engine, const struct dp_job *job)
{
    struct dp_conntrack *ct = &engine->conntrack;
    struct dp_entry tried;
    enum dp_side side;
    uint32_t entry;
    uint8_t next;

    if (dp_conntrack_find(ct, &job->key[DP_INGRESS], job->hash[DP_INGRESS], &entry) != DP_CONN_LIVE)
        return;
    tried = ct->table.entries[entry];
    side = tried.flags & DP_ENTRY_INBOUND ? DP_INITIATOR : DP_RESPONDER;
    if (dp_judge_step(ct, &tried, job->packet.protocol, &job->packet.tcp, side, &next) == DP_CAUSE_TCP_WINDOW)
        dp_tcp_refuse(&ct->resync, &ct->table, entry, side, &job->packet.tcp);
}

/* ---- disconnected ---- */

/* Whether a packet of the initiator is one that its connection can go on with, and the state that it leads to. */
static bool is_kept(struct dp_conntrack *ct, uint32_t entry, const struct dp_packet *p, uint8_t *next)
{
    struct dp_entry *e = &ct->table.entries[entry];
    enum dp_cause cause = dp_judge_step(ct, e, p->protocol, &p->tcp, DP_INITIATOR, next);

    if (cause != DP_CAUSE_TCP_WINDOW)
        return cause == DP_CAUSE_NONE;
    *next = e->state;
    return dp_tcp_outside(&ct->config, &ct->resync, &ct->table, entry, DP_INITIATOR, &p->tcp, next) != DP_TCP_REFUSED;
}

void dp_judge_disconnected(struct dp_engine *engine, const struct dp_job *job, uint32_t direction, uint32_t entry,
                           struct dp_check *check)
{
    struct dp_conntrack *ct = &engine->conntrack;
    struct dp_entry *e = &ct->table.entries[entry];
    uint8_t next = e->state;

    if (ct->config.reevaluate && direction == DP_INGRESS && dp_judge_reopens(ct, e, &job->packet)) {
        dp_judge_new(engine, job, direction, entry, NULL, check);
        if (check->verdict == DP_ALLOW || check->reason == DP_REASON_TABLE_FULL)
            return;
    } else if (ct->config.reevaluate && direction == DP_INGRESS &&
               ask_rules(engine, &job->packet, job->zone[direction], direction, NULL, check) &&
               is_kept(ct, entry, &job->packet, &next)) {
        dp_conntrack_reattach(ct, entry, check->rule);
        keep_code(e, &job->packet);
        dp_conntrack_keep(ct, entry, next);
        dp_answer(check, DP_ALLOW, DP_STATE_ESTABLISHED, DP_REASON_RULE);
        dp_answer_belongs_to(check, ct, entry);
        return;
    }
    check->rule = 0;
    dp_answer_disconnected(check, ct, entry);
}

/* ---- fragments behind a change ---- */

void dp_judge_keep_first(const struct dp_engine *engine, const struct dp_job *job, const struct dp_record *record,
                         struct dp_fragment_first *first)
{
    for (uint32_t i = 0; i < record->checks; i++) {
        uint32_t d = record->check[i].direction;

        first->key[d] = job->key[d];
        first->hash[d] = job->hash[d];
        if (record->check[i].state == DP_STATE_RELATED)
            quoted_key(engine, job, d, &first->key[d], &first->hash[d]);
    }
}

void dp_judge_later(struct dp_engine *engine, const struct dp_job *job, const struct dp_fragment_first *first,
                    struct dp_check *check)
{
    struct dp_conntrack *ct = &engine->conntrack;
    const uint32_t d = check->direction;
    struct dp_job as_first;
    uint32_t entry;

    if (check->origin != DP_ORIGIN_NONE)
        switch (dp_conntrack_find(ct, &first->key[d], first->hash[d], &entry)) {
        case DP_CONN_LIVE:
            return;
        case DP_CONN_DISCONNECTED:
            *check = (struct dp_check){.zone = check->zone, .direction = check->direction};
            dp_answer_disconnected(check, ct, entry);
            return;
        default:
            break;
        }
    as_first = *job;
    as_first.packet.protocol = first->protocol;
    as_first.packet.icmp_class = first->icmp_class;
    as_first.packet.selector = first->selector;
    as_first.packet.tcp = first->tcp;
    *check = (struct dp_check){.zone = check->zone, .direction = check->direction};
    if (first->icmp_class == DP_ICMP_ERROR)
        dp_answer_invalid(check, DP_CAUSE_ICMP_UNRELATED);
    else
        dp_judge_alone(engine, &as_first, d, check);
}
