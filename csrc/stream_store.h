/*
 * stream_store.h: lines written past the caches, for who does not read them again.
 *
 * What one processor writes and another reads, again and again in the same place, is fetched from the other one each
 * time before it is written: where they have no cache in common that takes longer than judging a packet. Written past
 * the caches, where the machine can, nothing is fetched.
 */
#ifndef DP_STREAM_STORE_H
#define DP_STREAM_STORE_H

#include <stdint.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

enum { DP_LINE = 64 };

/* Copies a cache line; quickly to one that is aligned. */
static inline void dp_stream_line(void *to, const void *from)
{
#if defined(__SSE2__)
    if (((uintptr_t)to & 15) == 0) {
        for (int i = 0; i < 4; i++)
            _mm_stream_si128((__m128i *)to + i, _mm_loadu_si128((const __m128i *)from + i));
        return;
    }
#endif
    memcpy(to, from, DP_LINE);
}

/* Before another thread is told that they are there. */
static inline void dp_stream_end(void)
{
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

#endif
