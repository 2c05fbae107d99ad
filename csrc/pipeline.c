/*
 * pipeline.c: a batch of frames judged, in this order for each packet:
 *
 *   packet      the frame is read (packet.c)
 *   sender      live: whether who sends may come by the port (spoof.c); every frame and fragment for itself
 *   fragment    a later fragment gets its datagram's answer, or waits for it (fragment.c, SPEC 4.6); behind a change an
 *               allowed datagram's is looked at once more
 *   endpoints   the source's instance gives an egress check, the destination's an ingress check (SPEC 7); none: bypass
 *   then for each check, egress first, ingress only if egress allows (SPEC 1):
 *   malformed   headers that lie or were cut, or (if asked for) checksums that are wrong: denied
 *   control     ARP, neighbour discovery, MLD, DHCP: passed, or refused for what only pretends to be that
 *               (control_traffic.c, SPEC 4.8)
 *   balancer    a load balancer and its backend: passed (SPEC 3.5)
 *   related     an ICMP error about a live connection: passed (SPEC 4.5)
 *   connection  a live connection's packet: passed if it is valid; a disconnected one's: denied (SPEC 4.4, 5.3)
 *   rules       a first packet: the rule tables decide (SPEC 3), and an allowed one gets an entry (SPEC 4.1)
 *   counters
 *
 * related, connection and rules are in judge.c, and what is hot of them in judge.h.
 *
 * BURSTS. Frames are taken BURST at a time: all are read and their keys hashed while the index slots are fetched, then
 * the entries are fetched, then each packet is judged in order. The judging looks everything up anew, so packets of one
 * burst may make, change and remove each other's entries; the fetching is only a hint.
 */
#include "pipeline.h"

#include "checksum.h"
#include "control_traffic.h"
#include "fast_path.h"
#include "judge.h"
#include "spoof.h"
#include "stream_store.h"

/* Of most frames these bytes are all that is read, from the Ethernet type to the end of a TCP header. */
enum { FIRST_READ = 12, LAST_READ = 53 };
_Static_assert(sizeof(struct dp_record) == DP_LINE, "a record is one cache line");

/* ---- reading ---- */

/* What the packet's connection is known by in a zone. */
static inline __attribute__((always_inline)) void know(const struct dp_engine *engine, struct dp_job *job,
                                                       uint32_t zone, const uint32_t direction)
{
    const struct dp_packet *p = &job->packet;

    job->zone[direction] = zone;
    if (zone >= DP_SHARED || p->kind != DP_PACKET_IP)
        return;
    dp_flow_key_of(p, zone, direction, &job->key[direction]);
    job->hash[direction] = dp_flow_hash(&engine->conntrack.table.secret, &job->key[direction]);
    dp_flow_table_prefetch_slot(&engine->conntrack.table, job->hash[direction]);
}

/* VLANs belong to the key where two networks share addresses. */
static inline void tag(const struct dp_engine *engine, struct dp_job *job, uint32_t direction)
{
    const struct dp_packet *p = &job->packet;

    if (p->vlans && p->kind == DP_PACKET_IP)
        dp_job_tag(engine, p->vlans, job->zone[direction], &job->key[direction], &job->hash[direction]);
}

/* Whose the addresses are that several hold: what came before it in its burst may have told. */
static void choose_owners(struct dp_engine *engine, struct dp_job *job)
{
    const struct dp_endpoints *endpoints = engine->policy->endpoints;

    for (uint32_t d = 0; d < DP_DIRECTIONS; d++)
        if (dp_is_shared(job->zone[d])) {
            know(engine, job, dp_owners_choose(engine->first->owners, endpoints, job->zone[d], &job->packet, d), d);
            tag(engine, job, d);
        }
}

/* What a packet tells of who has an address counts, unless it was refused where it left. */
static void learn_owners(struct dp_engine *engine, const struct dp_job *job, const struct dp_record *record)
{
    if (record->verdict != DP_WAITING && !(record->checks && record->check[0].verdict == DP_DENY))
        dp_owners_learn(engine->first->owners, engine->policy->endpoints, &job->packet, job->zone[DP_EGRESS]);
}

