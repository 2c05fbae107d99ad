/*
 * uring.h: many reads or writes of descriptors in one system call: as much of io_uring as ports need.
 *
 * A RING belongs to one thread, which opens it, uses it and closes it; all zero is a closed one. Requests are put into
 * it, DP_URING_REQUESTS at most, and dp_uring_run carries them out, one after the other in their order.
 *
 * NOTHING WAITS. A descriptor that has nothing, or takes no more, answers -EAGAIN at once, whether it is non-blocking
 * or not. So no request is left when dp_uring_run returns, and buffers and descriptors are the caller's again.
 *
 * A BUFFER that is given to the ring when it opens is pinned in memory until it closes. Requests that lie in it cost
 * less: the kernel knows its pages. It is locked memory by the system's count (RLIMIT_MEMLOCK); where it may not be,
 * and for requests that lie elsewhere, all goes on without.
 *
 * FILES. Requests of a descriptor that is registered cost less. The ring holds it open, whoever closes it: it must be
 * taken out of the ring first.
 *
 * NOTHING ELSE can be had from it than to read and to write: a filter of system calls (seccomp) would not see the rest.
 *
 * ERRORS are errno's numbers, negative. A ring that fails closes itself for good: whoever uses one can do without.
 */
#ifndef DP_IO_URING_H
#define DP_IO_URING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DP_URING_REQUESTS = 64, DP_URING_FILES = 1024 };
/* The result of a request that was not carried out, because the ring failed: no error has this number. */
enum { DP_URING_NOT_DONE = INT32_MIN };

struct io_uring_sqe;
struct io_uring_cqe;

struct dp_uring {
    struct io_uring_sqe *request; /* NULL while it is closed */
    size_t request_bytes;
    void *shared; /* with the kernel: the two queues' ends, and what came of requests */
    size_t shared_bytes;
    _Atomic uint32_t *request_end;
    _Atomic uint32_t *answer_begin;
    _Atomic uint32_t *answer_end;
    const struct io_uring_cqe *answer;
    uintptr_t buffer;
    size_t buffer_bytes; /* 0 where there is none, or it may not be locked */
    uint32_t request_mask;
    uint32_t answer_mask;
    uint32_t end; /* of the requests that are put */
    uint32_t n;   /* of them, since the last run */
    int fd;
    int error; /* why it could not be opened, or closed itself; 0 otherwise */
    bool registered[DP_URING_FILES];
};

static inline bool dp_uring_is_open(const struct dp_uring *ring)
{
    return ring->request != NULL;
}

/*
 * Opens it, with a buffer (NULL for none) that outlives it. 0 or an error: ENOSYS, EINVAL from kernels before 6.6;
 * EPERM where it is forbidden.
 */
int dp_uring_open(struct dp_uring *ring, void *buffer, size_t bytes);
/* Nothing to do for a closed one. */
void dp_uring_close(struct dp_uring *ring);

/* Registers a descriptor under a number below DP_URING_FILES; goes on without where that fails. */
void dp_uring_register(struct dp_uring *ring, uint32_t number, int fd);
/* Lets go of it; nothing to do for one that is not registered. */
void dp_uring_unregister(struct dp_uring *ring, uint32_t number);

/* Put a request. `number` is that of the descriptor where it is registered. */
void dp_uring_read(struct dp_uring *ring, uint32_t number, int fd, void *at, uint32_t size);
void dp_uring_write(struct dp_uring *ring, uint32_t number, int fd, const void *at, uint32_t size);
/*
 * Carries out what was put: result[i] is what read() or write() would return for the i-th request, or a negative error.
 * 0, or the error by which the ring failed; what was not done has the result DP_URING_NOT_DONE then.
 */
int dp_uring_run(struct dp_uring *ring, int32_t *result);

#endif
