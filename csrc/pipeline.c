/*
 * pipeline.c: a batch of frames judged, in this order for each packet:
 *
 *   packet      the frame is read (packet.c)
 *   fragment    a later fragment gets its datagram's answer, or waits for it (fragment.c, SPEC 4.6)
 *   endpoints   the source's instance gives an egress check, the destination's an ingress check (SPEC 7); none: bypass
 *   then for each check, egress first, ingress only if egress allows (SPEC 1):
 *   malformed   headers that lie or were cut, or (if asked for) checksums that are wrong: denied
 *   control     ARP, neighbour discovery, MLD, DHCP: passed (SPEC 4.8)
 *   balancer    a load balancer and its backend: passed (SPEC 3.5)
 *   related     an ICMP error about a live connection: passed (SPEC 4.5)
 *   connection  a live connection's packet: passed if it is valid; a disconnected one's: denied (SPEC 4.4, 5.3)
 *   rules       a first packet: the rule tables decide (SPEC 3), and an allowed one gets an entry (SPEC 4.1)
 *   counters
 *
 * BURSTS. Frames are taken BURST at a time: all are read and their keys hashed while the index slots are fetched, then
 * the entries are fetched, then each packet is judged in order. The judging looks everything up anew, so packets of one
 * burst may make, change and remove each other's entries; the fetching is only a hint.
 */
#include "checksum.h"
#include "engine.h"
#include "spoof.h"
#include "tcp.h"

enum { BURST = 32 };

enum { DHCP_SERVER = 67, DHCP_CLIENT = 68, DHCPV6_CLIENT = 546, DHCPV6_SERVER = 547 };

/* A packet on its way through a burst. */
struct job {
    struct dp_packet packet;
    const struct dp_place *place; /* NULL where addresses tell it */
    uint32_t zone[DP_DIRECTIONS];
    uint32_t hash[DP_DIRECTIONS];
    struct dp_flow_key key[DP_DIRECTIONS];
};

/* ---- reading ---- */

/* What the packet's connection is known by in a zone. */
static inline __attribute__((always_inline)) void know(const struct dp_engine *engine, struct job *job, uint32_t zone,
                                                       const uint32_t direction)
{
    const struct dp_packet *p = &job->packet;

    job->zone[direction] = zone;
    if (zone == DP_NO_ZONE || p->kind != DP_PACKET_IP)
        return;
    dp_flow_key_of(p, zone, direction, &job->key[direction]);
    job->hash[direction] = dp_flow_hash(&engine->conntrack.table.secret, &job->key[direction]);
    dp_flow_table_prefetch_slot(&engine->conntrack.table, job->hash[direction]);
}

/* Finds the zone on one side by its address. */
static inline __attribute__((always_inline)) void look_up(struct dp_engine *engine,
                                                          const struct dp_endpoints *endpoints, struct job *job,
                                                          const union dp_address *address, const uint32_t direction)
{
    const struct dp_packet *p = &job->packet;
    uint32_t zone = dp_endpoints_find(endpoints, p->family, address);

    if (dp_is_shared(zone))
        zone = dp_owners_choose(engine->owners, endpoints, zone, p, direction);
    know(engine, job, zone, direction);
}

/* VLANs belong to the key of a connection where two networks share addresses. */
static void tag_key(const struct dp_engine *engine, uint32_t vlans, uint32_t zone, struct dp_flow_key *key,
                    uint32_t *hash)
{
    if (zone == DP_NO_ZONE || !dp_endpoints_overlaps(engine->policy->endpoints, zone))
        return;
    dp_flow_key_tag(key, vlans);
    *hash = dp_flow_hash(&engine->conntrack.table.secret, key);
}

static inline __attribute__((always_inline)) void prepare(struct dp_engine *engine, const struct dp_frame *frame,
                                                          const struct dp_place *place, struct job *job)
{
    const struct dp_endpoints *endpoints = engine->policy->endpoints;
    struct dp_packet *p = &job->packet;

    dp_packet_parse(frame, p);
    job->place = place;
    job->zone[DP_EGRESS] = job->zone[DP_INGRESS] = DP_NO_ZONE;
    if (!endpoints)
        return;
    if (place) {
        know(engine, job, place->zone[DP_EGRESS], DP_EGRESS);
        know(engine, job, place->zone[DP_INGRESS], DP_INGRESS);
    } else if (p->family) {
        if (p->inside && p->icmp_class == DP_ICMP_CONTROL)
            dp_owners_advertised(engine->owners, endpoints, p);
        /* The sender first: what it says of itself may tell who the receiver is. */
        look_up(engine, endpoints, job, &p->source, DP_EGRESS);
        look_up(engine, endpoints, job, &p->destination, DP_INGRESS);
    }
    if (p->vlans && p->kind == DP_PACKET_IP)
        for (uint32_t d = 0; d < DP_DIRECTIONS; d++)
            tag_key(engine, p->vlans, job->zone[d], &job->key[d], &job->hash[d]);
}