/* A wrong checksum makes a packet malformed, where an instance would see it. */
static void verify_checksum(const struct dp_frame *frame, struct dp_job *job)
{
    struct dp_packet *p = &job->packet;

    if (p->kind == DP_PACKET_IP && (job->zone[DP_EGRESS] != DP_NO_ZONE || job->zone[DP_INGRESS] != DP_NO_ZONE) &&
        !dp_checksum_right(frame, p)) {
        p->kind = DP_PACKET_MALFORMED;
        p->cause = DP_CAUSE_BAD_CHECKSUM;
    }
}

static void prepare(struct dp_engine *engine, const struct dp_frame *frame, const struct dp_place *place, bool verify,
                    struct dp_job *job)
{
    const struct dp_endpoints *endpoints = engine->policy->endpoints;
    struct dp_packet *p = &job->packet;

    dp_packet_parse(frame, p);
    job->place = place;
    job->tells = false;
    job->zone[DP_EGRESS] = job->zone[DP_INGRESS] = DP_NO_ZONE;
    if (!endpoints)
        return;
    if (place) {
        know(engine, job, place->zone[DP_EGRESS], DP_EGRESS);
        know(engine, job, place->zone[DP_INGRESS], DP_INGRESS);
    } else if (p->family) {
        know(engine, job, dp_endpoints_find(endpoints, p->family, &p->source), DP_EGRESS);
        know(engine, job, dp_endpoints_find(endpoints, p->family, &p->destination), DP_INGRESS);
        job->tells = dp_is_shared(job->zone[DP_EGRESS]) || dp_owners_may_tell(p);
    }
    tag(engine, job, DP_EGRESS);
    tag(engine, job, DP_INGRESS);
    if (verify)
        verify_checksum(frame, job);
}

static void fetch(const struct dp_engine *engine, const struct dp_job *job)
{
    if (job->packet.kind != DP_PACKET_IP)
        return;
    for (uint32_t d = 0; d < DP_DIRECTIONS; d++)
        if (job->zone[d] < DP_SHARED)
            dp_flow_table_prefetch_entry(&engine->conntrack.table, job->hash[d]);
}

/* ---- one check, one packet, one batch ---- */

/*
 * Whether the other side of the check is a load balancer in front of the instance (SPEC 3.5). Where ports are known,
 * one that has a port counts only there.
 */
static bool from_balancer(const struct dp_engine *engine, const struct dp_job *job, uint32_t direction)
{
    const struct dp_endpoints *endpoints = engine->policy->endpoints;
    const struct dp_packet *p = &job->packet;
    bool in = direction == DP_INGRESS;

    if (job->place && job->place->balancer[direction])
        return dp_endpoints_is_backend(endpoints, job->place->balancer[direction], job->zone[direction]);
    return dp_endpoints_is_balancer(endpoints, job->zone[direction], p->family, in ? &p->source : &p->destination,
                                    in ? p->source_mac : p->destination_mac, job->place && job->place->served);
}

static void judge(struct dp_engine *engine, const struct dp_job *job, uint32_t direction, struct dp_check *check)
{
    const struct dp_packet *p = &job->packet;
    uint32_t entry = 0;

    *check = (struct dp_check){.zone = job->zone[direction], .direction = (uint8_t)direction};
    if (p->kind == DP_PACKET_MALFORMED) {
        dp_answer(check, DP_DENY, DP_STATE_INVALID, DP_REASON_MALFORMED);
        check->cause = p->cause;
        return;
    }
    if (job->place && p->kind == DP_PACKET_OTHER) {
        if (direction == DP_EGRESS && dp_control_announces(engine, job, check))
            return;
        dp_answer(check, DP_DENY, DP_STATE_UNTRACKED, DP_REASON_NO_RULE_MATCHED);
        check->cause = DP_CAUSE_NOT_IP;
        return;
    }
    if (dp_may_be_control(p) && dp_control(engine, job, direction, check))
        return;
    if (engine->policy->balancers && from_balancer(engine, job, direction)) {
        dp_answer(check, DP_ALLOW, DP_STATE_UNTRACKED, DP_REASON_LOAD_BALANCER);
        return;
    }
    if (p->icmp_class == DP_ICMP_ERROR) {
        dp_judge_error(engine, job, direction, check);
        return;
    }
    switch (dp_conntrack_find(&engine->conntrack, &job->key[direction], job->hash[direction], &entry)) {
    case DP_CONN_LIVE:
        dp_judge_known(engine, job, direction, entry, check);
        break;
    case DP_CONN_DISCONNECTED:
        dp_judge_disconnected(engine, job, direction, entry, check);
        break;
    default:
        dp_judge_new(engine, job, direction, 0, NULL, check);
    }
}

