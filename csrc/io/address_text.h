/*
 * address_text.h: addresses as people write them: IPv4 with dots, IPv6 by RFC 5952.
 *
 * Both functions return what is behind the text. They write at most DP_ADDRESS_TEXT_MAX bytes, some of them behind it,
 * and no zero at its end.
 */
#ifndef DP_ADDRESS_TEXT_H
#define DP_ADDRESS_TEXT_H

#include <stdint.h>

enum { DP_ADDRESS_TEXT_MAX = 48 };

char *dp_ipv4_text(char *at, const uint8_t address[4]);
char *dp_ipv6_text(char *at, const uint8_t address[16]);

#endif
