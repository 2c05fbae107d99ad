/* tcp_segment.h: what the header of a TCP segment says (RFC 9293, 3.1). */
#ifndef DP_TCP_SEGMENT_H
#define DP_TCP_SEGMENT_H

#include <stdint.h>

/* The snap length has cut the options. */
enum { DP_TCP_SCALE_CUT = -2 };

struct dp_tcp_segment {
    uint32_t seq;
    uint32_t ack;
    uint32_t end; /* seq + payload + SYN + FIN */
    uint16_t window;
    uint8_t flags;
    int8_t scale; /* window scale option of a SYN, -1 when there is none, DP_TCP_SCALE_CUT when nobody can say */
};

/* Reads the TCP segment of `length` bytes at `p`, `captured` of which are there: at least 20. Its header has `header`,
 * from 20 to `length`. */
void dp_tcp_read(const uint8_t *p, uint32_t header, uint32_t length, uint32_t captured, struct dp_tcp_segment *tcp);

#endif
