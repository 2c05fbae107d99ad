/* prefix.h: addresses and prefixes as dp_tables.h has them, in 16 bytes: which covers which, and in what order. */
#ifndef DP_PREFIX_H
#define DP_PREFIX_H

#include "dp_tables.h"

#include <stdbool.h>
#include <string.h>

/* => The prefix has at most 128 bits, or 32 where the address is IPv4. Bits behind them are not looked at. */
static inline bool dp_prefix_covers(const struct dp_prefix *prefix, const uint8_t *address)
{
    uint32_t bytes = prefix->bits / 8, rest = prefix->bits % 8;

    return memcmp(prefix->address, address, bytes) == 0 &&
           (!rest || (prefix->address[bytes] ^ address[bytes]) >> (8 - rest) == 0);
}

/* Shorter ones first, then by address: less than, equal to or more than 0, as for qsort. */
static inline int dp_prefix_order(const struct dp_prefix *a, const struct dp_prefix *b)
{
    if (a->bits != b->bits)
        return a->bits < b->bits ? -1 : 1;
    return memcmp(a->address, b->address, sizeof a->address);
}

#endif
