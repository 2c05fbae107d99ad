/* bytes.h: integers out of network byte order, from memory that need not be aligned. Callers have checked the bounds.
 */
#ifndef DP_BYTES_H
#define DP_BYTES_H

#include <stdint.h>
#include <string.h>

static inline uint16_t dp_get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t dp_get32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof v);
    return __builtin_bswap32(v);
}

/* Four bytes as they stand, for comparing and hashing. */
static inline uint32_t dp_raw32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof v);
    return v;
}

#endif
