/* flow_key.c: the secret of the hash. */
#include "flow_key.h"

/* SplitMix64 (Steele, Lea, Flood 2014): spreads the seed over as many words as are wanted. */
static uint64_t split_mix(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

void dp_hash_secret_init(struct dp_hash_secret *secret, const uint64_t *seed)
{
    uint64_t first = seed[0], second = seed[1];

    for (int i = 0; i < DP_HASH_WORDS; i++)
        secret->multiplier[i] = split_mix(&first) ^ split_mix(&second);
    secret->addend = split_mix(&first) ^ split_mix(&second);
}
