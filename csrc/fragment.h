/*
 * fragment.h: virtual reassembly: every fragment gets the answer of its datagram (SPEC 4.6).
 *
 * THE DATAGRAM. Fragments belong together by family, addresses, identifier, protocol (IPv4), VLANs, the instances on
 * both sides, and where there are ports, the one that they came by. The first fragment has the transport header: it is
 * judged, and its answer is kept here. Later fragments get a copy of it. Those that come before the first wait for it;
 * the caller is told of them when the answer is there.
 *
 * LIFE. A datagram is kept for 30 s from its first packet; what waits longer is refused. Once all of it was seen, a
 * fragment that comes twice still gets its answer; the first fragment again, or any other, begins a new datagram.
 * A fragment that overlaps another (other than one that came twice as it is), reaches beyond 65,535 bytes or the
 * datagram's end, or is one too many, is refused and spoils its datagram: what comes after it is refused too. A first
 * fragment as long as the one before but with another transport header is another datagram's, whose identifier was used
 * again while this one was not complete: it is judged for itself, and takes this one's place.
 *
 * CHANGES. An answer is the policy's of then. What is kept of the first fragment lets the caller look at an allowed
 * datagram once more behind a change (judge.h); a first fragment that comes again behind one is judged afresh. With
 * another transport header than one that was allowed before the change, it spoils the datagram: its receiver may have
 * kept that one.
 *
 * BOUNDS, and who gives way: datagram_table.h. Nothing is allocated per packet.
 */
#ifndef DP_FRAGMENT_H
#define DP_FRAGMENT_H

#include "datagram_table.h"

/* What a fragment meets. */
enum dp_fragment_fate {
    DP_FRAGMENT_JUDGE, /* the first: judge it, then call dp_fragments_answer */
    DP_FRAGMENT_COPY,  /* a later one: its datagram's answer is in the record */
    DP_FRAGMENT_WAIT,  /* the first has not come yet */
    DP_FRAGMENT_REFUSE /* invalid */
};

/*
 * A fragment comes by `port` (or DP_NO_PORT), `number`ed by the caller, later than all before it, and behind change
 * number `change`. DP_FRAGMENT_COPY and _REFUSE: the checks are written to `record`. DP_FRAGMENT_WAIT (only if it may):
 * packet and record are kept as copies. DP_FRAGMENT_JUDGE and _COPY: `datagram` is set, for the next two.
 */
enum dp_fragment_fate dp_fragments_add(struct dp_fragments *fragments, const struct dp_packet *packet,
                                       const uint32_t *zone, uint32_t port, uint64_t now_ns, uint32_t change,
                                       uint64_t number, bool may_wait, struct dp_record *record, uint32_t *datagram);
/* The first fragment of `datagram`; it holds until the next call of another function. */
struct dp_fragment_first *dp_fragments_first(struct dp_fragments *fragments, uint32_t datagram);
/* The answer for the first fragment of `datagram`, or another from now on; whoever waited for it is told. */
void dp_fragments_answer(struct dp_fragments *fragments, uint32_t datagram, const struct dp_record *record);
/* Refuses whatever waits and has a number up to `number`. */
void dp_fragments_give_up(struct dp_fragments *fragments, uint64_t number);

/* Gives up what is kept of retired numbers: the datagrams of zones, and in answers the rules that they had. */
void dp_fragments_forget(struct dp_fragments *fragments, const struct dp_retired *retired);

#endif
