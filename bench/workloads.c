/*
 * workloads.c: the captures that the benchmarks run on, made from a seed: the same bytes each time.
 *
 *   workloads [--packets N] [--flows N] [--zipf S] [--seed N] MODE FILE
 *
 *   mixed  64-byte frames of 1,000 connections at once, 80 % TCP and 20 % UDP; whole lives, from handshake to close
 *   zipf   64-byte frames of 1,000,000 connections: each is opened, then they are picked by Zipf's law and never close
 *   syn    2,000,000 SYNs, each of a connection of its own, to one server
 *   imix   64, 576 and 1,514 bytes as 7:4:1, connections of heavy-tailed lengths that come and go, a tenth of it IPv6
 *
 * Clients are in 10.0.0.0/16 (syn: 11.0.0.0 and above), servers in 172.16.0.0/20, which policy.py makes instances. A
 * frame follows another after a microsecond. Checksums are right. FILE is pcap in this machine's byte order.
 */
#define _GNU_SOURCE
#include "frame_bytes.h"

#include <getopt.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ETHERNET = 14, FRAME_MAX = 2048, SHORT_FRAME = 60, SMALL_FRAME = 64, NEVER_ENDS = 0x7fffffff };
enum { ICMP = 1, TCP = 6, UDP = 17, ICMP6 = 58 };
enum { FIN = 0x01, SYN = 0x02, PUSH = 0x08, ACK = 0x10 };
enum direction { TO_SERVER, TO_CLIENT };

/* Where a connection stands; a TCP connection takes one step a packet. An ICMP echo is at ASKED or ANSWERED. */
enum step { CLOSED, SYN_SENT, SYN_ANSWERED, OPEN, FIN_SENT, FIN_ACKNOWLEDGED, FIN_ANSWERED, OVER };
enum echo { ANSWERED, ASKED };

struct connection {
    uint32_t client, server;
    uint16_t client_port, server_port;
    uint8_t protocol;
    bool ipv6;
    uint8_t step;
    uint32_t sequence[2]; /* by direction */
    uint32_t left, packets;
};

struct workload {
    uint64_t packets, flows, seed;
    double zipf;
};

static struct {
    uint64_t random[2];
    FILE *out;
    uint64_t microseconds;
    uint64_t written;
    uint32_t connections;
} generator = {.random = {88172645463325252ull}, .microseconds = 1700000000000000ull};

/* xorshift128+ (Vigna 2014): a word of 64 bits. */
static uint64_t chance(void)
{
    uint64_t a = generator.random[0], b = generator.random[1];

    generator.random[0] = b;
    a ^= a << 23;
    generator.random[1] = a ^ b ^ (a >> 17) ^ (b >> 26);
    return generator.random[1] + b;
}

/* From 0 up to 1. */
static double uniform(void)
{
    return (double)(chance() >> 11) * 0x1p-53;
}

static void *allocated(uint64_t n, size_t size)
{
    void *memory = calloc(n, size);

    if (!memory) {
        fprintf(stderr, "workloads: no memory for %llu connections\n", (unsigned long long)n);
        exit(1);
    }
    return memory;
}

/* ---- frames ---- */

/* Writes the IP header; returns its part of the transport's checksum. */
static uint32_t put_ip(uint8_t *ip, const struct connection *c, enum direction way, uint32_t carried)
{
    static const uint8_t network[12] = {0x20, 0x01, 0x0d, 0xb8};
    uint32_t source = way == TO_CLIENT ? c->server : c->client;
    uint32_t destination = way == TO_CLIENT ? c->client : c->server;
    uint8_t protocol = c->protocol == ICMP && c->ipv6 ? ICMP6 : c->protocol;

    if (!c->ipv6) {
        ip[0] = 0x45;
        put16(ip + 2, 20 + carried);
        put16(ip + 4, (uint32_t)chance() & 0xffff);
        put16(ip + 6, 0x4000);
        ip[8] = 64;
        ip[9] = protocol;
        put32(ip + 12, source);
        put32(ip + 16, destination);
        put16(ip + 10, checksum(sum16(ip, 20, 0)));
        return sum16(ip + 12, 8, protocol + carried);
    }
    ip[0] = 0x60;
    put16(ip + 4, carried);
    ip[6] = protocol;
    ip[7] = 64;
    memcpy(ip + 8, network, sizeof network);
    put32(ip + 20, source);
    memcpy(ip + 24, network, sizeof network);
    put32(ip + 36, destination);
    return sum16(ip + 8, 32, protocol + carried);
}

