/* fast_path.c: fast_path.h in code: fetching, judging. */
#include "fast_path.h"

#include "bytes.h"
#include "fast_first.h"
#include "tcp_window.h"

#include <stddef.h>

_Static_assert(DP_INGRESS == 0, "the direction is masked");
enum { MEANT_FLAGS = DP_TCP_FLAG_SYN | DP_TCP_FLAG_FIN | DP_TCP_FLAG_RST | DP_TCP_FLAG_ACK | DP_TCP_FLAG_URG };

/* ---- fetching ---- */

static inline void fetch(const struct dp_flow_table *table, struct dp_fast_check *check)
{
    check->entry = dp_flow_table_first(table, check->hash, &check->end);
    __builtin_prefetch(&table->entries[check->entry], 1);
}

void dp_fast_fetch(const struct dp_engine *engine, struct dp_fast *fast, uint32_t set)
{
    const struct dp_flow_table table = engine->conntrack.table;
    struct dp_fast *one = fast;
    uint32_t first = 0;

    /* Where there is no check, the first is of nobody's zone, and there is no such entry. */
    for (uint32_t bit = 1, rest = set; rest; rest >>= 1, bit <<= 1, one++)
        if (rest & 1) {
            one->rearranged = table.rearranged;
            one->asked = false;
            fetch(&table, &one->check[0]);
            if (one->checks == DP_DIRECTIONS)
                fetch(&table, &one->check[1]);
            first |= one->check[0].entry ? 0 : bit;
        }
    if (first)
        dp_fast_ask(engine, fast, first);
}

/* ---- judging ---- */

_Static_assert(offsetof(struct dp_fast_check, remote) == offsetof(struct dp_entry, remote) &&
                   offsetof(struct dp_fast_check, local_port) == offsetof(struct dp_entry, local_port) &&
                   offsetof(struct dp_fast_check, remote_port) == offsetof(struct dp_entry, remote_port) &&
                   offsetof(struct dp_fast_check, zone_protocol) == offsetof(struct dp_entry, zone_protocol),
               "a key of IPv4 is compared as it lies");

/* The same of IPv6, whose addresses stand elsewhere; of no VLAN. */
static NEVER_INLINE bool has_wide_key(const struct dp_flow_table *table, const struct dp_entry *e,
                                      const struct dp_fast *fast, const struct dp_fast_check *check, bool in)
{
    /* They stand right before the transport header. */
    const uint8_t *destination = fast->transport - 16, *source = destination - 16;
    const struct dp_address_pair *pair;

    if (memcmp(&e->local_port, &check->local_port, 8) != 0 || !(e->flags & DP_ENTRY_WIDE) || e->remote != 0)
        return false;
    pair = &table->pairs[e->local];
    return memcmp(&pair->local, in ? destination : source, 16) == 0 &&
           memcmp(&pair->remote, in ? source : destination, 16) == 0;
}

static inline ALWAYS_INLINE bool has_key(const struct dp_flow_table *table, const struct dp_entry *e,
                                         const struct dp_fast *fast, const struct dp_fast_check *check, bool in)
{
    return fast->family == 4 ? memcmp(e, check, 16) == 0 && !(e->flags & DP_ENTRY_WIDE)
                             : has_wide_key(table, e, fast, check, in);
}

/* Whether the entry that was found for check `i` is of its connection, and that lives. */
static inline ALWAYS_INLINE bool is_live(const struct dp_conntrack *ct, const struct dp_entry *e,
                                         const struct dp_fast *fast, uint32_t i)
{
    return has_key(&ct->table, e, fast, &fast->check[i], fast->direction[i] == DP_INGRESS) &&
           e->state != DP_CONN_INVALID && e->change == ct->change && !(e->flags & DP_ENTRY_CUT) &&
           ct->now - e->last_ns < ct->config.timeout_ns[e->state];
}

/* Whether the entry that the flow cache had is of the packet's one connection, and that lives; the direction is put
 * into `fast`. */
static inline ALWAYS_INLINE bool is_cached_live(const struct dp_conntrack *ct, const struct dp_entry *e,
                                                struct dp_fast *fast)
{
    const uint32_t leaving = dp_get32(fast->transport), entering = leaving << 16 | leaving >> 16;
    const uint32_t ports = (uint32_t)e->local_port << 16 | e->remote_port;
    uint32_t source = dp_raw32(fast->transport - 8), destination = dp_raw32(fast->transport - 4);
    uint32_t enters = -(uint32_t)(e->local != source), differ = source ^ destination;
    uint32_t local = source ^ (enters & differ), remote = local ^ differ;

