/*
 * source.c: where the bytes of a capture come from.
 *
 * A regular file is mapped whole, read-only and private, and read once from front to back: no copy, no system call a
 * packet. Pages behind the reader are given back in steps, so that a capture larger than memory costs two steps of it
 * at most; a page given back while somebody still looks at it is read again from the file, so this never harms.
 * Reading ahead is left to the kernel (MADV_SEQUENTIAL): populating pages ahead by hand was measured and won nothing.
 *
 * Everything else (a pipe, standard input, a file that cannot be mapped) is read into one buffer. It begins at
 * BUFFER_MIN and grows to the largest record asked for, which the readers bound (DP_FRAME_MAX in capture.h).
 *
 * Guarantees
 *   1. [at, end) is always readable, and holds the bytes of the capture in order from dp_source_offset(at).
 *   2. Bytes move only inside dp_source_more().
 *   3. A source that has ended or failed says so again on each further call.
 *
 * Limit: the size of a mapped file is read once. A file that is cut short by somebody else while it is being read ends
 * the process with SIGBUS, as with every reader that maps; a capture still being written is best read through a pipe.
 */
#define _DEFAULT_SOURCE 1

#include "source.h"

#include "../dp_api.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUFFER_MIN = 256 * 1024, RELEASE_STEP = 2 * 1024 * 1024 };

void dp_source_open(struct dp_source *source, int fd)
{
    struct stat about;
    *source = (struct dp_source){.kind = DP_SOURCE_STREAM, .fd = fd};
    if (fstat(fd, &about) != 0 || !S_ISREG(about.st_mode) || about.st_size <= 0 || (uint64_t)about.st_size > SIZE_MAX)
        return;
    size_t size = (size_t)about.st_size;
    void *map = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED)
        return;
    (void)madvise(map, size, MADV_SEQUENTIAL);
    dp_source_open_memory(source, map, size);
    source->kind = DP_SOURCE_MAPPED;
}

void dp_source_open_memory(struct dp_source *source, const uint8_t *data, size_t size)
{
    *source = (struct dp_source){.kind = DP_SOURCE_MEMORY, .at = data, .base = data, .end = data + size, .fd = -1};
}

void dp_source_close(struct dp_source *source)
{
    if (source->kind == DP_SOURCE_MAPPED)
        (void)munmap((void *)(uintptr_t)source->base, (size_t)(source->end - source->base));
    free(source->buffer);
}

/* Moves what is left to the front of a buffer of at least `need` bytes. */
static int reserve(struct dp_source *source, size_t need)
{
    size_t left = dp_source_left(source);
    uint64_t offset = source->buffer ? dp_source_offset(source, source->at) : 0;
    if (need > source->capacity) {
        size_t capacity = BUFFER_MIN;
        while (capacity < need)
            capacity *= 2;
        uint8_t *buffer = malloc(capacity);
        if (!buffer)
            return DP_E_MEMORY;
        if (left)
            memcpy(buffer, source->at, left);
        free(source->buffer);
        source->buffer = buffer;
        source->capacity = capacity;
    } else if (left) {
        memmove(source->buffer, source->at, left);
    }
    source->base = source->at = source->buffer;
    source->end = source->buffer + left;
    source->base_offset = offset;
    return 0;
}

int dp_source_more(struct dp_source *source, size_t need)
{
    if (dp_source_left(source) >= need)
        return 1;
    if (source->kind != DP_SOURCE_STREAM)
        return 0;
    int error = reserve(source, need);
    if (error)
        return error;
    while (dp_source_left(source) < need) {
        size_t left = dp_source_left(source);
        ssize_t got = read(source->fd, source->buffer + left, source->capacity - left);
        if (got > 0) {
            source->end += got;
        } else if (got == 0) {
            return 0;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            struct pollfd wait = {.fd = source->fd, .events = POLLIN};
            (void)poll(&wait, 1, -1);
        } else if (errno != EINTR) {
            return DP_E_IO;
        }
    }
    return 1;
}

void dp_source_release(struct dp_source *source)
{
    if (source->kind != DP_SOURCE_MAPPED)
        return;
    size_t consumed = (size_t)(source->at - source->base);
    while (consumed - source->released >= 2 * (size_t)RELEASE_STEP) {
        (void)madvise((void *)(uintptr_t)(source->base + source->released), RELEASE_STEP, MADV_DONTNEED);
        source->released += RELEASE_STEP;
    }
}

uint64_t dp_source_size(const struct dp_source *source)
{
    return source->kind == DP_SOURCE_STREAM ? 0 : (uint64_t)(source->end - source->base);
}
