/* memory.c: reserved memory from mmap. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* mremap */
#endif
#include "memory.h"

#include <sys/mman.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

void *dp_reserve(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

void *dp_reserve_huge(size_t bytes)
{
    void *p = dp_reserve(bytes);

    if (p)
        madvise(p, bytes, MADV_HUGEPAGE);
    return p;
}

void *dp_reserve_again(void *memory, size_t old_bytes, size_t bytes)
{
    void *p = mremap(memory, old_bytes, bytes, MREMAP_MAYMOVE);

    return p == MAP_FAILED ? NULL : p;
}

void dp_populate(void *memory, size_t bytes)
{
    madvise(memory, bytes, MADV_POPULATE_WRITE);
}

void dp_unreserve(void *memory, size_t bytes)
{
    if (memory)
        munmap(memory, bytes);
}
