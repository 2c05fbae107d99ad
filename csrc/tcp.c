/*
 * tcp.c: the TCP step of tcp.h.
 *
 * ORDER. Flags that are no TCP -> the event (what the segment is) -> the table: impossible events are invalid -> the
 * handshake's own rules, which are stricter than the window -> the window -> the exact sequence number of a RST -> only
 * now the entry changes.
 *
 * HANDSHAKE. A SYN-ACK, or a RST that answers a SYN, must acknowledge that SYN and nothing else: an old SYN-ACK or a
 * blind one is refused, and the right one is still accepted after it. A SYN repeated with another sequence number
 * starts its side anew while nobody has answered.
 *
 * OLD segments, refused for their place at first, pass whatever their acknowledgement says, unless it is of what cannot
 * have been sent: the receiver looks at the sequence number first and drops them with an ACK, so that a forged one
 * moves nothing. One without data is as old as its place. In a handshake nothing is old yet.
 *
 * RST in a synchronised state (RFC 5961, 3): exactly where the other side's acknowledgements stand, or where its own
 * data end, it closes; elsewhere inside the window it passes, so that the receiver can challenge it, and the state
 * stays; outside it is invalid.
 */
#include "tcp.h"

#include "tcp_window.h"

bool dp_tcp_flags_valid(uint8_t flags)
{
    switch (flags & (DP_TCP_FLAG_SYN | DP_TCP_FLAG_FIN | DP_TCP_FLAG_RST | DP_TCP_FLAG_ACK | DP_TCP_FLAG_URG)) {
    case DP_TCP_FLAG_SYN:
    case DP_TCP_FLAG_SYN | DP_TCP_FLAG_URG:
    case DP_TCP_FLAG_SYN | DP_TCP_FLAG_ACK:
    case DP_TCP_FLAG_RST:
    case DP_TCP_FLAG_RST | DP_TCP_FLAG_ACK:
    case DP_TCP_FLAG_FIN | DP_TCP_FLAG_ACK:
    case DP_TCP_FLAG_FIN | DP_TCP_FLAG_ACK | DP_TCP_FLAG_URG:
    case DP_TCP_FLAG_ACK:
    case DP_TCP_FLAG_ACK | DP_TCP_FLAG_URG:
        return true;
    default:
        return false;
    }
}

enum dp_tcp_event dp_tcp_first_event(uint8_t flags)
{
    if (flags & DP_TCP_FLAG_RST)
        return DP_TCP_RST;
    if (flags & DP_TCP_FLAG_SYN)
        return flags & DP_TCP_FLAG_ACK ? DP_TCP_SYN_ACK : DP_TCP_SYN;
    return flags & DP_TCP_FLAG_FIN ? DP_TCP_FIN : DP_TCP_ACK;
}

static enum dp_tcp_event event_of(const struct dp_entry *e, enum dp_side peer, const struct dp_tcp_segment *s)
{
    enum dp_tcp_event event = dp_tcp_first_event(s->flags);

    /* A FIN that was seen is the last that `end` covers. */
    if ((event == DP_TCP_ACK || event == DP_TCP_FIN) && (e->tcp_scale_flags[peer] & DP_TCP_SIDE_FIN) &&
        !dp_seq_before(s->ack, e->tcp_end[peer]))
        return event == DP_TCP_ACK ? DP_TCP_ACK_FIN : DP_TCP_FIN_ACK_FIN;
    return event;
}

/* A side's first SYN, or one that starts it anew. */
static void start_side(struct dp_entry *e, enum dp_side side, const struct dp_tcp_segment *s)
{
    e->tcp_scale_flags[side] = s->scale < 0 ? 0 : (uint8_t)(DP_TCP_SIDE_SCALED | s->scale);
    if (s->scale == DP_TCP_SCALE_CUT)
        e->tcp_scale_flags[side] = DP_TCP_SIDE_LIBERAL;
    e->tcp_end[side] = s->end;
    e->tcp_max_end[side] = s->end;
    e->tcp_max_ack[side] = s->seq + 1;
    e->tcp_max_window[side] = 0;
    dp_tcp_raise_window(e, side, s->window ? s->window : 1);
}

