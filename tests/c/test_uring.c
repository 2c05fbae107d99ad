/*
 * test_uring.c: the promises of uring.h, by pairs of sockets, which keep writes apart as a TAP does frames.
 *
 * Where the kernel gives no ring there is nothing to test, and the program says so.
 */
#include "check.h"
#include "io/uring.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SIZE = 8, MANY = DP_URING_REQUESTS };

/* `flags`: SOCK_NONBLOCK, or 0. */
static bool pair(int fd[2], int flags)
{
    return CHECK_EQUAL(socketpair(AF_UNIX, SOCK_SEQPACKET | flags, 0, fd), 0);
}

static void close_both(const int fd[2])
{
    close(fd[0]);
    close(fd[1]);
}

/* The number that the next write to the other end brings; -1 for none. */
static int64_t arrives(int fd)
{
    int64_t number;

    return recv(fd, &number, sizeof number, MSG_DONTWAIT) == sizeof number ? number : -1;
}

/* `blocking`: nothing waits there either. */
static void test_order_and_results(int flags)
{
    struct dp_uring ring;
    int32_t result[MANY];
    int64_t sent[MANY], got[MANY];
    int fd[2];

    if (!CHECK_EQUAL(dp_uring_open(&ring, NULL, 0), 0) || !pair(fd, flags))
        return;
    CHECK(dp_uring_is_open(&ring));
    CHECK_EQUAL(dp_uring_run(&ring, result), 0); /* nothing put */
    /* More often than either queue is long. */
    for (uint32_t round = 0; round < 40; round++) {
        uint32_t n = 1 + round * 7 % 50;

        for (uint32_t i = 0; i < n; i++) {
            sent[i] = round * 1000 + i;
            dp_uring_write(&ring, 0, fd[0], &sent[i], sizeof sent[i]);
        }
        CHECK_EQUAL(dp_uring_run(&ring, result), 0);
        for (uint32_t i = 0; i < n; i++)
            CHECK_EQUAL(result[i], SIZE);
        /* Asked for more than there is: what is there comes in its order, then there is none. */
        for (uint32_t i = 0; i < MANY; i++)
            dp_uring_read(&ring, 0, fd[1], &got[i], sizeof got[i]);
        CHECK_EQUAL(dp_uring_run(&ring, result), 0);
        for (uint32_t i = 0; i < MANY; i++) {
            CHECK_EQUAL(result[i], i < n ? SIZE : -EAGAIN);
            if (i < n)
                CHECK_EQUAL(got[i], sent[i]);
        }
    }
    dp_uring_close(&ring);
    CHECK(!dp_uring_is_open(&ring));
    dp_uring_close(&ring);
    close_both(fd);
}

/* A request is over when it is answered: what comes later finds no buffer. */
static void test_nothing_is_left(void)
{
    struct dp_uring ring;
    int64_t got = -7, number = 5, full = 0;
    int32_t result[MANY];
    int fd[2];

    if (!CHECK_EQUAL(dp_uring_open(&ring, NULL, 0), 0) || !pair(fd, 0))
        return;
    dp_uring_read(&ring, 0, fd[1], &got, sizeof got);
    dp_uring_run(&ring, result);
    CHECK_EQUAL(result[0], -EAGAIN);
    CHECK_EQUAL(write(fd[0], &number, sizeof number), SIZE);
    CHECK_EQUAL(dp_uring_run(&ring, result), 0);
    CHECK_EQUAL(got, -7);
    CHECK_EQUAL(arrives(fd[1]), 5);
    /* A queue takes what it has room for, and refuses the rest. */
    for (bool refused = false; !refused && full < 1000000;) {
        for (uint32_t i = 0; i < MANY; i++)
            dp_uring_write(&ring, 0, fd[0], &number, sizeof number);
        CHECK_EQUAL(dp_uring_run(&ring, result), 0);
        for (uint32_t i = 0; i < MANY; i++) {
            refused |= result[i] == -EAGAIN;
            full += result[i] == SIZE;
        }
    }
    CHECK(full > 0 && full < 1000000);
    while (arrives(fd[1]) == 5)
        full--;
    CHECK_EQUAL(full, 0);
    CHECK_EQUAL(dp_uring_run(&ring, result), 0);
    CHECK_EQUAL(arrives(fd[1]), -1);
    /* An error concerns its own request. */
    dp_uring_write(&ring, 0, -1, &number, sizeof number);
    dp_uring_write(&ring, 0, fd[0], &number, sizeof number);
    CHECK_EQUAL(dp_uring_run(&ring, result), 0);
    CHECK_EQUAL(result[0], -EBADF);
    CHECK_EQUAL(result[1], SIZE);
    CHECK_EQUAL(arrives(fd[1]), 5);
    dp_uring_close(&ring);
    close_both(fd);
}

