/*
 * test_segment.c: super-packets of tunnels, and of more than 64 KB, in pieces; and what errors of ports are about.
 *
 * Each piece is completed as a card would, and then every length and checksum in it is computed anew from its bytes.
 * Frames changed at random must be refused or cut, with no byte read outside of them.
 */
#include "check.h"
#include "io/port.h"
#include "io/segment.h"

#include <errno.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ROOM = DP_VNET_HEADER + 140000, VXLAN_PORT = 4789 };

enum tunnel { PLAIN, VXLAN4, VXLAN4_SUM, VXLAN6, GENEVE, GRE, GRE_FULL, TAPGRE, IPIP, SIXINFOUR, JUMBO, TUNNELS };

struct super {
    uint8_t byte[ROOM];
    uint32_t headers; /* bytes of the frame before the data */
    uint32_t length;
    uint32_t start;
};

static void put16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static uint32_t get16(const uint8_t *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}

static uint32_t sum(const uint8_t *p, uint32_t n, uint32_t from)
{
    uint64_t total = from;

    for (uint32_t i = 0; i < n; i++)
        total += i & 1 ? p[i] : (uint32_t)p[i] << 8;
    while (total >> 16)
        total = (total & 0xffff) + (total >> 16);
    return (uint32_t)total;
}

/* Appends an IP header whose length is set when all is known; where it began goes to `ip`. */
static uint8_t *ip4(uint8_t *p, uint8_t protocol)
{
    static const uint8_t header[20] = {0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, 0, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2};

    memcpy(p, header, 20);
    p[9] = protocol;
    return p + 20;
}

static uint8_t *ip6(uint8_t *p, uint8_t next)
{
    memset(p, 0, 40);
    p[0] = 0x60;
    p[6] = next;
    p[7] = 64;
    p[8] = p[24] = 0xfd;
    p[23] = 1;
    p[39] = 2;
    return p + 40;
}

static uint8_t *ethernet(uint8_t *p, uint32_t type)
{
    memset(p, 2, 12);
    put16(p + 12, type);
    return p + 14;
}

static void make(struct super *s, enum tunnel kind, bool tcp, uint32_t payload, uint16_t segment)
{
    uint8_t *frame = s->byte + DP_VNET_HEADER, *p = ethernet(frame, 0x0800), *ip[2] = {NULL, NULL}, *udp = NULL;
    uint8_t inner = tcp ? 6 : 17;
    bool six = kind == VXLAN6 || kind == SIXINFOUR || kind == JUMBO;
    struct virtio_net_hdr vnet = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .gso_size = segment};

    ip[0] = p;
    if (kind == VXLAN6 || kind == JUMBO)
        put16(frame + 12, 0x86dd);
    if (kind == JUMBO) {
        p = ip6(p, 0);
        memcpy(p, (uint8_t[]){inner, 0, 0xc2, 4, 0, 1, 0, 0}, 8);
        p += 8;
    } else if (kind != PLAIN) {
        uint8_t outer = kind == IPIP ? 4 : kind == SIXINFOUR ? 41 : kind >= GRE && kind <= TAPGRE ? 47 : 17;

        p = kind == VXLAN6 ? ip6(p, outer) : ip4(p, outer);
        if (outer == 17) {
            udp = p;
            put16(p, 40000);
            put16(p + 2, kind == GENEVE ? 6081 : VXLAN_PORT);
            put16(p + 6, kind == VXLAN4 ? 0 : 1);
            memset(p + 8, 0, 8);
            p += 16;
            if (kind == GENEVE) { /* an option, which looks like the begin of an IP header */
                memcpy(p, (uint8_t[]){0x45, 0, 0, 1, 0, 0, 0, 0}, 8);
                p += 8;
            }
            p = ethernet(p, six ? 0x86dd : 0x0800);
        } else if (outer == 47) {
            put16(p, kind == GRE_FULL ? 0xb000 : 0);
            put16(p + 2, kind == TAPGRE ? 0x6558 : 0x0800);
            memset(p + 4, 0, 12);
            p += kind == GRE_FULL ? 16 : 4;
            if (kind == TAPGRE)
                p = ethernet(p, 0x0800);
        }
        ip[1] = p;
    }
    if (kind != JUMBO)
        p = six ? ip6(p, inner) : ip4(p, inner);
    s->start = (uint32_t)(p - frame);
    memset(p, 0, 20);
    if (tcp) {
        p[12] = 0x50;
        p[13] = 0x80 | 0x10 | 0x08 | 0x01;
        p[4] = p[5] = 0xff;
    }
    p += tcp ? 20 : 8;
    s->headers = (uint32_t)(p - frame);
    s->length = s->headers + payload;
    for (uint32_t i = 0; i < payload; i++)
        p[i] = (uint8_t)(i * 7 + (i >> 8));
    for (int i = 0; i < 2; i++)
        if (ip[i]) {
            uint32_t rest = s->length - (uint32_t)(ip[i] - frame) - (ip[i][0] >> 4 == 6 ? 40 : 0);

            put16(ip[i] + (ip[i][0] >> 4 == 6 ? 4 : 2), rest > 65535 ? 0 : rest);
        }
    if (udp)
        put16(udp + 4, s->length - (uint32_t)(udp - frame));
    vnet.gso_type = !tcp ? 5 : six ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4;
    if (tcp)
        vnet.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
    vnet.csum_start = (uint16_t)s->start;
    vnet.csum_offset = tcp ? 16 : 6;
    vnet.hdr_len = (uint16_t)s->headers;
    memcpy(s->byte, &vnet, sizeof vnet);
}