    fast->direction[0] = (uint8_t)(DP_EGRESS & ~enters);
    return ((e->local ^ local) | (e->remote ^ remote) | (ports ^ leaving ^ (enters & (leaving ^ entering))) |
            (uint8_t)((uint8_t)e->zone_protocol ^ fast->protocol) |
            ((e->flags & (DP_ENTRY_ALONE | DP_ENTRY_CUT)) ^ DP_ENTRY_ALONE)) == 0 &&
           e->state != DP_CONN_INVALID && e->change == ct->change &&
           ct->now - e->last_ns < ct->config.timeout_ns[e->state];
}

/* Puts the connection of the one check into the flow cache. */
static NEVER_INLINE void put_in_cache(struct dp_engine *engine, const struct dp_fast *fast)
{
    engine->conntrack.table.entries[fast->check[0].entry].flags |= DP_ENTRY_ALONE;
    dp_flow_cache_fill(engine->cache, fast->hash, fast->check[0].entry);
}

/* Who sends what comes in `direction`: as a number, which chooses without a branch. */
static inline ALWAYS_INLINE uint32_t side_of(const struct dp_entry *e, uint32_t direction)
{
    _Static_assert(DP_INGRESS == 0 && DP_EGRESS == 1 && DP_INITIATOR == 0 && DP_RESPONDER == 1 && DP_ENTRY_INBOUND == 2,
                   "what enters an inbound connection is of its initiator");
    return direction ^ (e->flags >> 1 & 1) ^ 1;
}

/* Whether what is no TCP leaves its connection in its state. */
static inline ALWAYS_INLINE bool stays(const struct dp_entry *e, uint32_t side)
{
    return e->state == DP_CONN_OTHER_TWO_WAY || e->state == DP_CONN_ICMP_TWO_WAY ||
           (side == DP_INITIATOR && (e->state == DP_CONN_OTHER_ONE_WAY || e->state == DP_CONN_ICMP_ONE_WAY));
}

/* Those fields of an entry that say what is held of its connection. */
struct holding {
    uint8_t state;
    uint8_t flags;
    uint8_t scale_flags[DP_SIDES];
};
_Static_assert(offsetof(struct dp_entry, flags) == offsetof(struct dp_entry, state) + 1 &&
                   offsetof(struct dp_entry, tcp_scale_flags) == offsetof(struct dp_entry, state) + 2,
               "they lie together");

static inline ALWAYS_INLINE uint32_t word_of(const void *holding)
{
    uint32_t word;

    memcpy(&word, holding, sizeof word);
    return word;
}

/* Whether a connection is established, and neither has the peer of `side` sent a FIN nor `side` no acknowledgement. */
static inline ALWAYS_INLINE bool is_flowing(const struct dp_entry *e, uint32_t side)
{
    static const struct holding asked[DP_SIDES] =
        {{0xff, 0, {DP_TCP_SIDE_LIBERAL | DP_TCP_SIDE_ACKED, DP_TCP_SIDE_FIN}},
         {0xff, 0, {DP_TCP_SIDE_FIN, DP_TCP_SIDE_LIBERAL | DP_TCP_SIDE_ACKED}}},
                                answer[DP_SIDES] = {{DP_CONN_TCP_ESTABLISHED, 0, {DP_TCP_SIDE_ACKED, 0}},
                                                    {DP_CONN_TCP_ESTABLISHED, 0, {0, DP_TCP_SIDE_ACKED}}};

    return (word_of(&e->state) & word_of(&asked[side])) == word_of(&answer[side]);
}

/*
 * Moves the window by an ordinary segment, which most are: it is no older than the receiver's window, ends where the
 * receiver has said there is room, acknowledges something that was sent lately, and offers no larger window than
 * before. The conditions of dp_tcp_is_inside follow from these, and dp_tcp_move comes to no more: no number is 2^30 or
 * more from the one it is compared with, nor a window so large. False, and nothing has changed, for all others.
 */