/* Puts a write and a read of `size` bytes at `from` and `to`, of which the answer is as if there were no buffer. */
static void pass(struct dp_uring *ring, const int fd[2], const uint8_t *from, uint8_t *to, uint32_t size)
{
    int32_t result[2] = {0};

    dp_uring_write(ring, 0, fd[0], from, size);
    dp_uring_read(ring, 0, fd[1], to, size);
    CHECK_EQUAL(dp_uring_run(ring, result), 0);
    CHECK_EQUAL(result[0], size);
    CHECK_EQUAL(result[1], size);
    CHECK(memcmp(from, to, size) == 0);
}

/* Whether the i-th of the last n requests that were put goes by the ring's buffer. */
static bool by_buffer(const struct dp_uring *ring, uint32_t n, uint32_t i)
{
    uint8_t what = ring->request[(ring->end - n + i) & ring->request_mask].opcode;

    return what == IORING_OP_READ_FIXED || what == IORING_OP_WRITE_FIXED;
}

/* The same is done inside the buffer, outside, and across its ends. */
static void test_buffer(void)
{
    enum { PAGE = 4096, BYTES = 4 * PAGE, LONG = PAGE + 100 };
    static uint8_t memory[BYTES + 2 * PAGE];
    static const struct {
        int64_t from, to;
        bool from_in, to_in;
    } cases[] = {
        {0, 2 * PAGE - 50, true, true},          {BYTES - LONG, 0, true, true},
        {BYTES - LONG + 1, 0, false, true},      {0, BYTES - LONG + 1, true, false},
        {-1, BYTES - LONG, false, true},         {2 * PAGE, -1, true, false},
        {BYTES - PAGE / 2, -PAGE, false, false}, {-PAGE, BYTES - PAGE / 2, false, false},
    };
    uint8_t *buffer = memory + PAGE;
    void *refused = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct dp_uring ring;
    int fd[2];

    if (!CHECK_EQUAL(dp_uring_open(&ring, buffer, BYTES), 0) || !pair(fd, SOCK_NONBLOCK))
        return;
    if (ring.buffer_bytes == 0)
        fprintf(stderr, "test_uring: no memory may be locked here, tested without\n");
    for (uint32_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool locked = ring.buffer_bytes != 0;

        for (uint32_t k = 0; k < LONG; k++)
            buffer[cases[i].from + k] = (uint8_t)(i + k * 7);
        pass(&ring, fd, buffer + cases[i].from, buffer + cases[i].to, LONG);
        CHECK_EQUAL(by_buffer(&ring, 2, 0), locked && cases[i].from_in);
        CHECK_EQUAL(by_buffer(&ring, 2, 1), locked && cases[i].to_in);
    }
    dp_uring_close(&ring);
    CHECK_EQUAL(ring.buffer_bytes, 0);
    /* One that the kernel does not take is none. */
    if (!CHECK_EQUAL(dp_uring_open(&ring, refused, PAGE), 0))
        return;
    CHECK_EQUAL(ring.buffer_bytes, 0);
    pass(&ring, fd, buffer, buffer + LONG, LONG);
    CHECK(!by_buffer(&ring, 2, 0) && !by_buffer(&ring, 2, 1));
    dp_uring_close(&ring);
    munmap(refused, PAGE);
    close_both(fd);
}