/* Every length and checksum from an IP header on; where it ends is the frame's end. */
static bool is_right(const uint8_t *p, uint32_t rest)
{
    bool six = p[0] >> 4 == 6;
    uint32_t header = six ? 40 : (p[0] & 15) * 4u, said = six ? get16(p + 4) + 40 : get16(p + 2), size = rest - header;
    uint8_t next = six ? p[6] : p[9];
    uint32_t pseudo = sum(six ? p + 8 : p + 12, six ? 32 : 8, next + size);
    const uint8_t *q = p + header;

    if (!CHECK_EQUAL(said, rest) || (!six && !CHECK_EQUAL(sum(p, header, 0), 0xffff)))
        return false;
    if (next == 4 || next == 41)
        return is_right(q, size);
    if (next == 47) {
        uint32_t gre = q[0] == 0xb0 ? 16 : 4;

        if (gre == 16 && !CHECK_EQUAL(sum(q, size, 0), 0xffff))
            return false;
        return is_right(q + gre + (get16(q + 2) == 0x6558 ? 14 : 0), size - gre - (get16(q + 2) == 0x6558 ? 14 : 0));
    }
    if (next == 17) {
        uint32_t port = get16(q + 2), inside = port == 6081 ? 30 + 8 : 30;

        if (!CHECK_EQUAL(get16(q + 4), size) || (get16(q + 6) && !CHECK_EQUAL(sum(q, size, pseudo), 0xffff)))
            return false;
        return port == 0 || is_right(q + inside, size - inside);
    }
    return CHECK_EQUAL(next, 6) && CHECK_EQUAL(sum(q, size, pseudo), 0xffff);
}

static uint8_t whole[ROOM];

/* Completes the checksum that is left to the card, and looks at all. */
static bool check_piece(const struct super *s, const struct dp_piece *piece, uint32_t done, bool tcp, bool last)
{
    struct virtio_net_hdr vnet;
    uint32_t length = piece->header_length + piece->payload_length - DP_VNET_HEADER;
    uint8_t *frame = whole, *transport;

    memcpy(&vnet, piece->header, sizeof vnet);
    memcpy(frame, piece->header + DP_VNET_HEADER, piece->header_length - DP_VNET_HEADER);
    memcpy(frame + piece->header_length - DP_VNET_HEADER, piece->payload, piece->payload_length);
    transport = frame + vnet.csum_start;
    if (!CHECK(length < 65536) || !CHECK(vnet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) ||
        !CHECK_EQUAL(piece->payload - (s->byte + DP_VNET_HEADER), s->headers + done))
        return false;
    CHECK_EQUAL(vnet.gso_type & ~VIRTIO_NET_HDR_GSO_ECN,
                piece->payload_length > 1448 ? (tcp ? (frame[14] >> 4 == 6 ? 4 : 1) : 5) : 0);
    if (frame[14] >> 4 == 4)
        CHECK_EQUAL(get16(frame + 18), 0x1234 + done / 1448);
    put16(transport + vnet.csum_offset, ~sum(transport, length - vnet.csum_start, 0) & 0xffff);
    if (tcp) {
        CHECK_EQUAL((uint32_t)transport[6] << 8 | transport[7], done & 0xffff);
        CHECK_EQUAL(get16(transport + 4), (0xffff + (done >> 16)) & 0xffff);
        CHECK_EQUAL(transport[13], 0x10 | (last ? 0x09 : 0) | (done ? 0 : 0x80));
    }
    return is_right(frame + 14, length - 14);
}