/* All checks of a packet. */
static void judge_whole(struct dp_engine *engine, const struct dp_job *job, struct dp_record *record)
{
    static const uint8_t order[DP_DIRECTIONS] = {DP_EGRESS, DP_INGRESS};

    if (!job->place && job->zone[DP_EGRESS] == DP_NO_ZONE && dp_may_be_control(&job->packet))
        dp_control_heard(engine, &job->packet);
    for (int i = 0; i < DP_DIRECTIONS && record->verdict != DP_DENY; i++) {
        struct dp_check *check = &record->check[record->checks];

        if (job->zone[order[i]] == DP_NO_ZONE)
            continue;
        judge(engine, job, order[i], check);
        record->verdict = check->verdict;
        record->checks++;
        if (check->cause == DP_CAUSE_TCP_WINDOW && order[i] == DP_EGRESS && job->zone[DP_INGRESS] != DP_NO_ZONE)
            dp_judge_unseen(engine, job);
    }
}

/*
 * The answer of a datagram that was allowed before a change, for a fragment behind it (SPEC 5.1, 5.3). Denied once, it
 * stays so.
 */
static void judge_behind_change(struct dp_engine *engine, const struct dp_job *job, uint32_t datagram,
                                struct dp_record *record)
{
    const struct dp_fragment_first *first = dp_fragments_first(engine->fragments, datagram);

    if (first->change == engine->conntrack.change || record->verdict != DP_ALLOW)
        return;
    for (uint32_t i = 0; i < record->checks && record->verdict == DP_ALLOW; i++) {
        struct dp_check *check = &record->check[i];

        if (check->reason == DP_REASON_LOAD_BALANCER && from_balancer(engine, job, check->direction))
            continue;
        dp_judge_later(engine, job, first, check);
        record->verdict = check->verdict;
        if (check->verdict == DP_DENY)
            record->checks = (uint8_t)(i + 1);
    }
    if (record->verdict == DP_DENY)
        dp_fragments_answer(engine->fragments, datagram, record);
}

static void judge_fragment(struct dp_engine *engine, const struct dp_job *job, uint64_t number,
                           struct dp_record *record)
{
    uint32_t datagram, port = job->place ? job->place->port : DP_NO_PORT;
    bool may_wait = dp_fragments_waiting(engine->fragments) + engine->n_resolved < DP_RESOLVED_MAX;

    dp_fragments_expire(engine->fragments, engine->conntrack.now);
    switch (dp_fragments_add(engine->fragments, &job->packet, job->zone, port, engine->conntrack.now,
                             engine->conntrack.change, number, may_wait, record, &datagram)) {
    case DP_FRAGMENT_JUDGE:
        judge_whole(engine, job, record);
        dp_judge_keep_first(engine, job, record, dp_fragments_first(engine->fragments, datagram));
        dp_fragments_answer(engine->fragments, datagram, record);
        break;
    case DP_FRAGMENT_COPY:
        judge_behind_change(engine, job, datagram, record);
        break;
    case DP_FRAGMENT_WAIT:
        record->verdict = DP_WAITING;
        break;
    default:
        break;
    }
}

/*
 * Refuses a frame whose sender may not come by its port: at the instance that sent it; of what came from outside, at
 * the one that it would enter, else at the one that it pretends to be. That may be none: a balancer.
 */
