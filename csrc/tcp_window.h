/*
 * tcp_window.h: the sequence window of tcp.h, asked and moved: for tcp.c, which knows all of a connection's life, and
 * for the fast path, which knows segments of an established one. Numbers compare as of RFC 9293, 3.4: modulo 2^32.
 */
#ifndef DP_TCP_WINDOW_H
#define DP_TCP_WINDOW_H

#include "flow_table.h"

/* What tcp_scale_flags of a side holds beside its scale. */
enum {
    DP_TCP_SCALE_MASK = 0x0f,
    DP_TCP_SIDE_LIBERAL = 0x10, /* its window cannot be known */
    DP_TCP_SIDE_ACKED = 0x20,   /* it has acknowledged something */
    DP_TCP_SIDE_FIN = 0x40,
    DP_TCP_SIDE_SCALED = 0x80
};
enum { DP_TCP_ACK_WINDOW_LEAST = 66000 };

static inline bool dp_seq_before(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) < 0;
}

static inline uint32_t dp_seq_later(uint32_t a, uint32_t b)
{
    return dp_seq_before(a, b) ? b : a;
}

static inline uint32_t dp_tcp_scale(const struct dp_entry *e, enum dp_side side)
{
    return e->tcp_scale_flags[side] & DP_TCP_SCALE_MASK;
}

/* Bytes. */
static inline uint32_t dp_tcp_window(const struct dp_entry *e, enum dp_side side)
{
    return (uint32_t)e->tcp_max_window[side] << dp_tcp_scale(e, side);
}

static inline void dp_tcp_raise_window(struct dp_entry *e, enum dp_side side, uint32_t window)
{
    uint32_t scale = dp_tcp_scale(e, side), units = (window >> scale) + ((window & ((1u << scale) - 1)) != 0);

    if (units > 65535)
        units = 65535;
    if (units > e->tcp_max_window[side])
        e->tcp_max_window[side] = (uint16_t)units;
}

/* The four conditions of tcp.h. */
static inline __attribute__((always_inline)) bool dp_tcp_is_inside(const struct dp_entry *e, enum dp_side sender,
                                                                   enum dp_side receiver, uint32_t seq, uint32_t ack,
                                                                   uint32_t end)
{
    uint32_t back = dp_tcp_window(e, sender), edge = e->tcp_max_end[sender];

    if (back < DP_TCP_ACK_WINDOW_LEAST)
        back = DP_TCP_ACK_WINDOW_LEAST;
    return !dp_seq_before(edge, seq) && (seq != edge || end - seq <= 1) &&
           (e->tcp_max_window[receiver] == 0 || !dp_seq_before(end, e->tcp_end[sender] - dp_tcp_window(e, receiver))) &&
           !dp_seq_before(dp_seq_later(e->tcp_end[receiver], e->tcp_max_end[receiver]), ack) &&
           !dp_seq_before(ack, e->tcp_end[receiver] - back);
}

/* Whether the receiver has acknowledged all of a segment, and could have been sent what it acknowledges. */
static inline bool dp_tcp_is_old(const struct dp_entry *e, enum dp_side receiver, uint32_t ack, uint32_t end)
{
    return (e->tcp_scale_flags[receiver] & DP_TCP_SIDE_ACKED) && !dp_seq_before(e->tcp_max_ack[receiver], end) &&
           !dp_seq_before(dp_seq_later(e->tcp_end[receiver], e->tcp_max_end[receiver]), ack);
}

/* Moves the window on by a segment that is inside and ends at `end`, but for what raises the sender's own, which is
 * done before; `window` is in bytes, `acks` says that it has an acknowledgement. */
static inline __attribute__((always_inline)) void dp_tcp_move(struct dp_entry *e, enum dp_side sender,
                                                              enum dp_side receiver, uint32_t end, uint32_t ack,
                                                              uint32_t window, bool acks)
{
    e->tcp_end[sender] = dp_seq_later(e->tcp_end[sender], end);
    if (acks) {
        e->tcp_max_ack[sender] =
            e->tcp_scale_flags[sender] & DP_TCP_SIDE_ACKED ? dp_seq_later(e->tcp_max_ack[sender], ack) : ack;
        e->tcp_scale_flags[sender] |= DP_TCP_SIDE_ACKED;
        e->tcp_end[receiver] = dp_seq_later(e->tcp_end[receiver], ack);
    }
    if (e->tcp_max_window[receiver] && dp_seq_before(e->tcp_max_end[sender], end))
        dp_tcp_raise_window(e, receiver, dp_tcp_window(e, receiver) + (end - e->tcp_max_end[sender]));
    /* A zero window lets one byte through: the probe (RFC 9293, 3.8.6.1). */
    e->tcp_max_end[receiver] = dp_seq_later(e->tcp_max_end[receiver], ack + (window ? window : 1));
}

#endif
