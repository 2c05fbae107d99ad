/*
 * uring.c: uring.h in code, by io_uring's three system calls.
 *
 * THE QUEUES lie in memory that the kernel shares. Requests are a ring of their own, in use from one run to the next
 * (IORING_SETUP_NO_SQARRAY: nothing says in which order but the order itself). Their answers have room for twice as
 * many and are taken after every run, so that they never overflow.
 *
 * RWF_NOWAIT goes with every request. O_NONBLOCK would not do: the kernel takes it for a wish to be called back, keeps
 * the request, and reads into the buffer or writes out of it when the descriptor is ready. With RWF_NOWAIT all is done,
 * or refused, while requests are handed over. A descriptor that does not know it (a TAP before 6.4) answers EOPNOTSUPP,
 * and the ring gives up.
 */
#include "uring.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* Of the kernel's interface, what the headers of older systems do not have; the kernel itself says what it knows. */
enum {
    SETUP_SUBMIT_ALL = 1 << 7,     /* goes on behind a request that fails */
    SETUP_SINGLE_ISSUER = 1 << 12, /* only the thread that opened it uses it */
    SETUP_DEFER_TASKRUN = 1 << 13, /* nothing happens on its behalf between calls */
    SETUP_NO_SQARRAY = 1 << 16,
    REGISTER_FILES2 = 13,
    REGISTER_SPARSE = 1 << 0,
};

struct register_files {
    uint32_t n;
    uint32_t flags;
    uint64_t unused[3];
};

/* Calls that may be in vain (EINTR, EAGAIN, EBUSY) before the ring counts as failed. */
enum { TRIES = 1000 };

/* ---- life ---- */

static int fail(struct dp_uring *ring, int error)
{
    dp_uring_close(ring);
    ring->error = error;
    return -error;
}

static void *map(const struct dp_uring *ring, size_t bytes, off_t what)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->fd, what);

    return p == MAP_FAILED ? NULL : p;
}

/* What the ring is for is all that it will do: a filter of system calls does not see what is asked of a ring. */
static bool restrict_to(const struct dp_uring *ring)
{
    struct io_uring_restriction allowed[] = {
        {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READ},
        {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_WRITE},
        {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READ_FIXED},
        {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_WRITE_FIXED},
        {.opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED, .sqe_flags = IOSQE_FIXED_FILE},
        {.opcode = IORING_RESTRICTION_REGISTER_OP, .register_op = IORING_REGISTER_FILES_UPDATE},
        {.opcode = IORING_RESTRICTION_REGISTER_OP, .register_op = IORING_UNREGISTER_FILES},
    };

    return syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_RESTRICTIONS, allowed,
                   sizeof allowed / sizeof *allowed) == 0 &&
           syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) == 0;
}

static void give_buffer(struct dp_uring *ring, void *buffer, size_t bytes)
{
    struct iovec whole = {buffer, bytes};

    if (!buffer || syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_BUFFERS, &whole, 1) != 0)
        return;
    ring->buffer = (uintptr_t)buffer;
    ring->buffer_bytes = bytes;
}

int dp_uring_open(struct dp_uring *ring, void *buffer, size_t bytes)
{
    struct io_uring_params params = {.flags = IORING_SETUP_R_DISABLED | SETUP_SUBMIT_ALL | SETUP_SINGLE_ISSUER |
                                              SETUP_DEFER_TASKRUN | SETUP_NO_SQARRAY};
    struct register_files files = {.n = DP_URING_FILES, .flags = REGISTER_SPARSE};
    uint8_t *shared;

    memset(ring, 0, sizeof *ring);
    ring->fd = (int)syscall(SYS_io_uring_setup, DP_URING_REQUESTS, &params);
    if (ring->fd < 0)
        return fail(ring, errno);
    ring->request_bytes = params.sq_entries * sizeof *ring->request;
    ring->shared_bytes = params.cq_off.cqes + params.cq_entries * sizeof *ring->answer;
    ring->shared = map(ring, ring->shared_bytes, IORING_OFF_SQ_RING);
    ring->request = map(ring, ring->request_bytes, IORING_OFF_SQES);
    if (!ring->shared || !ring->request)
        return fail(ring, ENOMEM);
    shared = ring->shared;
    ring->request_end = (void *)(shared + params.sq_off.tail);
    ring->answer_begin = (void *)(shared + params.cq_off.head);
    ring->answer_end = (void *)(shared + params.cq_off.tail);
    ring->answer = (void *)(shared + params.cq_off.cqes);
    ring->request_mask = params.sq_entries - 1;
    ring->answer_mask = params.cq_entries - 1;
    give_buffer(ring, buffer, bytes);
    /* Where there is no table, no file can be registered, and that is all. */
    (void)syscall(SYS_io_uring_register, ring->fd, REGISTER_FILES2, &files, sizeof files);
    return restrict_to(ring) ? 0 : fail(ring, errno);
}

