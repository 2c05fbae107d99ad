/*
 * port.c: port.h in code.
 *
 * A TAP gives and takes one frame a call, or many through a ring. An AF_PACKET socket takes many a call; what it gives
 * has lost its VLAN tag to the auxiliary data, from which it is put back, so that VLANs pass unchanged. The calls are
 * made without libc's own, which in a program of several threads spend time on making each a point where the thread may
 * be cancelled.
 */
#include "port.h"

#include "../wire.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

_Static_assert(sizeof(struct virtio_net_hdr) == DP_VNET_HEADER, "the short virtio-net header");
_Static_assert((int)DP_SEND_BATCH <= (int)DP_URING_REQUESTS, "a ring has room for all that is sent at once");
_Static_assert((int)DP_PORTS_MAX <= (int)DP_URING_FILES, "every port can be registered");

enum { ETHERNET_HEADER = 14, MACS = 12, VLAN_TAG = 4 };

uint64_t dp_port_frame_flags(const uint8_t *header)
{
    struct virtio_net_hdr vnet;

    memcpy(&vnet, header, sizeof vnet);
    return vnet.flags & (VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID) || vnet.gso_type
               ? DP_FRAME_CHECKSUM_OFFLOADED
               : 0;
}

enum dp_failure dp_port_receive_failure(int error)
{
    switch (error) {
    case 0:
    case EAGAIN:
    case EINTR:
        return DP_FAILURE_NONE;
    case EINVAL:
    case EFAULT:
    case EMSGSIZE:
    case EBADMSG:
    case EPROTO:
    case ERANGE:
    case EOVERFLOW:
        return DP_FAILURE_FRAME;
    default:
        return DP_FAILURE_PORT;
    }
}

enum dp_failure dp_port_send_failure(int error)
{
    switch (error) {
    case EAGAIN:
    case EINTR:
    case ENOBUFS:
    case ENOMEM:
        return DP_FAILURE_FULL;
    case EPERM:
    case EACCES:
    case EOPNOTSUPP:
        return DP_FAILURE_FRAME;
    default:
        return dp_port_receive_failure(error);
    }
}

bool dp_port_is_up(int fd, uint8_t kind)
{
    struct sockaddr_ll bound = {.sll_family = AF_PACKET};
    socklen_t size = sizeof bound;
    struct ifreq interface;
    struct pollfd writable = {fd, POLLOUT, 0};

    /* A TAP takes frames as long as it is up. */
    if (kind == DP_PORT_TAP)
        return poll(&writable, 1, 0) >= 0 && !(writable.revents & (POLLERR | POLLNVAL)) && (writable.revents & POLLOUT);
    memset(&interface, 0, sizeof interface);
    if (getsockname(fd, (struct sockaddr *)&bound, &size) < 0 || bound.sll_ifindex <= 0)
        return false;
    interface.ifr_ifindex = bound.sll_ifindex;
    return ioctl(fd, SIOCGIFNAME, &interface) == 0 && ioctl(fd, SIOCGIFFLAGS, &interface) == 0 &&
           (interface.ifr_flags & IFF_UP);
}

/* One byte more than a frame may have, so that a longer one is seen. */
enum { TAP_READ = DP_VNET_HEADER + DP_FRAME_BYTES_MAX + 1 };
_Static_assert((int)TAP_READ <= (int)DP_PORT_ROOM, "it has room");

static uint32_t tap_length(long n)
{
    if (n == TAP_READ)
        return DP_PORT_TOO_LONG;
    return n < DP_VNET_HEADER + ETHERNET_HEADER ? 0 : (uint32_t)n - DP_VNET_HEADER;
}

static int receive_tap(int fd, uint8_t *at, uint8_t **header, uint32_t *length)
{
    ssize_t n = syscall(SYS_read, fd, at, (size_t)TAP_READ);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    *header = at;
    *length = tap_length(n);
    return 1;
}

void dp_port_receive_many(struct dp_uring *ring, uint32_t number, int fd, uint8_t *at, size_t step, uint32_t n,
                          int32_t *length)
{
    for (uint32_t i = 0; i < n; i++)
        dp_uring_read(ring, number, fd, at + i * step, TAP_READ);
    dp_uring_run(ring, length);
    for (uint32_t i = 0; i < n; i++)
        length[i] = length[i] >= 0 ? (int32_t)tap_length(length[i]) : length[i] == -EINTR ? -EAGAIN : length[i];
}

/* The tag that the kernel took out of the frame; false when there was none. */
static bool stripped_tag(struct msghdr *message, uint8_t *tag)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        struct tpacket_auxdata aux;
        uint16_t type;

        if (c->cmsg_level != SOL_PACKET || c->cmsg_type != PACKET_AUXDATA || c->cmsg_len < CMSG_LEN(sizeof aux))
            continue;
        memcpy(&aux, CMSG_DATA(c), sizeof aux);
        if (!(aux.tp_status & TP_STATUS_VLAN_VALID))
            return false;
        type = aux.tp_status & TP_STATUS_VLAN_TPID_VALID ? aux.tp_vlan_tpid : DP_ETHERTYPE_VLAN;
        tag[0] = (uint8_t)(type >> 8);
        tag[1] = (uint8_t)type;
        tag[2] = (uint8_t)(aux.tp_vlan_tci >> 8);
        tag[3] = (uint8_t)aux.tp_vlan_tci;
        return true;
    }
    return false;
}

