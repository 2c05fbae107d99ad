/*
 * memory.h: arrays that may become large: reserved whole, touched only as far as they are used. All memory reads as
 * zero at first.
 */
#ifndef DP_MEMORY_H
#define DP_MEMORY_H

#include <stddef.h>

/* NULL when there is no memory. */
void *dp_reserve(size_t bytes);
/*
 * In huge pages where the kernel has them: for what is read all over. Whoever touches one first may wait for
 * milliseconds while the kernel makes it, so where packets wait for that too, call dp_populate before they come.
 */
void *dp_reserve_huge(size_t bytes);
/* Grows or shrinks; the array may move. NULL when there is no memory, and then nothing has changed. */
void *dp_reserve_again(void *memory, size_t old_bytes, size_t bytes);
/* Touches all of it now, so that nobody waits for it later; without effect before Linux 5.14. */
void dp_populate(void *memory, size_t bytes);
void dp_unreserve(void *memory, size_t bytes);

#endif