void dp_tcp_open(struct dp_entry *e, const struct dp_tcp_segment *s)
{
    if (dp_tcp_first_event(s->flags) == DP_TCP_SYN) {
        start_side(e, DP_INITIATOR, s);
        return;
    }
    /* Picked up in mid-stream: the scales are not known, so neither side's window can be. */
    e->tcp_scale_flags[DP_INITIATOR] =
        s->flags & DP_TCP_FLAG_FIN ? DP_TCP_SIDE_LIBERAL | DP_TCP_SIDE_FIN : DP_TCP_SIDE_LIBERAL;
    e->tcp_scale_flags[DP_INITIATOR] |= DP_TCP_SIDE_ACKED;
    e->tcp_scale_flags[DP_RESPONDER] = DP_TCP_SIDE_LIBERAL;
    e->tcp_max_ack[DP_INITIATOR] = e->tcp_end[DP_RESPONDER] = s->ack;
    e->tcp_end[DP_INITIATOR] = s->end;
    dp_tcp_raise_window(e, DP_INITIATOR, s->window ? s->window : 1);
    e->tcp_max_end[DP_INITIATOR] = s->end + dp_tcp_window(e, DP_INITIATOR);
}

/* Window scaling holds only where both SYNs had the option (RFC 7323, 2.2). Where one cannot be known, none can. */
static void settle_scales(struct dp_entry *e)
{
    if ((e->tcp_scale_flags[DP_INITIATOR] | e->tcp_scale_flags[DP_RESPONDER]) & DP_TCP_SIDE_LIBERAL) {
        e->tcp_scale_flags[DP_INITIATOR] |= DP_TCP_SIDE_LIBERAL;
        e->tcp_scale_flags[DP_RESPONDER] |= DP_TCP_SIDE_LIBERAL;
        return;
    }
    if ((e->tcp_scale_flags[DP_INITIATOR] & DP_TCP_SIDE_SCALED) &&
        (e->tcp_scale_flags[DP_RESPONDER] & DP_TCP_SIDE_SCALED))
        return;
    for (int side = 0; side < DP_SIDES; side++) {
        uint32_t window = dp_tcp_window(e, (enum dp_side)side);

        e->tcp_scale_flags[side] &= (uint8_t)~(DP_TCP_SCALE_MASK | DP_TCP_SIDE_SCALED);
        e->tcp_max_window[side] = window > 65535 ? 65535 : (uint16_t)window;
    }
}

/* Whether `ack` acknowledges the SYN of `side`, with or without the data that came with it. */
static bool acks_syn(const struct dp_entry *e, enum dp_side side, uint32_t ack)
{
    uint32_t first = e->tcp_scale_flags[side] & DP_TCP_SIDE_ACKED ? e->tcp_end[side] : e->tcp_max_ack[side];

    return !dp_seq_before(ack, first) && !dp_seq_before(e->tcp_end[side], ack);
}

static bool is_opening(uint8_t state)
{
    return state == DP_CONN_TCP_SYN_SENT || state == DP_CONN_TCP_SIMULTANEOUS || state == DP_CONN_TCP_SYN_RECEIVED ||
           state == DP_CONN_TCP_SYN_RECEIVED_INITIATOR;
}

/* A plain SYN of the initiator on a connection that is established, or another SYN than the one that was answered: it
 * has lost its state and is to be told so. */
static bool is_restart(const struct dp_entry *e, enum dp_side sender, const struct dp_tcp_segment *s)
{
    if (dp_tcp_first_event(s->flags) != DP_TCP_SYN || sender != DP_INITIATOR)
        return false;
    return e->state == DP_CONN_TCP_ESTABLISHED ||
           (e->state == DP_CONN_TCP_SYN_RECEIVED && !(e->tcp_scale_flags[DP_INITIATOR] & DP_TCP_SIDE_ACKED) &&
            s->seq + 1 != e->tcp_max_ack[DP_INITIATOR]);
}