static void put_tcp(uint8_t *tcp, struct connection *c, enum direction way, uint8_t flags, uint32_t payload,
                    uint32_t sum)
{
    put16(tcp, way == TO_CLIENT ? c->server_port : c->client_port);
    put16(tcp + 2, way == TO_CLIENT ? c->client_port : c->server_port);
    put32(tcp + 4, c->sequence[way]);
    put32(tcp + 8, flags & ACK ? c->sequence[!way] : 0);
    tcp[12] = 0x50;
    tcp[13] = flags;
    put16(tcp + 14, 65535);
    put16(tcp + 16, checksum(sum16(tcp, 20 + payload, sum)));
    c->sequence[way] += payload + (flags & (SYN | FIN) ? 1 : 0);
}

static void put_udp(uint8_t *udp, const struct connection *c, enum direction way, uint32_t payload, uint32_t sum)
{
    uint32_t check;

    put16(udp, way == TO_CLIENT ? c->server_port : c->client_port);
    put16(udp + 2, way == TO_CLIENT ? c->client_port : c->server_port);
    put16(udp + 4, 8 + payload);
    check = checksum(sum16(udp, 8 + payload, sum));
    put16(udp + 6, check ? check : 0xffff);
}

static void put_echo(uint8_t *icmp, const struct connection *c, enum direction way, uint32_t payload, uint32_t sum)
{
    icmp[0] = c->ipv6 ? (way == TO_CLIENT ? 129 : 128) : (way == TO_CLIENT ? 0 : 8);
    put16(icmp + 4, c->client_port);
    put16(icmp + 6, c->packets - c->left);
    put16(icmp + 2, checksum(sum16(icmp, 8 + payload, c->ipv6 ? sum : 0)));
}

/* One frame of about `length` bytes. TCP segments that open, close or only acknowledge carry nothing but padding. */
static void emit(struct connection *c, enum direction way, uint8_t flags, uint32_t length)
{
    static const uint8_t client_first[12] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1};
    static const uint8_t server_first[12] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2};
    static uint8_t frame[FRAME_MAX];
    uint32_t ip_header = c->ipv6 ? 40 : 20, header = c->protocol == TCP ? 20 : 8;
    uint32_t least = ETHERNET + ip_header + header, payload, sum;
    uint8_t *ip = frame + ETHERNET, *transport = ip + ip_header;
    uint32_t file_header[4];

    length = length < least ? least : length;
    payload = c->protocol == TCP && (flags & (SYN | FIN) || flags == ACK) ? 0 : length - least;
    memset(frame, 0, length);
    memcpy(frame, way == TO_CLIENT ? server_first : client_first, sizeof client_first);
    put16(frame + 12, c->ipv6 ? 0x86dd : 0x0800);
    sum = put_ip(ip, c, way, header + payload);
    for (uint32_t i = 0; i < payload; i++)
        transport[header + i] = (uint8_t)(i * 7 + generator.written);
    if (c->protocol == TCP)
        put_tcp(transport, c, way, flags, payload, sum);
    else if (c->protocol == UDP)
        put_udp(transport, c, way, payload, sum);
    else
        put_echo(transport, c, way, payload, sum);
    file_header[0] = (uint32_t)(generator.microseconds / 1000000);
    file_header[1] = (uint32_t)(generator.microseconds % 1000000);
    file_header[2] = file_header[3] = length;
    generator.microseconds++;
    generator.written++;
    fwrite(file_header, sizeof file_header, 1, generator.out);
    fwrite(frame, length, 1, generator.out);
}

/* ---- connections ---- */

/* Per cent of connections that are UDP, ICMP echo and IPv6. */
struct shares {
    uint32_t udp, icmp, ipv6;
};

static struct connection opened(uint32_t packets, struct shares shares)
{
    static const uint16_t ports[] = {80, 443, 443, 443, 22, 53, 8080, 5432, 3306, 6379, 123, 9092};
    uint32_t number = generator.connections++, kind;
    struct connection c = {.client = 0x0a000000 | (number * 2654435761u & 0xffff), .left = packets, .packets = packets};

