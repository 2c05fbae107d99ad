/*
 * packet_blast.c: 60-byte UDP frames of many connections, sent through an interface as fast as it takes them.
 *
 *   packet_blast INTERFACE MAC CLIENTS SERVER CONNECTIONS SECONDS CPU [answers]
 *
 * Connection k is from CLIENTS + k / 50,000, port 10,000 + k % 50,000, to port 9000 of SERVER; `answers` are the same
 * frames the other way round. Goes through the connections again and again for so many seconds, or once where they are
 * 0. Prints how many frames were sent.
 */
#define _GNU_SOURCE
#include "frame_bytes.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>

enum { BURST = 64, FRAME = 60, ETHERNET = 14, IP_BYTES = 46, PORTS = 50000, FIRST_PORT = 10000, SERVER_PORT = 9000 };

struct blast {
    int fd;
    uint32_t clients, server; /* in host order */
    uint64_t connections;
    bool answers;
    uint8_t frame[BURST][FRAME];
    struct iovec bytes[BURST];
    struct mmsghdr message[BURST];
};

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* What all frames have in common. A UDP checksum of 0 says that there is none. */
static void prepare(struct blast *b, const uint8_t *to, const uint8_t *from)
{
    for (int i = 0; i < BURST; i++) {
        uint8_t *frame = b->frame[i], *ip = frame + ETHERNET;

        memcpy(frame, to, 6);
        memcpy(frame + 6, from, 6);
        put16(frame + 12, 0x0800);
        ip[0] = 0x45;
        put16(ip + 2, IP_BYTES);
        put16(ip + 6, 0x4000);
        ip[8] = 64;
        ip[9] = 17;
        put16(ip + 24, IP_BYTES - 20);
        b->bytes[i] = (struct iovec){frame, FRAME};
        b->message[i].msg_hdr = (struct msghdr){.msg_iov = &b->bytes[i], .msg_iovlen = 1};
    }
}

static void make(struct blast *b, uint8_t *frame, uint64_t connection)
{
    uint32_t client = b->clients + (uint32_t)(connection / PORTS);
    uint32_t port = FIRST_PORT + (uint32_t)(connection % PORTS);
    uint8_t *ip = frame + ETHERNET;

    put32(ip + 12, b->answers ? b->server : client);
    put32(ip + 16, b->answers ? client : b->server);
    put16(ip + 20, b->answers ? SERVER_PORT : port);
    put16(ip + 22, b->answers ? port : SERVER_PORT);
    put16(ip + 10, 0);
    put16(ip + 10, checksum(sum16(ip, 20, 0)));
}

/* What the interface refuses is left out. */
static void send_burst(struct blast *b)
{
    for (int sent = 0; sent < BURST;) {
        int n = sendmmsg(b->fd, b->message + sent, (unsigned)(BURST - sent), 0);

        sent += n > 0 ? n : 1;
    }
}

static void open_interface(struct blast *b, const char *name, uint8_t *address)
{
    struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(name)};
    struct ifreq request = {0};
    int one = 1, room = 16 << 20;

    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    b->fd = socket(AF_PACKET, SOCK_RAW, 0);
    if (b->fd < 0 || bind(b->fd, (struct sockaddr *)&at, sizeof at) < 0 || ioctl(b->fd, SIOCGIFHWADDR, &request) < 0) {
        perror(name);
        exit(1);
    }
    setsockopt(b->fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one);
    setsockopt(b->fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
    memcpy(address, request.ifr_hwaddr.sa_data, 6);
}

int main(int argc, char **argv)
{
    static struct blast b;
    uint8_t to[6], from[6];
    uint64_t next = 0, sent = 0;
    double began, seconds;
    cpu_set_t cpus;

    if (argc < 8 || sscanf(argv[2], "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", to, to + 1, to + 2, to + 3, to + 4, to + 5) != 6) {
        fprintf(stderr, "usage: packet_blast INTERFACE MAC CLIENTS SERVER CONNECTIONS SECONDS CPU [answers]\n");
        return 2;
    }
    b.clients = ntohl(inet_addr(argv[3]));
    b.server = ntohl(inet_addr(argv[4]));
    b.connections = strtoull(argv[5], NULL, 10);
    b.answers = argc > 8;
    seconds = strtod(argv[6], NULL);
    CPU_ZERO(&cpus);
    CPU_SET((unsigned)atoi(argv[7]), &cpus);
    sched_setaffinity(0, sizeof cpus, &cpus);
    open_interface(&b, argv[1], from);
    prepare(&b, to, from);
    began = now();
    do {
        for (int i = 0; i < BURST; i++) {
            make(&b, b.frame[i], next);
            if (++next >= b.connections && seconds > 0)
                next = 0;
        }
        send_burst(&b);
        sent += BURST;
    } while (seconds > 0 ? now() - began < seconds : next < b.connections);
    printf("%llu frames in %.3f s\n", (unsigned long long)sent, now() - began);
    return 0;
}
