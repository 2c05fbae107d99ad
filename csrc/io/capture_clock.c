/* capture_clock.c: capture_clock.h in code. */
#include "capture_clock.h"

void dp_clock_set_resolution(struct dp_capture_clock *clock, uint8_t value)
{
    uint32_t exponent = value & 0x7f;
    clock->multiplier = 1;
    clock->divisor = 1;
    clock->shift = 0;
    if (value & 0x80) {
        clock->multiplier = DP_NS_PER_S;
        clock->shift = exponent;
        return;
    }
    for (; exponent < 9; exponent++)
        clock->multiplier *= 10;
    for (; exponent > 9; exponent--) {
        /* Beyond 10^-28 not even the largest count makes a nanosecond. */
        if (clock->divisor > UINT64_MAX / 10) {
            clock->multiplier = 0;
            clock->divisor = 1;
            return;
        }
        clock->divisor *= 10;
    }
}