    c.server = 0xac100000 | (uint32_t)(chance() & 0xfff);
    c.client_port = (uint16_t)(1024 + (number / 65536 * 251 + chance() % 50000) % 60000);
    c.server_port = ports[chance() % 12];
    kind = (uint32_t)(chance() % 100);
    c.protocol = kind < shares.udp ? UDP : kind < shares.udp + shares.icmp ? ICMP : TCP;
    c.ipv6 = chance() % 100 < shares.ipv6;
    c.sequence[TO_SERVER] = (uint32_t)chance();
    c.sequence[TO_CLIENT] = (uint32_t)chance();
    return c;
}

static void tcp_step(struct connection *c, uint32_t length, bool closes)
{
    switch ((enum step)c->step) {
    case CLOSED:
        emit(c, TO_SERVER, SYN, SHORT_FRAME);
        c->step = SYN_SENT;
        break;
    case SYN_SENT:
        emit(c, TO_CLIENT, SYN | ACK, SHORT_FRAME);
        c->step = SYN_ANSWERED;
        break;
    case SYN_ANSWERED:
        emit(c, TO_SERVER, ACK, SHORT_FRAME);
        c->step = OPEN;
        break;
    case OPEN:
        if (closes && c->left <= 4) {
            emit(c, TO_SERVER, FIN | ACK, SHORT_FRAME);
            c->step = FIN_SENT;
        } else {
            emit(c, chance() & 1, PUSH | ACK, length);
        }
        break;
    case FIN_SENT:
        emit(c, TO_CLIENT, ACK, SHORT_FRAME);
        c->step = FIN_ACKNOWLEDGED;
        break;
    case FIN_ACKNOWLEDGED:
        emit(c, TO_CLIENT, FIN | ACK, SHORT_FRAME);
        c->step = FIN_ANSWERED;
        break;
    case FIN_ANSWERED:
        emit(c, TO_SERVER, ACK, SHORT_FRAME);
        c->step = OVER;
        break;
    case OVER:
        emit(c, chance() & 1, PUSH | ACK, length);
        break;
    }
}

/* The next packet of a connection; false when it was the last. A TCP connection ends with FINs where it `closes`. */
static bool step(struct connection *c, uint32_t length, bool closes)
{
    if (c->protocol == TCP) {
        tcp_step(c, length, closes);
    } else if (c->left == c->packets) {
        emit(c, TO_SERVER, 0, length);
        c->step = ANSWERED;
    } else if (c->protocol == ICMP) {
        c->step = c->step == ASKED ? ANSWERED : ASKED;
        emit(c, c->step == ASKED ? TO_CLIENT : TO_SERVER, 0, length);
    } else {
        emit(c, chance() & 1, 0, length);
    }
    if (c->left)
        c->left--;
    return c->left > 0;
}

/* ---- workloads ---- */

static void mixed(struct workload w)
{
    struct connection *all = allocated(w.flows, sizeof *all);
    uint64_t *live = allocated(w.flows, sizeof *live);

    for (uint64_t i = 0; i < w.flows; i++) {
        all[i] = opened((uint32_t)(w.packets / w.flows), (struct shares){.udp = 20});
        live[i] = i;
    }
    for (uint64_t n = w.flows; n;) {
        uint64_t picked = chance() % n;

        if (!step(&all[live[picked]], SMALL_FRAME, true))
            live[picked] = live[--n];
    }
    free(live);
    free(all);
}

