/*
 * source.c: where the bytes of a capture come from.
 *
 * A regular file is read by pread, a window at a time, into a buffer. Mapping it would spare the copy, but whoever cuts
 * a mapped file short ends the process with SIGBUS; here he ends the capture, with a fault. Everything else (a pipe,
 * standard input, a file that is compressed or still grows) is fed by whoever can wait for it and decompress it.
 *
 * A buffer grows to the largest record asked for, which the readers bound (DP_FRAME_MAX in capture.h).
 *
 * Guarantees
 *   1. [at, end) is always readable, and holds the bytes of the capture in order from dp_source_offset(at).
 *   2. Bytes move only inside dp_source_more() and dp_source_feed(). Those of frames that are handed out do not: their
 *      buffer is put aside, and what is left in it copied to another one.
 *   3. A source that has ended or failed says so again on each further call.
 *   4. No descriptor is open between two calls for a file that was given with its path.
 */
#include "source.h"

#include "../dp_api.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int dp_source_open(struct dp_source *source, int fd, const char *path)
{
    *source = (struct dp_source){.kind = DP_SOURCE_FILE, .fd = fd, .window = DP_SOURCE_WINDOW, .repeatable = true};
    (void)fstat(fd, &source->about);
    if (!path) {
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
        return 0;
    }
    source->fd = -1;
    source->path = strdup(path);
    return source->path ? 0 : DP_E_MEMORY;
}

void dp_source_open_memory(struct dp_source *source, const uint8_t *data, size_t size)
{
    *source = (struct dp_source){
        .kind = DP_SOURCE_MEMORY, .at = data, .base = data, .end = data + size, .fd = -1, .repeatable = true};
}

void dp_source_open_fed(struct dp_source *source, bool repeatable)
{
    *source = (struct dp_source){.kind = DP_SOURCE_FED, .fd = -1, .repeatable = repeatable};
}

void dp_source_close(struct dp_source *source)
{
    free(source->buffer);
    free(source->path);
}

/* Whether frames in the buffer may still be looked at. */
static bool is_looked_at(const struct dp_source *source)
{
    return source->held && source->buffer && source->held->handed > source->held->back &&
           source->held->handed > source->begun;
}

void dp_source_drop(struct dp_source *source)
{
    bool looked_at = is_looked_at(source);
    if (source->kind == DP_SOURCE_MEMORY)
        return;
    source->base_offset = dp_source_offset(source, source->at);
    source->at = source->end = source->base = NULL;
    /* What cannot be put aside is freed in the end. */
    if (looked_at && !dp_held_put(source->held, source->buffer, source->capacity, source->begun_by))
        return;
    if (!looked_at)
        free(source->buffer);
    source->buffer = NULL;
    source->capacity = 0;
}

bool dp_source_rewind(struct dp_source *source)
{
    if (!source->repeatable)
        return false;
    dp_source_drop(source);
    source->base_offset = 0;
    source->ended = false;
    if (source->kind == DP_SOURCE_MEMORY)
        source->at = source->base;
    return true;
}

/* Another buffer of at least `size` bytes; the one before is the caller's, to be put aside or freed. */
static uint8_t *begin_buffer(struct dp_source *source, size_t size)
{
    size_t capacity = DP_SOURCE_WINDOW_MIN;
    uint8_t *buffer = source->held ? dp_held_take(source->held, size, &capacity) : NULL;

    if (!buffer) {
        while (capacity < size)
            capacity *= 2;
        buffer = malloc(capacity);
    }
    if (buffer)
        source->capacity = capacity;
    return buffer;
}

/* Moves what is left to the front of a buffer of at least `size` bytes. */
static int reserve(struct dp_source *source, size_t size)
{
    size_t left = dp_source_left(source), before = source->capacity;
    uint64_t offset = dp_source_offset(source, source->at);
    bool looked_at = is_looked_at(source);
    if (size > source->capacity || looked_at) {
        uint8_t *buffer = begin_buffer(source, size);
        if (!buffer)
            return DP_E_MEMORY;
        if (left)
            memcpy(buffer, source->at, left);
        if (looked_at && !dp_held_put(source->held, source->buffer, before, source->begun_by)) {
            free(buffer);
            source->capacity = before;
            return DP_E_MEMORY;
        }
        if (!looked_at)
            free(source->buffer);
        source->buffer = buffer;
    } else if (left && source->at != source->buffer) {
        memmove(source->buffer, source->at, left);
    }
    source->begun = source->held ? source->held->handed : 0;
    source->begun_by = source->held ? source->held->thread : 0;
    source->base = source->at = source->buffer;
    source->end = source->buffer + left;
    source->base_offset = offset;
    return 0;
}