static void test_registered_files(void)
{
    struct dp_uring ring;
    int64_t number = 1;
    int32_t result[1];
    int first[2], second[2];
    uint8_t byte;

    if (!CHECK_EQUAL(dp_uring_open(&ring, NULL, 0), 0) || !pair(first, SOCK_NONBLOCK))
        return;
    dp_uring_register(&ring, DP_URING_FILES - 1, first[0]);
    CHECK(ring.registered[DP_URING_FILES - 1]);
    dp_uring_write(&ring, DP_URING_FILES - 1, -1, &number, sizeof number);
    dp_uring_run(&ring, result);
    CHECK_EQUAL(result[0], SIZE);
    CHECK_EQUAL(arrives(first[1]), 1);
    /* Taken out and closed, it is gone at once, and who has its number next is meant. */
    dp_uring_unregister(&ring, DP_URING_FILES - 1);
    dp_uring_unregister(&ring, DP_URING_FILES - 1);
    close(first[0]);
    CHECK_EQUAL(recv(first[1], &byte, 1, MSG_DONTWAIT), 0);
    if (!pair(second, SOCK_NONBLOCK))
        return;
    CHECK_EQUAL(second[0], first[0]);
    for (int i = 0; i < 2; i++) {
        dp_uring_write(&ring, DP_URING_FILES - 1, second[0], &number, sizeof number);
        dp_uring_run(&ring, result);
        CHECK_EQUAL(result[0], SIZE);
        CHECK_EQUAL(arrives(second[1]), 1);
        dp_uring_register(&ring, DP_URING_FILES - 1, second[0]);
    }
    /* A ring that is closed lets go of all. */
    dp_uring_close(&ring);
    close(second[0]);
    CHECK_EQUAL(recv(second[1], &byte, 1, MSG_DONTWAIT), 0);
    close(second[1]);
    close(first[1]);
}

/* Each of them closes the ring, and says what was not done. */
static void test_failures(void)
{
    struct dp_uring ring;
    int64_t number = 3;
    int32_t result[2];
    int fd[2], watching = inotify_init1(IN_NONBLOCK);

    if (!CHECK_EQUAL(dp_uring_open(&ring, NULL, 0), 0) || !pair(fd, SOCK_NONBLOCK))
        return;
    /* A descriptor that cannot be asked without waiting. */
    dp_uring_write(&ring, 0, fd[0], &number, sizeof number);
    dp_uring_read(&ring, 0, watching, &number, sizeof number);
    CHECK_EQUAL(dp_uring_run(&ring, result), -EOPNOTSUPP);
    CHECK_EQUAL(result[0], SIZE);
    CHECK_EQUAL(result[1], DP_URING_NOT_DONE);
    CHECK(!dp_uring_is_open(&ring));
    CHECK_EQUAL(ring.error, EOPNOTSUPP);
    CHECK_EQUAL(arrives(fd[1]), 3);
    dp_uring_register(&ring, 1, fd[0]);
    dp_uring_unregister(&ring, 1);
    /* A ring that the kernel knows nothing of. */
    CHECK_EQUAL(dp_uring_open(&ring, NULL, 0), 0);
    CHECK_EQUAL(ring.error, 0);
    close(ring.fd);
    CHECK_EQUAL(dup2(watching, ring.fd), ring.fd);
    dp_uring_write(&ring, 0, fd[0], &number, sizeof number);
    CHECK_EQUAL(dp_uring_run(&ring, result), -EOPNOTSUPP);
    CHECK_EQUAL(result[0], DP_URING_NOT_DONE);
    CHECK(!dp_uring_is_open(&ring));
    CHECK_EQUAL(arrives(fd[1]), -1);
    close(watching);
    close_both(fd);
}

/* Whoever takes the program over gets no other call out of the ring. */
static void test_nothing_else(void)
{
    struct io_uring_files_update update = {0};
    struct dp_uring ring;
    int64_t number = 3;
    int32_t result;
    int fd[2];

    if (!CHECK_EQUAL(dp_uring_open(&ring, NULL, 0), 0) || !pair(fd, SOCK_NONBLOCK))
        return;
    CHECK(syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_EVENTFD, &fd[0], 1) < 0 && errno == EACCES);
    CHECK_EQUAL(syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_FILES_UPDATE, &update, 0), -1);
    CHECK_EQUAL(errno, EINVAL); /* allowed, and asked to change nothing */
    dp_uring_write(&ring, 0, fd[0], &number, sizeof number);
    ring.request[(ring.end - 1) & ring.request_mask].opcode = IORING_OP_SEND;
    CHECK_EQUAL(dp_uring_run(&ring, &result), 0);
    CHECK_EQUAL(result, -EACCES);
    CHECK_EQUAL(arrives(fd[1]), -1);
    dp_uring_close(&ring);
    close_both(fd);
}

int main(void)
{
    struct dp_uring ring;

    if (dp_uring_open(&ring, NULL, 0) < 0) {
        fprintf(stderr, "test_uring: no io_uring here (%s), nothing tested\n", strerror(ring.error));
        return 0;
    }
    dp_uring_close(&ring);
    test_order_and_results(SOCK_NONBLOCK);
    test_order_and_results(0);
    RUN(test_nothing_is_left);
    RUN(test_buffer);
    RUN(test_registered_files);
    RUN(test_failures);
    RUN(test_nothing_else);
    return check_result("test_uring");
}