/* A wrong checksum makes a packet malformed, where an instance would see it. */
static void verify_checksums(const struct dp_frame *frames, uint32_t n, struct job *jobs)
{
    for (uint32_t k = 0; k < n; k++) {
        struct dp_packet *p = &jobs[k].packet;

        if (p->kind == DP_PACKET_IP &&
            (jobs[k].zone[DP_EGRESS] != DP_NO_ZONE || jobs[k].zone[DP_INGRESS] != DP_NO_ZONE) &&
            !dp_checksum_right(&frames[k], p)) {
            p->kind = DP_PACKET_MALFORMED;
            p->cause = DP_CAUSE_BAD_CHECKSUM;
        }
    }
}

static void fetch(const struct dp_engine *engine, const struct job *job)
{
    if (job->packet.kind != DP_PACKET_IP)
        return;
    for (uint32_t d = 0; d < DP_DIRECTIONS; d++)
        if (job->zone[d] != DP_NO_ZONE)
            dp_flow_table_prefetch_entry(&engine->conntrack.table, job->hash[d]);
}

/* ---- answers ---- */

static void answer(struct dp_check *check, enum dp_verdict verdict, enum dp_state state, enum dp_reason reason)
{
    check->verdict = (uint8_t)verdict;
    check->state = (uint8_t)state;
    check->reason = (uint8_t)reason;
}

static void invalid(struct dp_check *check, enum dp_cause cause)
{
    answer(check, DP_DENY, DP_STATE_INVALID, DP_REASON_INVALID);
    check->cause = (uint8_t)cause;
}

static void belongs_to(struct dp_check *check, const struct dp_entry *e)
{
    check->origin = e->flags & DP_ENTRY_INBOUND ? DP_INBOUND : DP_OUTBOUND;
}

static void disconnected(struct dp_check *check, const struct dp_entry *e)
{
    answer(check, DP_DENY, DP_STATE_DISCONNECTED, DP_REASON_DISCONNECTED);
    belongs_to(check, e);
}

/* ---- control ---- */

static bool is_dhcp(const struct dp_packet *p, uint32_t direction)
{
    uint16_t client = p->family == 4 ? DHCP_CLIENT : DHCPV6_CLIENT;
    uint16_t server = p->family == 4 ? DHCP_SERVER : DHCPV6_SERVER;

    if (p->protocol != DP_PROTO_UDP || p->later_fragment)
        return false;
    return direction == DP_EGRESS ? p->source_port == client && p->destination_port == server
                                  : p->source_port == server && p->destination_port == client;
}

/* True when the packet is control traffic, or pretends to be; the check is answered then. */
static bool control(const struct dp_packet *p, uint32_t direction, struct dp_check *check)
{
    bool pass = p->kind == DP_PACKET_ARP || p->icmp_class == DP_ICMP_CONTROL || is_dhcp(p, direction) ||
                (p->icmp_class == DP_ICMP_CONTROL_FROM_HOST && direction == DP_INGRESS);

    if (pass)
        answer(check, DP_ALLOW, DP_STATE_UNTRACKED, DP_REASON_CONTROL);
    else if (p->icmp_class == DP_ICMP_CONTROL_FROM_HOST || p->icmp_class == DP_ICMP_CONTROL_BROKEN)
        invalid(check, DP_CAUSE_NEIGHBOUR_DISCOVERY);
    else
        return false;
    return true;
}

/* ---- related ---- */

static void judge_error(struct dp_engine *engine, const struct job *job, uint32_t direction, struct dp_check *check)
{
    struct dp_conntrack *ct = &engine->conntrack;
    struct dp_packet inner;
    struct dp_flow_key key;
    uint32_t hash, entry;

    if (!dp_packet_parse_quoted(&job->packet, &inner) ||
        memcmp(&inner.source, &job->packet.destination, inner.family == 4 ? 4 : 16) != 0) {
        invalid(check, DP_CAUSE_ICMP_UNRELATED);
        return;
    }
    /* What an error that enters quotes, has left; and the other way round. */
    dp_flow_key_of(&inner, job->zone[direction], direction == DP_INGRESS ? DP_EGRESS : DP_INGRESS, &key);
    hash = dp_flow_hash(&ct->table.secret, &key);
    if (job->packet.vlans)
        tag_key(engine, job->packet.vlans, job->zone[direction], &key, &hash);
    switch (dp_conntrack_find(ct, &key, hash, &entry)) {
    case DP_CONN_LIVE:
        answer(check, DP_ALLOW, DP_STATE_RELATED, DP_REASON_RELATED);
        check->rule = ct->table.entries[entry].rule;
        belongs_to(check, &ct->table.entries[entry]);
        break;
    case DP_CONN_HELD:
        disconnected(check, &ct->table.entries[entry]);
        break;
    default:
        invalid(check, DP_CAUSE_ICMP_UNRELATED);
    }
}

