/* chance.h: numbers by chance, the same ones in each run. */
#ifndef DP_TEST_CHANCE_H
#define DP_TEST_CHANCE_H

#include <stdint.h>

static uint64_t chance_state = 1;

/* A number below n. */
static inline uint32_t chance(uint32_t n)
{
    chance_state = chance_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((chance_state >> 33) % n);
}

#endif