/* The first of `n` rising numbers that is not below `x`; the last if there is none. */
static uint64_t not_below(const double *rising, uint64_t n, double x)
{
    uint64_t low = 0, high = n - 1;

    while (low < high) {
        uint64_t middle = (low + high) / 2;

        if (rising[middle] < x)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void zipf(struct workload w)
{
    struct connection *all = allocated(w.flows, sizeof *all);
    double *cumulated = allocated(w.flows, sizeof *cumulated), sum = 0;
    uint64_t *by_rank = allocated(w.flows, sizeof *by_rank);

    for (uint64_t i = 0; i < w.flows; i++)
        all[i] = opened(NEVER_ENDS, (struct shares){.udp = 30});
    for (uint64_t i = 0; i < w.flows; i++) {
        step(&all[i], SMALL_FRAME, false);
        sum += pow((double)(i + 1), -w.zipf);
        cumulated[i] = sum;
        by_rank[i] = i;
    }
    for (uint64_t i = w.flows - 1; i > 0; i--) {
        uint64_t other = chance() % (i + 1), kept = by_rank[i];

        by_rank[i] = by_rank[other];
        by_rank[other] = kept;
    }
    while (generator.written < w.packets)
        step(&all[by_rank[not_below(cumulated, w.flows, uniform() * sum)]], SMALL_FRAME, false);
    free(by_rank);
    free(cumulated);
    free(all);
}

static void syn(struct workload w)
{
    for (uint64_t i = 0; i < w.packets; i++) {
        struct connection c = {.client = 0x0b000000 + (uint32_t)(i * 2654435761u) % 0x60000000u,
                               .client_port = (uint16_t)(1024 + (i * 0x9e3779b97f4a7c15ull >> 20) % 60000),
                               .server = 0xac100001,
                               .server_port = 80,
                               .protocol = TCP,
                               .left = 1,
                               .packets = 1};

        c.sequence[TO_SERVER] = (uint32_t)chance();
        emit(&c, TO_SERVER, SYN, SHORT_FRAME);
    }
}

/* Packets of a connection: 8 at least, 20,000 at most, Pareto with exponent 1.2. */
static uint32_t heavy_tailed(void)
{
    double u = uniform();
    uint32_t packets = (uint32_t)(8 * pow(u < 1e-4 ? 1e-4 : u, -1 / 1.2));

    return packets > 20000 ? 20000 : packets;
}

static void imix(struct workload w)
{
    static const struct shares shares = {.udp = 20, .icmp = 2, .ipv6 = 10};
    struct connection *all = allocated(w.flows, sizeof *all);

    for (uint64_t i = 0; i < w.flows; i++)
        all[i] = opened(heavy_tailed(), shares);
    while (generator.written < w.packets) {
        uint64_t picked = (uint64_t)((double)w.flows * pow(uniform(), 2));
        uint32_t size = (uint32_t)(chance() % 12);
        struct connection *c = &all[picked < w.flows ? picked : w.flows - 1];

        if (!step(c, size < 7 ? 64 : size < 11 ? 576 : 1514, true))
            *c = opened(heavy_tailed(), shares);
    }
    free(all);
}

static const struct mode {
    const char *name;
    void (*make)(struct workload);
    uint64_t packets, flows;
} modes[] = {
    {"mixed", mixed, 1000000, 1000},
    {"zipf", zipf, 5000000, 1000000},
    {"syn", syn, 2000000, 1},
    {"imix", imix, 1000000, 20000},
};

int main(int argc, char **argv)
{
    static const struct option options[] = {{"packets", required_argument, NULL, 'p'},
                                            {"flows", required_argument, NULL, 'f'},
                                            {"zipf", required_argument, NULL, 'z'},
                                            {"seed", required_argument, NULL, 's'},
                                            {0}};
    static const uint32_t header[6] = {0xa1b2c3d4, 2 | 4 << 16, 0, 0, 65535, 1};
    struct workload w = {.seed = 362436069, .zipf = 1};
    const struct mode *mode = NULL;

    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;)
        switch (option) {
        case 'p':
            w.packets = strtoull(optarg, NULL, 10);
            break;
        case 'f':
            w.flows = strtoull(optarg, NULL, 10);
            break;
        case 'z':
            w.zipf = strtod(optarg, NULL);
            break;
        case 's':
            w.seed = strtoull(optarg, NULL, 10);
            break;
        default:
            return 2;
        }
    for (size_t i = 0; optind < argc && i < sizeof modes / sizeof *modes; i++)
        if (strcmp(argv[optind], modes[i].name) == 0)
            mode = &modes[i];
    if (!mode || argc - optind != 2) {
        fprintf(stderr, "usage: workloads [--packets N] [--flows N] [--zipf S] [--seed N] mixed|zipf|syn|imix FILE\n");
        return 2;
    }
    w.packets = w.packets ? w.packets : mode->packets;
    w.flows = w.flows ? w.flows : mode->flows;
    if (!(generator.out = fopen(argv[optind + 1], "wb"))) {
        perror(argv[optind + 1]);
        return 1;
    }
    generator.random[1] = w.seed;
    for (int i = 0; i < 20; i++)
        chance();
    fwrite(header, sizeof header, 1, generator.out);
    mode->make(w);
    if (ferror(generator.out) || fclose(generator.out)) {
        perror(argv[optind + 1]);
        return 1;
    }
    return 0;
}