/* ---- rules ---- */

/* Asks the rules; true when they allow. */
static bool ask_rules(struct dp_engine *engine, const struct dp_packet *p, uint32_t zone, uint32_t direction,
                      struct dp_check *check)
{
    const struct dp_rule_table *table =
        zone < engine->policy->n_zones ? engine->policy->table[zone][direction][p->family == 6] : NULL;
    const union dp_address *remote = direction == DP_INGRESS ? &p->source : &p->destination;
    uint32_t found = table ? dp_rule_table_find(table, remote->byte, p->selector) : DP_NO_MATCH;

    if (found == DP_NO_MATCH) {
        answer(check, DP_DENY, DP_STATE_NEW, DP_REASON_NO_RULE_MATCHED);
        return false;
    }
    answer(check, (enum dp_verdict)table->rule_action[found], DP_STATE_NEW, DP_REASON_RULE);
    check->rule = table->rule_number[found];
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

/* A packet without a connection, or one that begins anew in place of the closed connection `old` (0 for none). */
static void judge_new(struct dp_engine *engine, const struct job *job, uint32_t direction, uint32_t old,
                      struct dp_check *check)
{
    struct dp_conntrack *ct = &engine->conntrack;
    enum dp_cause cause = DP_CAUSE_NONE;
    uint8_t state = first_state(ct, &job->packet, &cause);
    enum dp_origin origin = direction == DP_INGRESS ? DP_INBOUND : DP_OUTBOUND;
    uint32_t entry;

    if (state == DP_CONN_INVALID) {
        invalid(check, cause);
        return;
    }
    if (!ask_rules(engine, &job->packet, job->zone[direction], direction, check))
        return;
    if (old) {
        dp_conntrack_remove(ct, old);
        ct->replaced++;
    }
    entry = dp_conntrack_admit(ct, &job->key[direction], job->hash[direction], origin, state, check->rule);
    if (!entry) {
        answer(check, DP_DENY, DP_STATE_NEW, DP_REASON_TABLE_FULL);
        check->rule = 0;
        engine->counters.table_full++;
        return;
    }
    check->origin = (uint8_t)origin;
    if (job->packet.protocol == DP_PROTO_TCP)
        dp_tcp_open(&ct->table.entries[entry], &job->packet.tcp);
}

/* ---- connection ---- */

/* The state that a packet of `side` leads to; a cause when it is not valid. */
static enum dp_cause step(struct dp_conntrack *ct, struct dp_entry *e, const struct dp_packet *p, enum dp_side side,
                          uint8_t *next)
{
    *next = e->state;
    if (p->protocol == DP_PROTO_TCP)
        return dp_tcp_step(&ct->config, e, side, &p->tcp, next);
    if (side == DP_RESPONDER && e->state == DP_CONN_OTHER_ONE_WAY)
        *next = DP_CONN_OTHER_TWO_WAY;
    if (side == DP_RESPONDER && e->state == DP_CONN_ICMP_ONE_WAY)
        *next = DP_CONN_ICMP_TWO_WAY;
    return DP_CAUSE_NONE;
}

/* Whether a segment begins a connection anew in place of a closing or closed one (SPEC 4.4). */
static bool reopens(const struct dp_conntrack *ct, const struct dp_entry *e, const struct dp_packet *p)
{
    return p->protocol == DP_PROTO_TCP && ct->config.reopens[e->state] && dp_tcp_flags_valid(p->tcp.flags) &&
           dp_tcp_first_event(p->tcp.flags) == DP_TCP_SYN;
}

static void judge_known(struct dp_engine *engine, const struct job *job, uint32_t direction, uint32_t entry,
                        struct dp_check *check)
{
    struct dp_conntrack *ct = &engine->conntrack;
    struct dp_entry *e = &ct->table.entries[entry];
    bool inbound = e->flags & DP_ENTRY_INBOUND;
    enum dp_side side = (direction == DP_INGRESS) == inbound ? DP_INITIATOR : DP_RESPONDER;
    enum dp_cause cause;
    uint8_t next;

