/*
 * round_trip.c: a byte there and back by TCP, again and again, and how long that takes.
 *
 *   round_trip serve PORT
 *   round_trip ask ADDRESS PORT SECONDS
 *
 * The one that asks prints the median and the 99th percentile in microseconds. The one that serves runs until it is
 * ended.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { TRIPS_MAX = 4000000, WARM_UP = 2000 };

static uint64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static int failed(const char *what)
{
    perror(what);
    return 1;
}

static void without_delay(int fd)
{
    int one = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static int serve(uint16_t port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) < 0 || listen(fd, 8) < 0)
        return failed("serve");
    for (;;) {
        int asked = accept(fd, NULL, NULL);
        char byte;

        if (asked < 0)
            return failed("serve");
        without_delay(asked);
        while (read(asked, &byte, 1) == 1 && write(asked, &byte, 1) == 1)
            ;
        close(asked);
    }
}

static bool trip(int fd)
{
    char byte = 'x';

    return write(fd, &byte, 1) == 1 && read(fd, &byte, 1) == 1;
}

static int shorter_first(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

static int ask(const char *address, uint16_t port, double seconds)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = inet_addr(address)};
    struct timeval patience = {.tv_sec = 1};
    uint32_t *took = malloc(TRIPS_MAX * sizeof *took);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    uint64_t began, before;
    size_t n = 0;

    if (!took || fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof at) < 0)
        return failed("ask");
    without_delay(fd);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    for (int i = 0; i < WARM_UP; i++)
        trip(fd);
    began = now();
    while (n < TRIPS_MAX && (double)((before = now()) - began) < seconds * 1e9)
        if (trip(fd))
            took[n++] = (uint32_t)(now() - before);
    if (n == 0)
        return failed("ask");
    qsort(took, n, sizeof *took, shorter_first);
    printf("%zu trips, median %.2f us, p99 %.2f us\n", n, took[n / 2] / 1e3, took[n * 99 / 100] / 1e3);
    free(took);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "serve") == 0)
        return serve((uint16_t)atoi(argv[2]));
    if (argc == 5 && strcmp(argv[1], "ask") == 0)
        return ask(argv[2], (uint16_t)atoi(argv[3]), strtod(argv[4], NULL));
    fprintf(stderr, "usage: round_trip serve PORT | ask ADDRESS PORT SECONDS\n");
    return 2;
}