/* As the kernel would, cuts a datagram into those that its pieces are, and looks at each of them. */
static uint32_t check_bundle(const struct dp_piece *piece, uint32_t n, const uint8_t *header, uint32_t size)
{
    struct virtio_net_hdr vnet;
    uint32_t total = size - DP_VNET_HEADER;
    const uint8_t *ip = header + DP_VNET_HEADER + 14;
    bool six = ip[0] >> 4 == 6;

    memcpy(&vnet, header, sizeof vnet);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t inside = piece[i].header_length - size, length = inside + piece[i].payload_length;
        uint32_t outer = size - DP_VNET_HEADER;

        CHECK(i + 1 == n ? length <= vnet.gso_size : length == vnet.gso_size);
        total += length;
        memcpy(whole, header + DP_VNET_HEADER, outer);
        memcpy(whole + outer, piece[i].header + size, inside);
        memcpy(whole + outer + inside, piece[i].payload, piece[i].payload_length);
        put16(whole + outer - 4, length + 8);
        put16(whole + 14 + (six ? 4 : 2), outer - 14 - (six ? 40 : 0) + length);
        put16(whole + outer - 2, 0);
        put16(whole + outer - 2,
              ~sum(whole + outer - 8, length + 8, sum(six ? whole + 22 : whole + 26, six ? 32 : 8, 17 + 8 + length)));
        if (!six) {
            put16(whole + 24, 0);
            put16(whole + 24, ~sum(whole + 14, 20, 0));
        }
        if (!is_right(whole + 14, outer - 14 + length))
            return 0;
    }
    CHECK(total < 65536);
    CHECK_EQUAL(get16(ip + (six ? 4 : 2)) + (six ? 40 : 0), total - 14);
    CHECK_EQUAL(get16(header + vnet.csum_start + DP_VNET_HEADER + 4), total - vnet.csum_start);
    CHECK_EQUAL(get16(header + vnet.csum_start + DP_VNET_HEADER + 6),
                sum(six ? ip + 8 : ip + 12, six ? 32 : 8, 17 + total - vnet.csum_start));
    return n;
}

static struct super super;

static void test_bundles(void)
{
    for (int kind = 0; kind < TUNNELS; kind++)
        for (int tcp = 0; tcp < 2; tcp++) {
            static struct dp_piece piece[DP_PIECES];
            static uint8_t header[DP_SEGMENT_HEADERS];
            struct dp_segmenter segmenter;
            uint32_t n, size, went = 0, all;

            make(&super, (enum tunnel)kind, tcp, 64000, 1448);
            if (kind == PLAIN || kind == JUMBO || !CHECK(dp_segment_begin(&segmenter, super.byte, super.length)))
                continue;
            all = dp_segment_next(&segmenter, piece, DP_PIECES);
            n = all;
            size = dp_segment_bundle(&segmenter, piece, &n, header);
            CHECK_EQUAL(size != 0, kind <= GENEVE);
            if (size)
                went = check_bundle(piece, n, header, size);
            CHECK_EQUAL(went, size ? n : 0);
            CHECK(!size || n >= 40);
        }
}

static uint32_t little16(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8;
}

/* Whether a header and its frame are what a TAP of Linux 6.17 takes; all but the outer checksum is as it came. */
static void check_whole(const struct super *s, enum tunnel kind, bool tcp, const uint8_t *header, uint32_t size)
{
    static uint8_t frame[ROOM];
    const uint8_t *ip = frame + 14;
    bool six = kind == VXLAN6;
    uint32_t udp = six ? 54 : 34, inner = udp + (kind == GENEVE ? 8 + 8 + 8 + 14 : 8 + 8 + 14);

    CHECK_EQUAL(size, DP_TUNNEL_HEADER + s->headers);
    memcpy(frame, header + DP_TUNNEL_HEADER, s->headers);
    CHECK_EQUAL(header[0], VIRTIO_NET_HDR_F_NEEDS_CSUM | (kind == VXLAN4 ? 0 : 8));
    CHECK_EQUAL(header[1], s->byte[1] | (six ? 0x40 : 0x20));
    CHECK_EQUAL(get16(header + 4), get16(s->byte + 4)); /* the segment's size */
    CHECK(memcmp(header + 6, s->byte + 6, 4) == 0);     /* where the inner checksum is */
    CHECK_EQUAL(little16(header + 20), udp);
    CHECK_EQUAL(little16(header + 22), inner);
    if (!tcp)
        CHECK_EQUAL(header[1] & 7, 5);
    CHECK_EQUAL(get16(frame + udp + 6),
                kind == VXLAN4 ? 0 : sum(six ? ip + 8 : ip + 12, six ? 32 : 8, 17 + s->length - udp));
    put16(frame + udp + 6, get16(s->byte + DP_VNET_HEADER + udp + 6));
    if (!six)
        put16(frame + 24, get16(s->byte + DP_VNET_HEADER + 24));
    CHECK(memcmp(frame, s->byte + DP_VNET_HEADER, s->headers) == 0);
}