    if (reopens(ct, e, &job->packet)) {
        judge_new(engine, job, direction, entry, check);
        return;
    }
    cause = step(ct, e, &job->packet, side, &next);
    belongs_to(check, e);
    if (cause) {
        invalid(check, cause);
        return;
    }
    answer(check, DP_ALLOW, DP_STATE_ESTABLISHED, DP_REASON_CONNECTION);
    check->rule = e->rule;
    dp_conntrack_keep(ct, entry, next);
}

/* A packet of a disconnected connection (SPEC 5.3); with reevaluate, its initiator's may keep it (SPEC 5.7). */
static void judge_held(struct dp_engine *engine, const struct job *job, uint32_t direction, uint32_t entry,
                       struct dp_check *check)
{
    struct dp_conntrack *ct = &engine->conntrack;
    struct dp_entry *e = &ct->table.entries[entry];
    uint8_t next;

    if (ct->config.reevaluate && direction == DP_INGRESS && !reopens(ct, e, &job->packet) &&
        ask_rules(engine, &job->packet, job->zone[direction], direction, check) &&
        step(ct, e, &job->packet, DP_INITIATOR, &next) == DP_CAUSE_NONE) {
        dp_conntrack_reattach(ct, entry, check->rule);
        dp_conntrack_keep(ct, entry, next);
        answer(check, DP_ALLOW, DP_STATE_ESTABLISHED, DP_REASON_RULE);
        belongs_to(check, e);
        return;
    }
    check->rule = 0;
    disconnected(check, e);
}

/* ---- one check, one packet, one batch ---- */

/* What only a port knows: a frame that is no IP, and a sender that is not the instance (SPEC 4.8). */
static bool stopped_at_port(const struct dp_engine *engine, const struct job *job, uint32_t direction,
                            struct dp_check *check)
{
    const struct dp_packet *p = &job->packet;

    if (direction == DP_EGRESS && job->place->guarded &&
        dp_is_spoofed(engine->policy->endpoints, job->zone[DP_EGRESS], job->place->mac, p)) {
        invalid(check, DP_CAUSE_SPOOFED);
        return true;
    }
    if (p->kind != DP_PACKET_OTHER)
        return false;
    answer(check, DP_DENY, DP_STATE_UNTRACKED, DP_REASON_NO_RULE_MATCHED);
    check->cause = DP_CAUSE_NOT_IP;
    return true;
}

/* Whether the other side of the check is a load balancer in front of the instance (SPEC 3.5). */
static bool from_balancer(const struct dp_engine *engine, const struct job *job, uint32_t direction)
{
    const struct dp_endpoints *endpoints = engine->policy->endpoints;
    const struct dp_packet *p = &job->packet;
    bool in = direction == DP_INGRESS;

    if (job->place && job->place->balancer[direction])
        return dp_endpoints_is_backend(endpoints, job->place->balancer[direction], job->zone[direction]);
    return dp_endpoints_is_balancer(endpoints, job->zone[direction], p->family, in ? &p->source : &p->destination,
                                    in ? p->source_mac : p->destination_mac);
}

static void judge(struct dp_engine *engine, const struct job *job, uint32_t direction, struct dp_check *check)
{
    const struct dp_packet *p = &job->packet;
    uint32_t entry = 0;

    *check = (struct dp_check){.zone = job->zone[direction], .direction = (uint8_t)direction};
    if (p->kind == DP_PACKET_MALFORMED) {
        answer(check, DP_DENY, DP_STATE_INVALID, DP_REASON_MALFORMED);
        check->cause = p->cause;
        return;
    }
    if (job->place && stopped_at_port(engine, job, direction, check))
        return;
    if (control(p, direction, check))
        return;
    if (engine->policy->balancers && from_balancer(engine, job, direction)) {
        answer(check, DP_ALLOW, DP_STATE_UNTRACKED, DP_REASON_LOAD_BALANCER);
        return;
    }
    if (p->icmp_class == DP_ICMP_ERROR) {
        judge_error(engine, job, direction, check);
        return;
    }
    switch (dp_conntrack_find(&engine->conntrack, &job->key[direction], job->hash[direction], &entry)) {
    case DP_CONN_LIVE:
        judge_known(engine, job, direction, entry, check);
        break;
    case DP_CONN_HELD:
        judge_held(engine, job, direction, entry, check);
        break;
    default:
        judge_new(engine, job, direction, 0, check);
    }
}

static void count_check(struct dp_engine *engine, const struct dp_packet *packet, const struct dp_check *check,
                        uint32_t length)
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
    if (check->verdict == DP_DENY)
        dp_denied_count(engine->denied, packet, check, length);
}

