/*
 * tcp.h: one TCP segment against one connection entry (SPEC 4.4): the transition table that Python hands over, and the
 * sequence window.
 *
 * THE WINDOW is van Rooij's ("Real Stateful TCP Packet Filtering in IP Filter", 2000) as nf_conntrack has it. For each
 * side the entry keeps, in sequence numbers:
 *   end      the highest sequence number it has sent, plus one
 *   max_end  the highest that it may send: acknowledgement plus window of the other side
 *   max_ack  the highest acknowledgement it has sent; before its first one, its own first sequence number plus one
 *   window   the largest window it has advertised, in units of its scale (16 bits are enough then)
 * A segment from `sender` to `receiver` is inside when
 *   I    seq < sender.max_end                      it begins where the receiver said there is room; at its end no
 *                                                  more than one number: a FIN, a probe
 *   II   end >= sender.end - receiver.window       and is not older than a whole window
 *   III  ack <= max(receiver.end, receiver.max_end)  it acknowledges what was sent, or, where the capture lost that,
 *                                                  what could have been sent
 *   IV   ack >= receiver.end - max(sender.window, 66000)
 *
 * GUARANTEE. A segment that is refused changes nothing in the entry.
 *
 * OUTSIDE THE WINDOW (SPEC 4.4) a segment is refused with three exceptions. Two pass and change nothing: what the
 * receiver has acknowledged already, which it answers with an ACK (RFC 9293, 3.10.7.4), and the initiator's plain SYN
 * on an established connection, or one that is not the SYN that was answered, which it challenges (RFC 5961, 4). And a
 * segment that agrees with one of the other side's that was refused takes the window to the place that both stand at
 * (resync.h).
 */
#ifndef DP_TCP_H
#define DP_TCP_H

#include "resync.h"

/* Combinations of SYN, FIN, RST and ACK that TCP knows; the others are no TCP (SPEC 4.4). */
bool dp_tcp_flags_valid(uint8_t flags);

/* What a first segment is to the transition table. */
enum dp_tcp_event dp_tcp_first_event(uint8_t flags);

/* Writes the first segment of a connection into a new entry. */
void dp_tcp_open(struct dp_entry *entry, const struct dp_tcp_segment *segment);

/*
 * Holds a segment of `side` against the entry. DP_CAUSE_NONE: it is valid, the entry's window has moved, and *next is
 * the state to go to. Otherwise the cause why it is not; after DP_CAUSE_TCP_WINDOW dp_tcp_outside says what it is still
 * good for.
 */
enum dp_cause dp_tcp_step(const struct dp_conntrack_config *config, struct dp_entry *entry, enum dp_side side,
                          const struct dp_tcp_segment *segment, uint8_t *next);

enum dp_tcp_outside { DP_TCP_REFUSED, DP_TCP_UNCHANGED, DP_TCP_RESYNCED };

/*
 * What a segment comes to that dp_tcp_step has refused for its place. DP_TCP_UNCHANGED: it passes and changes nothing.
 * DP_TCP_RESYNCED: it is valid, the window stands where both sides do, and *next is the state to go to.
 */
enum dp_tcp_outside dp_tcp_outside(const struct dp_conntrack_config *config, struct dp_resync *resync,
                                   const struct dp_flow_table *table, uint32_t entry, enum dp_side side,
                                   const struct dp_tcp_segment *segment, uint8_t *next);
/* Keeps a segment that was refused for its place, if the other side may agree with it. */
void dp_tcp_refuse(struct dp_resync *resync, const struct dp_flow_table *table, uint32_t entry, enum dp_side side,
                   const struct dp_tcp_segment *segment);

#endif
