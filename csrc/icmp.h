/* icmp.h: what kind of message an ICMP or ICMPv6 type is (RFC 792, RFC 4443). */
#ifndef DP_ICMP_H
#define DP_ICMP_H

#include <stdbool.h>
#include <stdint.h>

/* Whether an ICMP or ICMPv6 type is that of a query that is tracked (SPEC 4.5); `query` is the request's type. */
bool dp_icmp_query(uint8_t protocol, uint8_t type, uint8_t *query, bool *reply);
/* Whether it is that of an error, which quotes the packet that it is about. */
bool dp_icmp_error(uint8_t protocol, uint8_t type);

#endif