void dp_uring_close(struct dp_uring *ring)
{
    if (ring->request)
        munmap(ring->request, ring->request_bytes);
    if (ring->shared)
        munmap(ring->shared, ring->shared_bytes);
    /* There is a descriptor. The kernel ends a ring some time after it is closed, and would hold files until then. */
    if (ring->request_bytes) {
        (void)syscall(SYS_io_uring_register, ring->fd, IORING_UNREGISTER_FILES, NULL, 0);
        close(ring->fd);
    }
    memset(ring, 0, sizeof *ring);
}

/* ---- files ---- */

static bool set_file(const struct dp_uring *ring, uint32_t number, int fd)
{
    struct io_uring_files_update update = {.offset = number, .fds = (uintptr_t)&fd};

    return syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_FILES_UPDATE, &update, 1) == 1;
}

void dp_uring_register(struct dp_uring *ring, uint32_t number, int fd)
{
    if (dp_uring_is_open(ring))
        ring->registered[number] = set_file(ring, number, fd);
}

void dp_uring_unregister(struct dp_uring *ring, uint32_t number)
{
    if (!ring->registered[number])
        return;
    ring->registered[number] = false;
    /* A file that the ring held on to would be written to under the next one's number. */
    if (!set_file(ring, number, -1))
        fail(ring, errno);
}

/* ---- requests ---- */

static bool in_buffer(const struct dp_uring *ring, uintptr_t at, uint32_t size)
{
    return size <= ring->buffer_bytes && at - ring->buffer <= ring->buffer_bytes - size;
}

static void put(struct dp_uring *ring, uint8_t what, uint32_t number, int fd, uintptr_t at, uint32_t size)
{
    bool registered = ring->registered[number];

    ring->request[ring->end++ & ring->request_mask] = (struct io_uring_sqe){
        .opcode = what,
        .flags = registered ? IOSQE_FIXED_FILE : 0,
        .fd = registered ? (int32_t)number : fd,
        .addr = at,
        .len = size,
        .rw_flags = RWF_NOWAIT,
        .user_data = ring->n++,
    };
}

void dp_uring_read(struct dp_uring *ring, uint32_t number, int fd, void *at, uint32_t size)
{
    put(ring, in_buffer(ring, (uintptr_t)at, size) ? IORING_OP_READ_FIXED : IORING_OP_READ, number, fd, (uintptr_t)at,
        size);
}

void dp_uring_write(struct dp_uring *ring, uint32_t number, int fd, const void *at, uint32_t size)
{
    put(ring, in_buffer(ring, (uintptr_t)at, size) ? IORING_OP_WRITE_FIXED : IORING_OP_WRITE, number, fd, (uintptr_t)at,
        size);
}

/* Takes the answers that are there; returns how many. */
static uint32_t take(struct dp_uring *ring, int32_t *result, uint32_t n, int *error)
{
    uint32_t begin = atomic_load_explicit(ring->answer_begin, memory_order_relaxed);
    uint32_t end = atomic_load_explicit(ring->answer_end, memory_order_acquire);

    for (uint32_t i = begin; i != end; i++) {
        const struct io_uring_cqe *answer = &ring->answer[i & ring->answer_mask];

        if (answer->res == -EOPNOTSUPP)
            *error = EOPNOTSUPP;
        else if (answer->user_data < n)
            result[answer->user_data] = answer->res;
    }
    atomic_store_explicit(ring->answer_begin, end, memory_order_release);
    return end - begin;
}

int dp_uring_run(struct dp_uring *ring, int32_t *result)
{
    uint32_t n = ring->n, handed = 0, done = 0;
    int error = 0;

    for (uint32_t i = 0; i < n; i++)
        result[i] = DP_URING_NOT_DONE;
    atomic_store_explicit(ring->request_end, ring->end, memory_order_release);
    ring->n = 0;
    for (int tries = 0; done < n && !error; tries++) {
        long went =
            syscall(SYS_io_uring_enter, ring->fd, n - handed, n - done, IORING_ENTER_GETEVENTS, NULL, (size_t)0);

        if (went >= 0)
            handed += (uint32_t)went;
        else if (errno != EINTR && errno != EAGAIN && errno != EBUSY)
            error = errno;
        done += take(ring, result, n, &error);
        if (done < n && tries == TRIES)
            error = EBUSY;
    }
    return error ? fail(ring, error) : 0;
}