static int open_again(const struct dp_source *source)
{
    struct stat about;
    int fd = open(source->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return -1;
    if (fstat(fd, &about) == 0 && about.st_dev == source->about.st_dev && about.st_ino == source->about.st_ino)
        return fd;
    close(fd);
    errno = ESTALE;
    return -1;
}

/* Reads what fits behind `end`. Returns how much, 0 at the end of the file, or -1 with errno set. */
static ssize_t read_window(struct dp_source *source)
{
    size_t used = (size_t)(source->end - source->buffer);
    uint64_t offset = dp_source_offset(source, source->end);
    int fd = source->path ? open_again(source) : source->fd;
    ssize_t got;
    if (source->path && fd < 0)
        return -1;
    do {
        got = pread(fd, source->buffer + used, source->capacity - used, (off_t)offset);
    } while (got < 0 && errno == EINTR);
    if (source->path) {
        int error = errno;
        close(fd);
        errno = error;
    }
    if (got > 0 && offset == 0) {
        source->beginning_size = (size_t)got < DP_SOURCE_BEGINNING ? (size_t)got : DP_SOURCE_BEGINNING;
        memcpy(source->beginning, source->buffer, source->beginning_size);
    }
    return got;
}

int dp_source_more(struct dp_source *source, size_t need)
{
    if (dp_source_left(source) >= need)
        return 1;
    if (source->kind == DP_SOURCE_FED)
        return source->ended ? 0 : DP_SOURCE_STARVED;
    if (source->kind == DP_SOURCE_MEMORY)
        return 0;
    int error = reserve(source, need > source->window ? need : source->window);
    if (error)
        return error;
    while (dp_source_left(source) < need) {
        ssize_t got = read_window(source);
        if (got < 0)
            return DP_E_IO;
        if (got == 0)
            return 0;
        source->end += got;
    }
    return 1;
}

int dp_source_feed(struct dp_source *source, const uint8_t *data, size_t size)
{
    if (size == 0) {
        source->ended = true;
        return 0;
    }
    if (!source->buffer || size > source->capacity - (size_t)(source->end - source->buffer)) {
        int error = reserve(source, dp_source_left(source) + size);
        if (error)
            return error;
    }
    memcpy(source->buffer + (source->end - source->buffer), data, size);
    source->end += size;
    return 0;
}

/* Whether the file begins as it did when it was first read. */
static bool begins_the_same(const struct dp_source *source, int fd)
{
    uint8_t now[DP_SOURCE_BEGINNING];
    return pread(fd, now, source->beginning_size, 0) == (ssize_t)source->beginning_size &&
           memcmp(now, source->beginning, source->beginning_size) == 0;
}

const char *dp_source_changed(const struct dp_source *source)
{
    const struct stat *was = &source->about;
    const char *words = NULL;
    struct stat now;
    if (source->kind != DP_SOURCE_FILE || !S_ISREG(was->st_mode))
        return NULL;
    int fd = source->path ? open_again(source) : source->fd;
    if (fd < 0 || fstat(fd, &now) != 0)
        return NULL;
    bool written = now.st_mtim.tv_sec != was->st_mtim.tv_sec || now.st_mtim.tv_nsec != was->st_mtim.tv_nsec;
    if (now.st_size < was->st_size)
        words = "the file was cut short while it was read";
    /* One that has only grown is a capture that is being written: what was read of it is good. */
    else if (written && (now.st_size == was->st_size || !begins_the_same(source, fd)))
        words = "the file was changed while it was read";
    if (source->path)
        close(fd);
    return words;
}

uint64_t dp_source_size(const struct dp_source *source)
{
    switch (source->kind) {
    case DP_SOURCE_MEMORY:
        return (uint64_t)(source->end - source->base);
    case DP_SOURCE_FILE:
        return (uint64_t)source->about.st_size;
    case DP_SOURCE_FED:
        break;
    }
    return 0;
}