static inline ALWAYS_INLINE bool goes_on(struct dp_entry *e, uint32_t side, const struct dp_fast *fast)
{
    const uint8_t *p = fast->transport;
    uint32_t peer = side ^ 1, ack = dp_get32(p + 8), end = dp_get32(p + 4) + fast->data, units = dp_get16(p + 14);
    uint32_t window = units << (e->tcp_scale_flags[side] & DP_TCP_SCALE_MASK);
    uint32_t newer = end - e->tcp_end[side] + dp_tcp_window(e, (enum dp_side)peer), room = e->tcp_max_end[side] - end;
    uint32_t unanswered = e->tcp_end[peer] - ack, offered = e->tcp_max_end[peer] - ack;

    if ((p[13] & MEANT_FLAGS) != DP_TCP_FLAG_ACK || (newer | room | offered) >> 30 ||
        unanswered > DP_TCP_ACK_WINDOW_LEAST || units - 1 >= e->tcp_max_window[side])
        return false;
    e->tcp_end[side] = dp_seq_later(e->tcp_end[side], end);
    e->tcp_max_ack[side] = dp_seq_later(e->tcp_max_ack[side], ack);
    e->tcp_max_end[peer] = dp_seq_later(e->tcp_max_end[peer], ack + window);
    return true;
}

/* Whether a segment is one of an established connection that says nothing of its beginning or end. */
static inline ALWAYS_INLINE bool is_amidst(const struct dp_entry *e, uint32_t side, const struct dp_tcp_segment *s)
{
    return e->state == DP_CONN_TCP_ESTABLISHED && (s->flags & MEANT_FLAGS) == DP_TCP_FLAG_ACK &&
           !(e->tcp_scale_flags[side ^ 1] & DP_TCP_SIDE_FIN) && e->tcp_max_window[side] != 0;
}

/* Whether such a segment is inside the window, as far as that is known. */
static inline ALWAYS_INLINE bool is_inside(const struct dp_entry *e, uint32_t side, const struct dp_tcp_segment *s)
{
    return (e->tcp_scale_flags[side] & DP_TCP_SIDE_LIBERAL) ||
           dp_tcp_is_inside(e, (enum dp_side)side, (enum dp_side)(side ^ 1), s->seq, s->ack, s->end);
}

/* Whether the packet leaves the connection of check `i` in its state. */
static bool stays_so(const struct dp_entry *e, const struct dp_fast *fast, uint32_t i)
{
    uint32_t side = side_of(e, fast->direction[i]);
    struct dp_tcp_segment s;

    if (fast->protocol != DP_PROTO_TCP)
        return stays(e, side);
    dp_fast_segment_of(fast, &s);
    return is_amidst(e, side, &s) && is_inside(e, side, &s);
}

/* Moves the window by such a segment. */
static inline ALWAYS_INLINE void move(struct dp_entry *e, uint32_t side, const struct dp_tcp_segment *s)
{
    /* In units of its scale, as it stands in the segment. */
    if (s->window > e->tcp_max_window[side])
        e->tcp_max_window[side] = s->window;
    dp_tcp_move(e, (enum dp_side)side, (enum dp_side)(side ^ 1), s->end, s->ack,
                (uint32_t)s->window << dp_tcp_scale(e, (enum dp_side)side), true);
}

/* Keeps a connection that stays so. */
static void keep_so(struct dp_conntrack *ct, struct dp_entry *e, const struct dp_fast *fast, uint32_t i)
{
    struct dp_tcp_segment s;

    if (fast->protocol == DP_PROTO_TCP) {
        dp_fast_segment_of(fast, &s);
        move(e, side_of(e, fast->direction[i]), &s);
    }
    e->last_ns = ct->now;
}

/*
 * Keeps the connection of the one check where the packet is valid in another way: it may stand elsewhere in its window,
 * or outside and pass all the same, or lead to another state, but not begin the connection anew.
 */