static bool refuse_sender(struct dp_engine *engine, const struct dp_job *job, struct dp_record *record)
{
    uint32_t direction = DP_EGRESS, whose, zone = job->zone[DP_EGRESS];

    if (!dp_is_spoofed(engine->policy->endpoints, job->place, &job->packet, &whose))
        return false;
    if (zone == DP_NO_ZONE && job->zone[DP_INGRESS] != DP_NO_ZONE) {
        direction = DP_INGRESS;
        zone = job->zone[DP_INGRESS];
    }
    zone = zone != DP_NO_ZONE ? zone : whose;
    record->verdict = DP_DENY;
    if (zone == DP_NO_ZONE) {
        engine->counters.cause[DP_CAUSE_SPOOFED].packets++;
        engine->counters.cause[DP_CAUSE_SPOOFED].bytes += record->length;
        return true;
    }
    record->checks = 1;
    record->check[0] = (struct dp_check){.zone = zone, .direction = (uint8_t)direction};
    dp_answer_invalid(&record->check[0], DP_CAUSE_SPOOFED);
    return true;
}

static inline __attribute__((always_inline)) void judge_packet(struct dp_engine *engine, const struct dp_frame *frame,
                                                               struct dp_job *job, uint64_t number,
                                                               struct dp_record *record)
{
    const struct dp_packet *p = &job->packet;

    if (frame->time_ns < engine->conntrack.now)
        engine->counters.time_backwards++;
    else
        dp_conntrack_advance(&engine->conntrack, frame->time_ns);
    *record = (struct dp_record){.time_ns = frame->time_ns, .length = frame->length, .verdict = DP_BYPASS};
    if (!job->place && (dp_is_shared(job->zone[DP_EGRESS]) || dp_is_shared(job->zone[DP_INGRESS])))
        choose_owners(engine, job);
    if (job->place && job->place->guard && refuse_sender(engine, job, record))
        ; /* before all else, so that what is refused leaves no trace */
    else if (p->fragment && p->kind == DP_PACKET_IP &&
             (job->zone[DP_EGRESS] != DP_NO_ZONE || job->zone[DP_INGRESS] != DP_NO_ZONE))
        judge_fragment(engine, job, number, record);
    else
        judge_whole(engine, job, record);
    if (job->tells)
        learn_owners(engine, job, record);
}

static inline bool verifies(const struct dp_engine *engine, const struct dp_place *places)
{
    uint8_t verify = engine->conntrack.config.verify_checksums;

    return verify == DP_VERIFY_ALWAYS || (verify && places);
}

/* A frame that is prepared, by the long way. */
static inline __attribute__((always_inline)) void process_long(struct dp_engine *engine, const struct dp_frame *frame,
                                                               struct dp_denied_flows *denied, struct dp_job *job,
                                                               struct dp_record *record)
{
    judge_packet(engine, frame, job, engine->frames, record);
    if (record->verdict != DP_WAITING)
        dp_engine_count(engine, denied, &job->packet, record);
    engine->frames++;
}

/*
 * One burst: of frames for their own, or of a selection. Frames that can take the
 * fast path are prepared for the long way only when it ends there.
 */
static inline __attribute__((always_inline)) void process_burst(struct dp_engine *engine, const struct dp_frame *frames,
                                                                const struct dp_selection *some,
                                                                const struct dp_place *places, uint32_t n,
                                                                struct dp_record *records, struct dp_flow *flows)
{
    bool verify = verifies(engine, places);
    struct dp_job jobs[DP_BURST];
    struct dp_fast fast[DP_BURST];
    struct dp_fast_asked asked;
    uint32_t set = dp_fast_read(engine, frames, places, n, verify, fast, &asked), taken = set;
    const uint32_t all = UINT32_MAX >> (DP_BURST - n);

    for (uint32_t rest = all & ~set; rest; rest &= rest - 1) {
        uint32_t k = (uint32_t)__builtin_ctz(rest);

        prepare(engine, &frames[k], places ? &places[k] : NULL, verify, &jobs[k]);
    }
    dp_fast_fetch(engine, fast, set & ~asked.known);
    for (uint32_t rest = all & ~set; rest; rest &= rest - 1)
        fetch(engine, &jobs[__builtin_ctz(rest)]);
    for (uint32_t k = 0; k < n; k++) {
        if (set >> k & 1) {
            const struct dp_fast_asked later = {asked.about >> k, asked.known >> k};

            k += some ? dp_fast_judge_selected(engine, &frames[k], some, k, &fast[k], set >> k, later, &records[k])
                      : dp_fast_judge(engine, &frames[k], &fast[k], set >> k, later, &records[k]);
            if (k == n)
                break;
            if (set >> k & 1) {
                prepare(engine, &frames[k], places ? &places[k] : NULL, verify, &jobs[k]);
                taken &= ~(1u << k);
            }
        }
        if (some) {
            engine->frames = some->number[k];
            dp_conntrack_advance(&engine->conntrack, some->now_ns[k]);
        }
        process_long(engine, &frames[k], some ? NULL : engine->first->denied, &jobs[k], &records[k]);
    }
    dp_zone_queues_settle(&engine->conntrack.queues);
    dp_fragments_expire(engine->fragments, engine->conntrack.now);
    for (uint32_t k = 0; flows && k < n; k++)
        if (taken >> k & 1)
            dp_fast_flow_of(&fast[k], &flows[k]);
        else
            dp_flow_of(&jobs[k].packet, &flows[k]);
}