/* Moves the window on by a segment that is inside. */
static void move(struct dp_entry *e, enum dp_side sender, enum dp_side receiver, const struct dp_tcp_segment *s,
                 uint32_t ack)
{
    uint32_t window = s->flags & DP_TCP_FLAG_SYN ? s->window : (uint32_t)s->window << dp_tcp_scale(e, sender);

    if (s->flags & DP_TCP_FLAG_FIN)
        e->tcp_scale_flags[sender] |= DP_TCP_SIDE_FIN;
    dp_tcp_raise_window(e, sender, window);
    dp_tcp_move(e, sender, receiver, s->end, ack, window, s->flags & DP_TCP_FLAG_ACK);
}

/* A side whose first segment is seen without its SYN, as after a mid-stream pick-up. */
static void join_side(struct dp_entry *e, enum dp_side sender, enum dp_side receiver, const struct dp_tcp_segment *s,
                      uint32_t ack)
{
    e->tcp_end[sender] = s->end;
    dp_tcp_raise_window(e, sender, s->window ? (uint32_t)s->window << dp_tcp_scale(e, sender) : 1);
    e->tcp_max_end[sender] = s->end + dp_tcp_window(e, sender);
    if (e->tcp_max_window[receiver] == 0)
        e->tcp_end[receiver] = e->tcp_max_end[receiver] = ack;
}

/* A segment of a handshake: whether its acknowledgement and sequence number may stand in this state at all. */
static bool handshake_allows(const struct dp_entry *e, enum dp_side sender, enum dp_side receiver,
                             enum dp_tcp_event event, const struct dp_tcp_segment *s)
{
    if (event == DP_TCP_SYN_ACK)
        return acks_syn(e, receiver, s->ack);
    if (e->state != DP_CONN_TCP_SYN_SENT || event != DP_TCP_RST)
        return true;
    if (sender == DP_RESPONDER)
        return (s->flags & DP_TCP_FLAG_ACK) && acks_syn(e, DP_INITIATOR, s->ack);
    /* The initiator gives up, some stacks with the SYN's own number; or answers the challenge to it (RFC 5961, 4). */
    return s->seq == e->tcp_end[DP_INITIATOR] || s->seq == e->tcp_max_ack[DP_INITIATOR] ||
           s->seq + 1 == e->tcp_max_ack[DP_INITIATOR] ||
           ((e->tcp_scale_flags[DP_RESPONDER] & DP_TCP_SIDE_ACKED) && s->seq == e->tcp_max_ack[DP_RESPONDER]);
}

/* Whether this SYN begins its side of the connection, or begins it anew while the handshake lasts. */
static bool starts_side(const struct dp_entry *e, enum dp_side sender, enum dp_tcp_event event,
                        const struct dp_tcp_segment *s)
{
    if (event != DP_TCP_SYN && event != DP_TCP_SYN_ACK)
        return false;
    if (e->tcp_max_window[sender] == 0)
        return true;
    /* One repeated without its data (RFC 7413, 4.2.2) takes nothing back: its first copy may be what is answered. */
    if (event == DP_TCP_SYN)
        return e->state == DP_CONN_TCP_SYN_SENT && sender == DP_INITIATOR && s->end != e->tcp_end[sender] &&
               (s->seq + 1 != e->tcp_max_ack[sender] || dp_seq_before(e->tcp_end[sender], s->end));
    /* Who keeps no half-open connections answers each SYN anew, anywhere; data may have followed a repeated one. */
    return is_opening(e->state) && sender == DP_RESPONDER && s->seq + 1 != e->tcp_max_ack[sender] &&
           (!dp_seq_before(s->end, e->tcp_end[sender]) ||
            !dp_tcp_is_inside(e, DP_RESPONDER, DP_INITIATOR, s->seq, s->ack, s->end));
}