static void test_whole(void)
{
    static const uint32_t sizes[] = {1449, 64000, 130000};

    for (int kind = 0; kind < TUNNELS; kind++)
        for (int k = 0; k < 6; k++) {
            static uint8_t header[DP_WHOLE_HEADERS];
            struct dp_segmenter segmenter;
            bool tcp = k & 1, tunnel = kind >= VXLAN4 && kind <= GENEVE;
            uint32_t size;

            make(&super, (enum tunnel)kind, tcp, sizes[k / 2], 1448);
            if (!dp_segment_begin(&segmenter, super.byte, super.length))
                continue;
            size = dp_segment_whole(&segmenter, header);
            CHECK_EQUAL(size != 0, tunnel && super.length < 65536);
            if (size)
                check_whole(&super, (enum tunnel)kind, tcp, header, size);
        }
}

/* Frames that come out of the other end of a pair, and their bytes. */
static uint32_t arrived(int fd, uint32_t *bytes)
{
    uint32_t n = 0;
    ssize_t got;

    for (*bytes = 0; (got = recv(fd, whole, sizeof whole, MSG_DONTWAIT)) >= 0; n++)
        *bytes += (uint32_t)got;
    return n;
}

/* A super-packet goes by the descriptor for tunnels where there is one that takes it, else by the port's in pieces. */
static void test_ways_out(void)
{
    enum { NONE, THERE, GONE, FAILING, NO_TUNNEL, WAYS };
    int port[2], tunnel[2];

    if (!CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, port) == 0) ||
        !CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, tunnel) == 0))
        return;
    for (int way = 0; way < WAYS; way++) {
        static struct dp_port_counters counters;
        struct dp_sending s = {.fd = port[1], .kind = DP_PORT_PACKET, .no_bundles = true, .n = 1};
        bool goes_whole = way == THERE;
        uint32_t bytes, headers;

        make(&super, way == NO_TUNNEL ? GRE : VXLAN4_SUM, true, 10000, 1448);
        headers = super.headers;
        s.tunnel = way == NONE ? -1 : way == GONE ? 1 << 20 : tunnel[1];
        s.header[0] = super.byte;
        s.length[0] = super.length;
        memset(&counters, 0, sizeof counters);
        counters.error = way == FAILING ? ENETDOWN : 0;
        CHECK_EQUAL(dp_port_flush(&s, NULL, 0, &counters), 0);
        CHECK_EQUAL(s.wants_tunnel, way == NONE);
        CHECK_EQUAL(counters.sent.packets, 1);
        CHECK_EQUAL(counters.sent.bytes, super.length);
        CHECK_EQUAL(counters.segmented.packets, !goes_whole);
        CHECK_EQUAL(arrived(tunnel[0], &bytes), goes_whole);
        CHECK_EQUAL(bytes, goes_whole ? DP_TUNNEL_HEADER + super.length : 0);
        CHECK_EQUAL(arrived(port[0], &bytes), goes_whole ? 0 : 7);
        CHECK_EQUAL(bytes, goes_whole ? 0 : 7 * (DP_VNET_HEADER + headers) + 10000);
    }
    for (int i = 0; i < 2; i++) {
        close(port[i]);
        close(tunnel[i]);
    }
}