static NEVER_INLINE bool keep_otherwise(struct dp_conntrack *ct, const struct dp_fast *fast)
{
    const uint32_t entry = fast->check[0].entry;
    struct dp_entry *e = &ct->table.entries[entry];
    const enum dp_side side = (enum dp_side)side_of(e, fast->direction[0]);
    struct dp_tcp_segment segment;
    enum dp_cause cause;
    uint8_t next;

    if (fast->protocol == DP_PROTO_TCP) {
        dp_fast_segment_of(fast, &segment);
        if (is_amidst(e, side, &segment)) {
            if (is_inside(e, side, &segment)) {
                move(e, side, &segment);
                e->last_ns = ct->now;
                return true;
            }
            if (dp_tcp_is_old(e, (enum dp_side)(side ^ 1), segment.ack, segment.end))
                return true;
        }
        if (ct->config.reopens[e->state] && (segment.flags & (DP_TCP_FLAG_SYN | DP_TCP_FLAG_ACK)) == DP_TCP_FLAG_SYN)
            return false;
    }
    cause = dp_judge_step(ct, e, fast->protocol, &segment, side, &next);
    if (cause == DP_CAUSE_TCP_WINDOW)
        switch (dp_tcp_outside(&ct->config, &ct->resync, &ct->table, entry, side, &segment, &next)) {
        case DP_TCP_UNCHANGED:
            return true;
        case DP_TCP_RESYNCED:
            ct->resynchronised++;
            break;
        default:
            return false;
        }
    else if (cause)
        return false;
    dp_conntrack_keep(ct, entry, next);
    return true;
}

/* Keeps the connection of check 0, by which the packet passes; false, and nothing has changed, where it may not. */
static inline ALWAYS_INLINE bool keep(struct dp_conntrack *ct, struct dp_entry *e, const struct dp_fast *fast)
{
    uint32_t side = side_of(e, fast->direction[0]);

    if (fast->protocol == DP_PROTO_TCP ? is_flowing(e, side) && goes_on(e, side, fast) : stays(e, side)) {
        e->last_ns = ct->now;
        return true;
    }
    return keep_otherwise(ct, fast);
}

/* What a connection answers, behind its zone and rule: by the direction of the check, and whether it is inbound. */
struct answer {
    uint8_t direction;
    uint8_t verdict;
    uint8_t state;
    uint8_t reason;
    uint8_t origin;
    uint8_t cause;
    uint8_t unused[2];
};
_Static_assert(offsetof(struct dp_check, verdict) == offsetof(struct dp_check, direction) + 1 &&
                   offsetof(struct dp_check, state) == offsetof(struct dp_check, direction) + 2 &&
                   offsetof(struct dp_check, reason) == offsetof(struct dp_check, direction) + 3 &&
                   offsetof(struct dp_check, origin) == offsetof(struct dp_check, direction) + 4 &&
                   offsetof(struct dp_check, cause) == offsetof(struct dp_check, direction) + 5 &&
                   offsetof(struct dp_check, opened_by) == offsetof(struct dp_check, direction) + sizeof(struct answer),
               "they lie as in a check");
#define ANSWER(d, o) {d, DP_ALLOW, DP_STATE_ESTABLISHED, DP_REASON_CONNECTION, o, DP_CAUSE_NONE, {0, 0}}
static const struct answer answers[DP_DIRECTIONS][2] = {
    [DP_INGRESS] = {ANSWER(DP_INGRESS, DP_OUTBOUND), ANSWER(DP_INGRESS, DP_INBOUND)},
    [DP_EGRESS] = {ANSWER(DP_EGRESS, DP_OUTBOUND), ANSWER(DP_EGRESS, DP_INBOUND)},
};

/* Answers check `i` by its connection, and counts it for the rule that admitted that. */
static inline ALWAYS_INLINE void answer(struct dp_engine *engine, const struct dp_entry *e, const struct dp_fast *fast,
                                        uint32_t i, uint32_t length, struct dp_check *check)
{
    const struct dp_conntrack *ct = &engine->conntrack;
    uint32_t rule = e->rule;

    check->zone = e->zone_protocol >> 8;
    check->rule = rule;
    memcpy((uint8_t *)check + offsetof(struct dp_check, direction), &answers[fast->direction[i]][e->flags >> 1 & 1],
           sizeof(struct answer));
    check->opened_by = ct->openers ? ct->openers[fast->check[i].entry] : 0;
    if (rule && rule < engine->n_rule_counters) {
        engine->rule_counters[rule].traffic.packets++;
        engine->rule_counters[rule].traffic.bytes += length;
    }
}

static void add(struct dp_counter *counter, uint64_t packets, uint64_t bytes)
{
    counter->packets += packets;
    counter->bytes += bytes;
}