/* Where a RST stands; false: before everything that was acknowledged. Half-open, there is nothing to challenge yet. */
static bool reset_allows(const struct dp_entry *e, enum dp_side sender, enum dp_side receiver,
                         const struct dp_tcp_segment *s, uint8_t *next)
{
    bool acked = e->tcp_scale_flags[receiver] & DP_TCP_SIDE_ACKED, opening = is_opening(e->state);

    if (!acked && opening)
        return true;
    if ((acked && s->seq == e->tcp_max_ack[receiver]) || s->seq == e->tcp_end[sender])
        return true;
    if (!opening)
        *next = e->state;
    return !acked || !dp_seq_before(s->seq, e->tcp_max_ack[receiver]);
}

enum dp_cause dp_tcp_step(const struct dp_conntrack_config *config, struct dp_entry *e, enum dp_side sender,
                          const struct dp_tcp_segment *s, uint8_t *next)
{
    enum dp_side receiver = sender == DP_INITIATOR ? DP_RESPONDER : DP_INITIATOR;
    struct dp_entry kept;
    enum dp_tcp_event event;
    uint32_t ack = s->ack;
    bool joined = false, outside;

    if (!dp_tcp_flags_valid(s->flags))
        return DP_CAUSE_TCP_FLAGS;
    event = event_of(e, receiver, s);
    *next = config->tcp_next[e->state][sender][event];
    if (*next == DP_CONN_INVALID)
        return DP_CAUSE_TCP_STATE;
    if (is_opening(e->state) && !handshake_allows(e, sender, receiver, event, s))
        return DP_CAUSE_TCP_WINDOW;
    if (e->state == DP_CONN_TCP_SYN_SENT && event == DP_TCP_RST)
        return DP_CAUSE_NONE;
    if (e->state == DP_CONN_TCP_SYN_SENT && sender == DP_RESPONDER && event == DP_TCP_ACK) {
        /* A challenge to the SYN, or the first step of a split handshake: kept for the RST that may answer it. */
        e->tcp_max_ack[DP_RESPONDER] = ack;
        e->tcp_scale_flags[DP_RESPONDER] |= DP_TCP_SIDE_ACKED;
        return DP_CAUSE_NONE;
    }
    if (starts_side(e, sender, event, s)) {
        start_side(e, sender, s);
        if (sender == DP_RESPONDER) {
            settle_scales(e);
            /* Data in the SYN was sent before any window was offered: whatever this one is, its sender may go back. */
            if (!(e->tcp_scale_flags[DP_INITIATOR] & DP_TCP_SIDE_ACKED))
                dp_tcp_raise_window(e, DP_RESPONDER, e->tcp_end[DP_INITIATOR] - e->tcp_max_ack[DP_INITIATOR]);
        }
        /* A server may fill the window of the SYN before anything of its own is acknowledged (RFC 7413, 3.1). */
        e->tcp_max_end[sender] = dp_seq_later(s->end, s->seq + 1 + dp_tcp_window(e, receiver));
        if (event == DP_TCP_SYN)
            return DP_CAUSE_NONE;
        move(e, sender, receiver, s, ack);
        return DP_CAUSE_NONE;
    }
    /* Without ACK, or in the RST of stacks that set it with a zero, the acknowledgement says nothing. */
    if (!(s->flags & DP_TCP_FLAG_ACK) || ((s->flags & DP_TCP_FLAG_RST) && ack == 0))
        ack = e->tcp_end[receiver];
    if (e->tcp_max_window[sender] == 0) {
        kept = *e;
        join_side(e, sender, receiver, s, ack);
        joined = true;
    }
    outside = !(e->tcp_scale_flags[sender] & DP_TCP_SIDE_LIBERAL) &&
              !dp_tcp_is_inside(e, sender, receiver, s->seq, ack, s->end);
    /* A side is not known by its RST, which may be a guess. */
    if (joined && event == DP_TCP_RST) {
        *e = kept;
        joined = false;
    }
    if (!config->tcp_be_liberal && (outside || (event == DP_TCP_RST && !reset_allows(e, sender, receiver, s, next)))) {
        if (joined)
            *e = kept;
        return DP_CAUSE_TCP_WINDOW;
    }
    if (is_restart(e, sender, s))
        return DP_CAUSE_TCP_WINDOW;
    /* A SYN in a connection that has been opened is left to be challenged (RFC 5961, 4): it says nothing new. */
    if (event != DP_TCP_RST && (!(s->flags & DP_TCP_FLAG_SYN) || is_opening(e->state)))
        move(e, sender, receiver, s, ack);
    return DP_CAUSE_NONE;
}