static int receive_packet(int fd, uint8_t *at, uint8_t **header, uint32_t *length)
{
    uint8_t *frame = at + DP_PORT_HEADROOM + DP_VNET_HEADER, tag[VLAN_TAG];
    struct virtio_net_hdr vnet;
    struct iovec parts[2] = {{&vnet, sizeof vnet}, {frame, DP_BIG_FRAME_BYTES_MAX - VLAN_TAG}};
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
    struct msghdr message = {
        .msg_iov = parts, .msg_iovlen = 2, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t n = syscall(SYS_recvmsg, fd, &message, MSG_TRUNC);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    *header = at + DP_PORT_HEADROOM;
    *length = n < DP_VNET_HEADER + ETHERNET_HEADER ? 0 : (uint32_t)n - DP_VNET_HEADER;
    if (message.msg_flags & MSG_TRUNC)
        *length = DP_PORT_TOO_LONG;
    else if (*length && stripped_tag(&message, tag)) {
        memmove(frame - VLAN_TAG, frame, MACS);
        memcpy(frame - VLAN_TAG + MACS, tag, VLAN_TAG);
        *length += VLAN_TAG;
        *header -= VLAN_TAG;
        if (vnet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
            vnet.csum_start = (uint16_t)(vnet.csum_start + VLAN_TAG);
        if (vnet.hdr_len)
            vnet.hdr_len = (uint16_t)(vnet.hdr_len + VLAN_TAG);
    }
    memcpy(*header, &vnet, sizeof vnet);
    return 1;
}

int dp_port_receive(int fd, uint8_t kind, uint8_t *at, uint8_t **header, uint32_t *length)
{
    return kind == DP_PORT_TAP ? receive_tap(fd, at, header, length) : receive_packet(fd, at, header, length);
}

uint32_t dp_port_missed(int fd, uint8_t kind)
{
    struct tpacket_stats stats;
    socklen_t size = sizeof stats;

    if (kind != DP_PORT_PACKET || getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &stats, &size) < 0)
        return 0;
    return stats.tp_drops;
}

static void count_sent(struct dp_port_counters *counters, uint32_t length)
{
    counters->sent.packets++;
    counters->sent.bytes += length;
}

/* Counts a frame that was not sent; the errno where the port is to blame. */
static int count_refused(struct dp_port_counters *counters, int error)
{
    switch (dp_port_send_failure(error)) {
    case DP_FAILURE_PORT:
        counters->drop[DP_DROP_ERROR]++;
        return error;
    case DP_FAILURE_FRAME:
        counters->drop[DP_DROP_REFUSED]++;
        return 0;
    default:
        counters->drop[DP_DROP_FULL]++;
        return 0;
    }
}

static int32_t write_tap(const struct dp_sending *s, uint32_t i)
{
    long n = syscall(SYS_write, s->fd, s->header[i], DP_VNET_HEADER + (size_t)s->length[i]);

    return n < 0 ? -errno : (int32_t)n;
}

static int flush_tap(const struct dp_sending *s, uint32_t begin, uint32_t end, struct dp_uring *ring, uint32_t number,
                     struct dp_port_counters *counters)
{
    bool at_once = end - begin > 1 && dp_uring_is_open(ring);
    int32_t result[DP_SEND_BATCH];
    int failure = 0;

    if (at_once) {
        for (uint32_t i = begin; i < end; i++)
            dp_uring_write(ring, number, s->fd, s->header[i], DP_VNET_HEADER + s->length[i]);
        dp_uring_run(ring, result + begin);
    }
    for (uint32_t i = begin; i < end; i++) {
        if (!at_once || result[i] == DP_URING_NOT_DONE)
            result[i] = write_tap(s, i);
        if (result[i] < 0)
            failure = count_refused(counters, -result[i]);
        else
            count_sent(counters, s->length[i]);
    }
    return failure;
}

static int flush_packet(const struct dp_sending *s, uint32_t begin, uint32_t end, struct dp_port_counters *counters)
{
    struct mmsghdr message[DP_SEND_BATCH];
    struct iovec part[DP_SEND_BATCH];
    int failure = 0;

    memset(message, 0, sizeof *message * (end - begin));
    for (uint32_t i = begin; i < end; i++) {
        part[i - begin] = (struct iovec){s->header[i], DP_VNET_HEADER + (size_t)s->length[i]};
        message[i - begin].msg_hdr.msg_iov = &part[i - begin];
        message[i - begin].msg_hdr.msg_iovlen = 1;
    }
    for (uint32_t i = begin; i < end;) {
        int n = sendmmsg(s->fd, message + (i - begin), end - i, MSG_DONTWAIT);

        if (n <= 0) {
            failure = count_refused(counters, errno);
            i++;
            continue;
        }
        for (int k = 0; k < n; k++)
            count_sent(counters, s->length[i++]);
    }
    return failure;
}

/* ---- super-packets in pieces ---- */

static int send_pieces(const struct dp_sending *s, const struct dp_piece *piece, uint32_t n)
{
    struct mmsghdr message[DP_PIECES];
    struct iovec part[DP_PIECES][2];

    memset(message, 0, n * sizeof *message);
    for (uint32_t i = 0; i < n; i++) {
        part[i][0] = (struct iovec){(void *)(uintptr_t)piece[i].header, piece[i].header_length};
        part[i][1] = (struct iovec){(void *)(uintptr_t)piece[i].payload, piece[i].payload_length};
        message[i].msg_hdr.msg_iov = part[i];
        message[i].msg_hdr.msg_iovlen = 2;
    }
    if (s->kind == DP_PORT_TAP) {
        for (uint32_t i = 0; i < n; i++)
            if (syscall(SYS_writev, s->fd, part[i], 2) < 0)
                return errno;
        return 0;
    }
    for (uint32_t i = 0; i < n;) {
        int sent = sendmmsg(s->fd, message + i, n - i, MSG_DONTWAIT);

        if (sent <= 0)
            return errno;
        i += (uint32_t)sent;
    }
    return 0;
}

/* Sends pieces as one frame where that is possible: how many went, 0 where they must go one by one, or an error. */
static int send_bundle(struct dp_sending *s, const struct dp_segmenter *segmenter, struct dp_piece *piece, uint32_t n)
{
    uint8_t header[DP_SEGMENT_HEADERS];
    struct iovec part[1 + 2 * DP_PIECES];
    struct msghdr message = {.msg_iov = part};
    uint32_t size = s->no_bundles ? 0 : dp_segment_bundle(segmenter, piece, &n, header);
    size_t parts = 1;
    long sent;

    if (size == 0)
        return 0;
    part[0] = (struct iovec){header, size};
    for (uint32_t i = 0; i < n; i++) {
        part[parts++] = (struct iovec){piece[i].header + size, piece[i].header_length - size};
        part[parts++] = (struct iovec){(void *)(uintptr_t)piece[i].payload, piece[i].payload_length};
    }
    message.msg_iovlen = parts;
    sent = s->kind == DP_PORT_TAP ? syscall(SYS_writev, s->fd, part, parts)
                                  : syscall(SYS_sendmsg, s->fd, &message, MSG_DONTWAIT);
    if (sent >= 0)
        return (int)n;
    s->no_bundles = errno == EINVAL;
    return s->no_bundles ? 0 : -errno;
}

/* Sends a super-packet of a tunnel as it is. False where that is not possible, for whatever reason: it can be cut. */
static bool send_whole(struct dp_sending *s, const struct dp_segmenter *segmenter,
                       const struct dp_port_counters *counters)
{
    uint8_t header[DP_WHOLE_HEADERS];
    /* A port that fails would not say so this way. */
    uint32_t size = s->kind == DP_PORT_PACKET && !counters->error ? dp_segment_whole(segmenter, header) : 0;
    struct iovec part[2] = {{header, size}, {(void *)(uintptr_t)segmenter->payload, segmenter->length}};

    if (size == 0)
        return false;
    s->wants_tunnel |= s->tunnel < 0;
    return s->tunnel >= 0 && syscall(SYS_writev, s->tunnel, part, 2) >= 0;
}

/* What one piece is refused for, the others would be too: the sender sends them again. */
static int flush_pieces(struct dp_sending *s, uint32_t i, struct dp_segmenter *segmenter,
                        struct dp_port_counters *counters)
{
    struct dp_piece piece[DP_PIECES];
    uint32_t n;

    if (send_whole(s, segmenter, counters)) {
        count_sent(counters, s->length[i]);
        return 0;
    }
    while ((n = dp_segment_next(segmenter, piece, DP_PIECES)) != 0) {
        uint32_t went = 0;
        int sent;

        while ((sent = send_bundle(s, segmenter, piece + went, n - went)) > 0)
            went += (uint32_t)sent;
        if (sent == 0)
            sent = -send_pieces(s, piece + went, n - went);
        if (sent < 0)
            return count_refused(counters, -sent);
    }
    count_sent(counters, s->length[i]);
    counters->segmented.packets++;
    counters->segmented.bytes += s->length[i];
    return 0;
}

int dp_port_flush(struct dp_sending *s, struct dp_uring *ring, uint32_t number, struct dp_port_counters *counters)
{
    int failure = 0;

    for (uint32_t begin = 0, end = 0; begin < s->n;) {
        struct dp_segmenter segmenter;
        bool in_pieces = false;
        int error = 0;

        for (; end < s->n && !in_pieces; end += !in_pieces)
            in_pieces = dp_segment_begin(&segmenter, s->header[end], s->length[end]);
        if (begin < end)
            error = s->kind == DP_PORT_TAP ? flush_tap(s, begin, end, ring, number, counters)
                                           : flush_packet(s, begin, end, counters);
        failure = error ? error : failure;
        if (in_pieces) {
            error = flush_pieces(s, end++, &segmenter, counters);
            failure = error ? error : failure;
        }
        begin = end;
    }
    s->n = 0;
    return failure;
}