static void count(struct dp_engine *engine, const struct dp_packet *packet, const struct dp_record *record)
{
    for (uint32_t i = 0; i < record->checks; i++)
        count_check(engine, packet, &record->check[i], record->length);
    engine->counters.verdict[record->verdict].packets++;
    engine->counters.verdict[record->verdict].bytes += record->length;
}

void dp_engine_answered(void *owner, uint64_t number, const struct dp_packet *packet, const struct dp_record *record)
{
    struct dp_engine *engine = owner;
    uint32_t at = (engine->first_resolved + engine->n_resolved++) % DP_WAITING_MAX;

    engine->resolved[at] = (struct dp_resolution){number, *record};
    count(engine, packet, record);
}

/* All checks of a packet. */
static void judge_whole(struct dp_engine *engine, const struct job *job, struct dp_record *record)
{
    static const uint8_t order[DP_DIRECTIONS] = {DP_EGRESS, DP_INGRESS};

    for (int i = 0; i < DP_DIRECTIONS && record->verdict != DP_DENY; i++) {
        struct dp_check *check = &record->check[record->checks];

        if (job->zone[order[i]] == DP_NO_ZONE)
            continue;
        judge(engine, job, order[i], check);
        record->verdict = check->verdict;
        record->checks++;
    }
}

static void judge_fragment(struct dp_engine *engine, const struct job *job, struct dp_record *record)
{
    uint32_t datagram;
    bool may_wait = dp_fragments_waiting(engine->fragments) + engine->n_resolved < DP_WAITING_MAX;

    dp_fragments_expire(engine->fragments, engine->conntrack.now);
    switch (dp_fragments_add(engine->fragments, &job->packet, job->zone, engine->conntrack.now, engine->frames,
                             may_wait, record, &datagram)) {
    case DP_FRAGMENT_JUDGE:
        judge_whole(engine, job, record);
        dp_fragments_answer(engine->fragments, datagram, record);
        break;
    case DP_FRAGMENT_WAIT:
        record->verdict = DP_WAITING;
        break;
    default:
        break;
    }
}

static inline __attribute__((always_inline)) void judge_packet(struct dp_engine *engine, const struct dp_frame *frame,
                                                               const struct job *job, struct dp_record *record)
{
    const struct dp_packet *p = &job->packet;

    if (frame->time_ns < engine->conntrack.now)
        engine->counters.time_backwards++;
    else
        dp_conntrack_advance(&engine->conntrack, frame->time_ns);
    *record = (struct dp_record){.time_ns = frame->time_ns, .length = frame->length, .verdict = DP_BYPASS};
    if (p->fragment && p->kind == DP_PACKET_IP &&
        (job->zone[DP_EGRESS] != DP_NO_ZONE || job->zone[DP_INGRESS] != DP_NO_ZONE))
        judge_fragment(engine, job, record);
    else
        judge_whole(engine, job, record);
    if (record->verdict != DP_WAITING)
        count(engine, p, record);
    engine->frames++;
}

static inline int process(struct dp_engine *engine, const struct dp_frame *frames, const struct dp_place *places,
                          uint32_t n, struct dp_record *records, struct dp_flow *flows)
{
    struct job jobs[BURST];

    for (uint32_t i = 0, burst; i < n; i += burst) {
        burst = n - i < BURST ? n - i : BURST;
        for (uint32_t k = 0; k < burst; k++)
            prepare(engine, &frames[i + k], places ? &places[i + k] : NULL, &jobs[k]);
        if (engine->conntrack.config.verify_checksums)
            verify_checksums(&frames[i], burst, jobs);
        for (uint32_t k = 0; k < burst; k++)
            fetch(engine, &jobs[k]);
        for (uint32_t k = 0; k < burst; k++)
            judge_packet(engine, &frames[i + k], &jobs[k], &records[i + k]);
        dp_fragments_expire(engine->fragments, engine->conntrack.now);
        for (uint32_t k = 0; flows && k < burst; k++)
            dp_flow_of(&jobs[k].packet, &flows[i + k]);
    }
    return 0;
}

int dp_engine_process(struct dp_engine *engine, const struct dp_frame *frames, uint32_t n, struct dp_record *records,
                      struct dp_flow *flows)
{
    return process(engine, frames, NULL, n, records, flows);
}

int dp_engine_process_at(struct dp_engine *engine, const struct dp_frame *frames, const struct dp_place *places,
                         uint32_t n, struct dp_record *records, struct dp_flow *flows)
{
    return process(engine, frames, places, n, records, flows);
}