static void test_pieces(void)
{
    static const uint32_t sizes[] = {1449, 2896, 14480, 64000, 130000};

    for (int kind = 0; kind < TUNNELS; kind++)
        for (uint32_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
            for (int tcp = 0; tcp < 2; tcp++) {
                static struct dp_piece piece[DP_PIECES];
                struct dp_segmenter segmenter;
                uint32_t done = 0, n;
                bool plain = kind == PLAIN || kind == JUMBO;

                /* A jumbo header is there for long frames only, and none of UDP is long. */
                if ((kind == JUMBO && sizes[k] < 66000) || (!tcp && sizes[k] > 65000))
                    continue;
                make(&super, (enum tunnel)kind, tcp, sizes[k], 1448);
                if (plain && super.length < 65536) {
                    CHECK(!dp_segment_begin(&segmenter, super.byte, super.length));
                    continue;
                }
                if (!CHECK(dp_segment_begin(&segmenter, super.byte, super.length)))
                    continue;
                while ((n = dp_segment_next(&segmenter, piece, DP_PIECES)) != 0)
                    for (uint32_t i = 0; i < n; i++) {
                        bool last = done + piece[i].payload_length == sizes[k];

                        if (!check_piece(&super, &piece[i], done, tcp, last)) {
                            fprintf(stderr, "  in tunnel %d, %u bytes, at %u\n", kind, sizes[k], done);
                            return;
                        }
                        CHECK(plain || piece[i].payload_length == 1448 || last);
                        done += piece[i].payload_length;
                    }
                CHECK_EQUAL(done, sizes[k]);
            }
}

/* The frame lies at the end of its memory, so that the sanitizer sees who reads behind it. */
static void test_damaged(void)
{
    srand(1);
    for (int round = 0; round < 60000; round++) {
        static struct dp_piece piece[DP_PIECES];
        struct dp_segmenter segmenter;
        uint32_t length, done = 0, n;
        uint8_t *copy;

        make(&super, (enum tunnel)(rand() % TUNNELS), rand() & 1, 1500 + (uint32_t)rand() % 3000, 1448);
        length = super.length;
        for (int k = rand() % 4; k > 0; k--)
            super.byte[(uint32_t)rand() % (super.headers + DP_VNET_HEADER)] ^= (uint8_t)(1 << rand() % 8);
        if (rand() % 4 == 0)
            length = 14 + (uint32_t)rand() % (super.length - 14);
        copy = malloc(DP_VNET_HEADER + length);
        if (!CHECK(copy))
            return;
        memcpy(copy, super.byte, DP_VNET_HEADER + length);
        if (dp_segment_begin(&segmenter, copy, length)) {
            static uint8_t header[DP_WHOLE_HEADERS];

            CHECK(dp_segment_whole(&segmenter, header) <= DP_TUNNEL_HEADER + length);
            while ((n = dp_segment_next(&segmenter, piece, DP_PIECES)) != 0)
                for (uint32_t i = 0; i < n; i++) {
                    whole[0] = piece[i].payload[piece[i].payload_length - 1];
                    done += piece[i].payload_length;
                }
        }
        CHECK(done < length);
        free(copy);
    }
}

static void test_errors(void)
{
    static const struct {
        int error;
        enum dp_failure receiving, sending;
    } table[] = {
        {EAGAIN, DP_FAILURE_NONE, DP_FAILURE_FULL},   {EINTR, DP_FAILURE_NONE, DP_FAILURE_FULL},
        {EINVAL, DP_FAILURE_FRAME, DP_FAILURE_FRAME}, {EMSGSIZE, DP_FAILURE_FRAME, DP_FAILURE_FRAME},
        {EFAULT, DP_FAILURE_FRAME, DP_FAILURE_FRAME}, {EPERM, DP_FAILURE_PORT, DP_FAILURE_FRAME},
        {ENOBUFS, DP_FAILURE_PORT, DP_FAILURE_FULL},  {ENOMEM, DP_FAILURE_PORT, DP_FAILURE_FULL},
        {ENETDOWN, DP_FAILURE_PORT, DP_FAILURE_PORT}, {ENXIO, DP_FAILURE_PORT, DP_FAILURE_PORT},
        {ENODEV, DP_FAILURE_PORT, DP_FAILURE_PORT},   {EBADFD, DP_FAILURE_PORT, DP_FAILURE_PORT},
        {EIO, DP_FAILURE_PORT, DP_FAILURE_PORT},      {EBADF, DP_FAILURE_PORT, DP_FAILURE_PORT},
    };

    for (uint32_t i = 0; i < sizeof table / sizeof *table; i++) {
        CHECK_EQUAL(dp_port_receive_failure(table[i].error), table[i].receiving);
        CHECK_EQUAL(dp_port_send_failure(table[i].error), table[i].sending);
    }
}

int main(void)
{
    RUN(test_pieces);
    RUN(test_bundles);
    RUN(test_whole);
    RUN(test_ways_out);
    RUN(test_damaged);
    RUN(test_errors);
    return check_result("test_segment");
}