static void count(struct dp_engine *engine, uint8_t verdict, uint64_t packets, uint64_t bytes, uint64_t checks)
{
    add(&engine->counters.verdict[verdict], packets, bytes);
    add(&engine->answers[DP_ALLOW][DP_REASON_CONNECTION][DP_STATE_ESTABLISHED], checks * packets, checks * bytes);
}

/* A packet between two instances, or between none. */
static NEVER_INLINE bool judge_two_or_none(struct dp_engine *engine, const struct dp_fast *fast, uint32_t length,
                                           struct dp_record *record)
{
    struct dp_conntrack *ct = &engine->conntrack;

    for (uint32_t i = 0; i < fast->checks; i++) {
        const struct dp_entry *e = &ct->table.entries[fast->check[i].entry];

        if (!is_live(ct, e, fast, i) || !stays_so(e, fast, i))
            return false;
    }
    record->checks = fast->checks;
    record->verdict = fast->checks ? DP_ALLOW : DP_BYPASS;
    memset(record->check, 0, sizeof record->check);
    for (uint32_t i = 0; i < fast->checks; i++) {
        struct dp_entry *e = &ct->table.entries[fast->check[i].entry];

        keep_so(ct, e, fast, i);
        answer(engine, e, fast, i, length, &record->check[i]);
    }
    count(engine, record->verdict, 1, length, fast->checks);
    return true;
}

/*
 * Judges frames of a selection, or without one for their own. The clock is set by each packet, also by
 * one that then goes the long way: setting it again changes nothing.
 */
static inline ALWAYS_INLINE uint32_t judge(struct dp_engine *engine, const struct dp_frame *frames,
                                           const struct dp_selection *some, const uint32_t from, struct dp_fast *fast,
                                           uint32_t set, struct dp_fast_asked asked, struct dp_record *records)
{
    struct dp_conntrack *ct = &engine->conntrack;
    uint64_t packets = 0, bytes = 0;
    uint32_t k;

    for (k = 0; set & 1; k++, fast++, set >>= 1, asked.about >>= 1, asked.known >>= 1) {
        const struct dp_frame *frame = &frames[k];
        struct dp_record *record = &records[k];
        struct dp_entry *e = &ct->table.entries[fast->check[0].entry];
        bool live;

        if (some)
            engine->frames = some->number[from + k];
        dp_conntrack_advance(ct, some ? some->now_ns[from + k] : frame->time_ns);
        if (asked.known & 1) {
            live = is_cached_live(ct, e, fast);
            if (!live) {
                dp_flow_cache_forget(engine->cache, fast->hash);
                break;
            }
        } else {
            live = fast->checks == 1 && is_live(ct, e, fast, 0);
            if (live && asked.about & 1)
                put_in_cache(engine, fast);
        }
        if (live) {
            if (!keep(ct, e, fast))
                break;
            record->verdict = DP_ALLOW;
            record->checks = 1;
            answer(engine, e, fast, 0, frame->length, &record->check[0]);
            record->check[1] = (struct dp_check){0};
            packets++;
            bytes += frame->length;
        } else if (fast->checks == 1) {
            record->length = frame->length; /* for who counts */
            if (!dp_fast_judge_first(engine, fast, some ? NULL : engine->first->denied, record))
                break;
            record->check[1] = (struct dp_check){0};
        } else if (!judge_two_or_none(engine, fast, frame->length, record)) {
            break;
        }
        record->time_ns = frame->time_ns;
        record->length = frame->length;
        record->unused[0] = record->unused[1] = 0;
        if (frame->time_ns < ct->now)
            engine->counters.time_backwards++;
        /* For who observes the connections, packet by packet. */
        engine->frames++;
    }
    count(engine, DP_ALLOW, packets, bytes, 1);
    return k;
}

uint32_t dp_fast_judge(struct dp_engine *engine, const struct dp_frame *frames, struct dp_fast *fast, uint32_t set,
                       struct dp_fast_asked asked, struct dp_record *records)
{
    return judge(engine, frames, NULL, 0, fast, set, asked, records);
}

uint32_t dp_fast_judge_selected(struct dp_engine *engine, const struct dp_frame *frames,
                                const struct dp_selection *some, uint32_t from, struct dp_fast *fast, uint32_t set,
                                struct dp_fast_asked asked, struct dp_record *records)
{
    return judge(engine, frames, some, from, fast, set, asked, records);
}
