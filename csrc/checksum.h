/*
 * checksum.h: whether the checksums in a packet are right (SPEC 2, option verify_checksums).
 *
 * Looked at are the IPv4 header's, and those of TCP, UDP, UDP-Lite, DCCP, ICMP, ICMPv6 and SCTP where all that they
 * cover was captured: so not in a fragment, nor in a packet that the snap length has cut.
 *
 * OFFLOADING. What a host is about to send is captured before its card has completed the checksum. So these are no
 * mistakes: a TCP or UDP checksum that is the sum of the pseudo-header alone (which is what the card is given, with the
 * length or, for Windows' large sends, without it), an SCTP checksum of 0, all of a super-packet that leaves its IP
 * length to the card (0), and whatever is below DP_FRAME_CHECKSUM_OFFLOADED. Receivers drop them where they are wrong.
 *
 * Where the header's destination is not the last one (source routes, routing headers, home addresses), the transport
 * checksum counts another address than the packet shows: it is not looked at.
 */
#ifndef DP_CHECKSUM_H
#define DP_CHECKSUM_H

#include "packet.h"

/* False when a checksum is wrong. The packet is of kind DP_PACKET_IP and was read from this frame. */
bool dp_checksum_right(const struct dp_frame *frame, const struct dp_packet *packet);

#endif
