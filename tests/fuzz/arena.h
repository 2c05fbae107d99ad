/*
 * arena.h: memory.h for fuzzers: all that an input reserves lies in one mapping, which is given back at once.
 *
 * An engine reserves a dozen arrays and touches little of them; to map and unmap each of them for every input takes
 * longer than all else. A program that includes this links it in memory.c's place. Call arena_reset() after each input,
 * when nothing that was reserved is used any more.
 */
#ifndef DP_FUZZ_ARENA_H
#define DP_FUZZ_ARENA_H

#include "memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    ARENA_BYTES = 256 * 1024 * 1024,
    ARENA_ALIGNMENT = 4096,
    SMALL_BYTES = 64 * 1024,
    ALL_SMALL_BYTES = 1024 * 1024
};

/* Small arrays stand apart: to clear them costs less than to have their pages made anew. */
static _Alignas(ARENA_ALIGNMENT) uint8_t arena_small[ALL_SMALL_BYTES];
static size_t arena_small_used;
static uint8_t *arena;
static size_t arena_used;

void *dp_reserve(size_t bytes)
{
    size_t whole = (bytes + ARENA_ALIGNMENT - 1) / ARENA_ALIGNMENT * ARENA_ALIGNMENT;

    if (whole <= SMALL_BYTES && whole <= ALL_SMALL_BYTES - arena_small_used) {
        arena_small_used += whole;
        return arena_small + arena_small_used - whole;
    }
    if (!arena) {
        arena = mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (arena == MAP_FAILED)
            abort();
        madvise(arena, ARENA_BYTES, MADV_NOHUGEPAGE);
    }
    if (whole > ARENA_BYTES - arena_used)
        return NULL;
    arena_used += whole;
    return arena + arena_used - whole;
}

/* Of plain pages here: a huge one would be made and given back for every input. */
void *dp_reserve_huge(size_t bytes)
{
    return dp_reserve(bytes);
}

void *dp_reserve_again(void *memory, size_t old_bytes, size_t bytes)
{
    void *p = dp_reserve(bytes);

    if (p)
        memcpy(p, memory, old_bytes < bytes ? old_bytes : bytes);
    return p;
}

void dp_populate(void *memory, size_t bytes)
{
    (void)memory, (void)bytes;
}

void dp_unreserve(void *memory, size_t bytes)
{
    (void)memory, (void)bytes;
}

/* All of it reads as zero again. */
static inline void arena_reset(void)
{
    if (arena && madvise(arena, arena_used, MADV_DONTNEED) < 0)
        abort();
    memset(arena_small, 0, arena_small_used);
    arena_used = arena_small_used = 0;
}

#endif
