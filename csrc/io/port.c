/*
 * port.c: port.h in code.
 *
 * A TAP gives and takes one frame a call, or many through a ring. An AF_PACKET socket takes many a call; what it gives
 * has lost its VLAN tag to the auxiliary data, from which it is put back, so that VLANs pass unchanged. The calls are
 * made without libc's own, which in a program of several threads spend time on making each a point where the thread may
 * be cancelled.
 */
#include "port.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

_Static_assert(sizeof(struct virtio_net_hdr) == DP_VNET_HEADER, "the short virtio-net header");
_Static_assert((int)DP_SEND_BATCH <= (int)DP_URING_REQUESTS, "a ring has room for all that is sent at once");
_Static_assert((int)DP_PORTS_MAX <= (int)DP_URING_FILES, "every port can be registered");

enum { ETHERNET_HEADER = 14, MACS = 12, VLAN_TAG = 4, ETHERTYPE_VLAN = 0x8100 };

uint64_t dp_port_frame_flags(const uint8_t *header)
{
    struct virtio_net_hdr vnet;

    memcpy(&vnet, header, sizeof vnet);
    return vnet.flags & (VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID) || vnet.gso_type
               ? DP_FRAME_CHECKSUM_OFFLOADED
               : 0;
}

/* One byte more than a frame may have, so that a longer one is seen. */
enum { TAP_READ = DP_VNET_HEADER + DP_FRAME_BYTES_MAX + 1 };
_Static_assert((int)TAP_READ <= (int)DP_PORT_ROOM, "it has room");

static uint32_t tap_length(long n)
{
    return n < DP_VNET_HEADER + ETHERNET_HEADER || n == TAP_READ ? 0 : (uint32_t)n - DP_VNET_HEADER;
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
        type = aux.tp_status & TP_STATUS_VLAN_TPID_VALID ? aux.tp_vlan_tpid : ETHERTYPE_VLAN;
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
    struct iovec parts[2] = {{&vnet, sizeof vnet}, {frame, DP_FRAME_BYTES_MAX - VLAN_TAG}};
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
    struct msghdr message = {
        .msg_iov = parts, .msg_iovlen = 2, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t n = syscall(SYS_recvmsg, fd, &message, MSG_TRUNC);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    *length =
        n < DP_VNET_HEADER + ETHERNET_HEADER || (message.msg_flags & MSG_TRUNC) ? 0 : (uint32_t)n - DP_VNET_HEADER;
    *header = at + DP_PORT_HEADROOM;
    if (*length && stripped_tag(&message, tag)) {
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

static void count_refused(struct dp_port_counters *counters, int error)
{
    counters->drop[error == EAGAIN || error == ENOBUFS ? DP_DROP_FULL : DP_DROP_ERROR]++;
}

static int32_t write_tap(const struct dp_sending *s, uint32_t i)
{
    long n = syscall(SYS_write, s->fd, s->header[i], DP_VNET_HEADER + (size_t)s->length[i]);

    return n < 0 ? -errno : (int32_t)n;
}

static void flush_tap(struct dp_sending *s, struct dp_uring *ring, uint32_t number, struct dp_port_counters *counters)
{
    bool at_once = s->n > 1 && dp_uring_is_open(ring);
    int32_t result[DP_SEND_BATCH];

    if (at_once) {
        for (uint32_t i = 0; i < s->n; i++)
            dp_uring_write(ring, number, s->fd, s->header[i], DP_VNET_HEADER + s->length[i]);
        dp_uring_run(ring, result);
    }
    for (uint32_t i = 0; i < s->n; i++) {
        if (!at_once || result[i] == DP_URING_NOT_DONE)
            result[i] = write_tap(s, i);
        if (result[i] < 0)
            count_refused(counters, -result[i]);
        else
            count_sent(counters, s->length[i]);
    }
}

static void flush_packet(struct dp_sending *s, struct dp_port_counters *counters)
{
    struct mmsghdr message[DP_SEND_BATCH];
    struct iovec part[DP_SEND_BATCH];

    memset(message, 0, s->n * sizeof *message);
    for (uint32_t i = 0; i < s->n; i++) {
        part[i] = (struct iovec){s->header[i], DP_VNET_HEADER + (size_t)s->length[i]};
        message[i].msg_hdr.msg_iov = &part[i];
        message[i].msg_hdr.msg_iovlen = 1;
    }
    for (uint32_t i = 0; i < s->n;) {
        int n = sendmmsg(s->fd, message + i, s->n - i, MSG_DONTWAIT);

        if (n <= 0) {
            count_refused(counters, errno);
            i++;
            continue;
        }
        for (int k = 0; k < n; k++)
            count_sent(counters, s->length[i++]);
    }
}

void dp_port_flush(struct dp_sending *s, struct dp_uring *ring, uint32_t number, struct dp_port_counters *counters)
{
    if (s->n == 0)
        return;
    if (s->kind == DP_PORT_TAP)
        flush_tap(s, ring, number, counters);
    else
        flush_packet(s, counters);
    s->n = 0;
}
