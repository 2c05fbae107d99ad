/*
 * capture_clock.h: times as pcapng writes them, in nanoseconds.
 *
 * An interface counts units of 10^-r or 2^-r seconds since 1970 plus an offset in seconds. In nanoseconds a
 * count is (count * multiplier >> shift) / divisor, taken in 128 bits: 10^-r with r <= 9 multiplies by 10^(9-r), with
 * r > 9 divides by 10^(r-9), and 2^-r multiplies by 10^9 and shifts by r. Only one of shift and divisor is ever used.
 * Counts are unsigned, but some writers let them run below zero: one that would lie beyond DP_TIME_MAX and is negative
 * when read as signed is taken to be negative, before 1970.
 *
 * No value of resolution, offset or count overflows, divides by zero or shifts too far: times saturate.
 */
#ifndef DP_IO_CAPTURE_CLOCK_H
#define DP_IO_CAPTURE_CLOCK_H

#include <stdint.h>

#define DP_TIME_MAX ((uint64_t)INT64_MAX)
#define DP_NS_PER_S UINT64_C(1000000000)

__extension__ typedef unsigned __int128 dp_wide;
__extension__ typedef __int128 dp_wide_signed;

struct dp_capture_clock {
    uint64_t multiplier;
    uint64_t divisor;
    int64_t offset_s;
    uint32_t shift;
};

/* The units of a clock, by the value of pcapng's option if_tsresol: 10^-value, or with its highest bit 2^-value. */
void dp_clock_set_resolution(struct dp_capture_clock *clock, uint8_t value);

static inline dp_wide_signed dp_clock_scale(const struct dp_capture_clock *clock, uint64_t count)
{
    dp_wide scaled = (dp_wide)count * clock->multiplier >> clock->shift;
    return (dp_wide_signed)(clock->divisor > 1 ? (uint64_t)scaled / clock->divisor : scaled);
}

/* A count of these units in nanoseconds since 1970, within 0 .. DP_TIME_MAX; once for each packet. */
static inline uint64_t dp_clock_ns(const struct dp_capture_clock *clock, uint64_t count)
{
    dp_wide_signed time = dp_clock_scale(clock, count);
    if (time > (dp_wide_signed)DP_TIME_MAX && count > INT64_MAX)
        time = -dp_clock_scale(clock, 0 - count);
    time += (dp_wide_signed)clock->offset_s * (dp_wide_signed)DP_NS_PER_S;
    if (time < 0)
        return 0;
    return time > (dp_wide_signed)DP_TIME_MAX ? DP_TIME_MAX : (uint64_t)time;
}

#endif