/* ---- outside the window ---- */

static bool may_agree(const struct dp_entry *e, const struct dp_tcp_segment *s)
{
    return !is_opening(e->state) && (s->flags & DP_TCP_FLAG_ACK) && !(s->flags & (DP_TCP_FLAG_SYN | DP_TCP_FLAG_RST));
}

/* Puts the window where `s` of `sender` and a refused segment of the receiver, of this window, agree that they are. */
static void take_place(struct dp_entry *e, enum dp_side sender, enum dp_side receiver, const struct dp_tcp_segment *s,
                       uint32_t receiver_window)
{
    uint32_t window = (uint32_t)s->window << dp_tcp_scale(e, sender);

    /* The FIN of a side that has gone on was not of the stream that it sends now. */
    if (e->tcp_end[receiver] != s->ack)
        e->tcp_scale_flags[receiver] &= (uint8_t)~DP_TCP_SIDE_FIN;
    if (e->tcp_end[sender] != s->end)
        e->tcp_scale_flags[sender] &= (uint8_t)~DP_TCP_SIDE_FIN;
    if (s->flags & DP_TCP_FLAG_FIN)
        e->tcp_scale_flags[sender] |= DP_TCP_SIDE_FIN;
    e->tcp_scale_flags[sender] |= DP_TCP_SIDE_ACKED;
    e->tcp_scale_flags[receiver] |= DP_TCP_SIDE_ACKED;
    e->tcp_end[sender] = s->end;
    e->tcp_end[receiver] = e->tcp_max_ack[sender] = s->ack;
    e->tcp_max_ack[receiver] = s->seq;
    dp_tcp_raise_window(e, sender, window);
    dp_tcp_raise_window(e, receiver, receiver_window);
    e->tcp_max_end[receiver] = s->ack + (window ? window : 1);
    e->tcp_max_end[sender] = dp_seq_later(s->end, s->seq + (receiver_window ? receiver_window : 1));
}

enum dp_tcp_outside dp_tcp_outside(const struct dp_conntrack_config *config, struct dp_resync *resync,
                                   const struct dp_flow_table *table, uint32_t entry, enum dp_side sender,
                                   const struct dp_tcp_segment *s, uint8_t *next)
{
    enum dp_side receiver = sender == DP_INITIATOR ? DP_RESPONDER : DP_INITIATOR;
    struct dp_entry *e = &table->entries[entry];
    struct dp_disagreement *kept;

    if (is_restart(e, sender, s))
        return DP_TCP_UNCHANGED;
    if (!may_agree(e, s))
        return DP_TCP_REFUSED;
    if (dp_tcp_is_old(e, receiver, s->ack, s->end))
        return DP_TCP_UNCHANGED;
    kept = dp_resync_find(resync, table, entry);
    if (!kept || !dp_resync_agrees(kept, sender, s))
        return DP_TCP_REFUSED;
    take_place(e, sender, receiver, s, kept->window[receiver]);
    kept->entry = 0;
    *next = config->tcp_next[e->state][sender][event_of(e, receiver, s)];
    if (*next == DP_CONN_INVALID)
        *next = e->state;
    return DP_TCP_RESYNCED;
}

void dp_tcp_refuse(struct dp_resync *resync, const struct dp_flow_table *table, uint32_t entry, enum dp_side side,
                   const struct dp_tcp_segment *s)
{
    const struct dp_entry *e = &table->entries[entry];

    if (may_agree(e, s))
        dp_resync_refuse(resync, table, entry, side, s, (uint32_t)s->window << dp_tcp_scale(e, side));
}
