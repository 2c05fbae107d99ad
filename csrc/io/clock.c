/* clock.c: the time of live traffic: monotonic nanoseconds, as dp_live.h promises. */
#include "../dp_live.h"

#include <time.h>

/* Added to the clock, so that times before the machine's start have a number too. */
#define CLOCK_OFFSET_NS 2592000000000000u

uint64_t dp_firewall_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return CLOCK_OFFSET_NS + (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