static int process(struct dp_engine *engine, const struct dp_frame *frames, const struct dp_place *places, uint32_t n,
                   struct dp_record *records, struct dp_flow *flows)
{
    for (uint32_t i = 0, burst; i < n; i += burst) {
        burst = n - i < DP_BURST ? n - i : DP_BURST;
        process_burst(engine, &frames[i], NULL, places ? &places[i] : NULL, burst, &records[i],
                      flows ? &flows[i] : NULL);
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

/* Asks for what other processors have of the frames of a burst. */
static void fetch_frames(const struct dp_selected *some, uint32_t n)
{
    for (uint32_t k = 0; k < n; k++) {
        __builtin_prefetch(some[k].frame.data + FIRST_READ);
        __builtin_prefetch(some[k].frame.data + LAST_READ);
    }
}

static uint32_t at_most(uint32_t n)
{
    return n < DP_BURST ? n : DP_BURST;
}

uint32_t dp_engine_process_selected(struct dp_engine *engine, const struct dp_selected *some, uint32_t n,
                                    uint64_t first, struct dp_record *records, struct dp_flow *flows,
                                    struct dp_denied_frame *denied)
{
    uint64_t now_ns[DP_BURST], number[DP_BURST];
    const struct dp_selection selection = {now_ns, number};
    struct dp_frame frame[DP_BURST];
    struct dp_record record[DP_BURST];
    struct dp_flow flow[DP_BURST];
    uint32_t n_denied = 0;

    fetch_frames(some, at_most(n));
    for (uint32_t i = 0, burst; i < n; i += burst, some += burst) {
        burst = at_most(n - i);
        for (uint32_t k = 0; k < burst; k++) {
            frame[k] = some[k].frame;
            now_ns[k] = some[k].now_ns;
            number[k] = first + some[k].at;
        }
        fetch_frames(some + burst, at_most(n - i - burst));
        process_burst(engine, frame, &selection, NULL, burst, record, flows ? flow : NULL);
        for (uint32_t k = 0; k < burst; k++) {
            dp_stream_line(&records[some[k].at], &record[k]);
            if (record[k].verdict == DP_DENY)
                denied[n_denied++] = (struct dp_denied_frame){frame[k], record[k], some[k].at};
        }
        for (uint32_t k = 0; flows && k < burst; k++)
            flows[some[k].at] = flow[k];
    }
    dp_stream_end();
    return n_denied;
}

void dp_count_denied_frame(struct dp_denied_flows *denied, const struct dp_frame *frame, const struct dp_record *record,
                           uint64_t *consequences)
{
    struct dp_packet packet;

    dp_packet_parse(frame, &packet);
    for (uint32_t i = 0; i < record->checks; i++) {
        const struct dp_check *check = &record->check[i];

        if (check->verdict == DP_DENY)
            consequences[check->cause] += dp_denied_count(denied, &packet, check, record->length);
    }
}

void dp_engine_judge_copy(struct dp_engine *engine, const struct dp_frame *frame, const struct dp_place *place)
{
    struct dp_record record;
    struct dp_job job;

    prepare(engine, frame, place, verifies(engine, place), &job);
    /* A connection is opened by the frame that it is a copy of. */
    engine->frames--;
    judge_packet(engine, frame, &job, engine->frames | DP_FRAGMENT_OF_COPY, &record);
    engine->frames++;
    if (record.verdict != DP_WAITING)
        dp_engine_count_checks(engine, engine->first->denied, &job.packet, &record);
}
