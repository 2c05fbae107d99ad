/*
 * port.h: frames from and to a port's descriptor, each behind a virtio-net header of DP_VNET_HEADER bytes that goes
 * with it unread: so a super-packet or a checksum that is still to be computed stays what it is.
 *
 * Descriptors are non-blocking and the caller's; buffers are the caller's. Nothing here waits. Through a ring (uring.h)
 * that is open, TAPs give and take many frames a call; a port's descriptor may be registered there under its number.
 */
#ifndef DP_IO_PORT_H
#define DP_IO_PORT_H

#include "../dp_live.h"
#include "segment.h"
#include "uring.h"

#include <stdbool.h>

enum { DP_PORT_HEADROOM = 4, DP_SEND_BATCH = 64 };
/* The least room for a frame to be received. */
enum { DP_PORT_ROOM = DP_PORT_HEADROOM + DP_VNET_HEADER + DP_FRAME_BYTES_MAX };
/* The same by AF_PACKET. */
enum { DP_PORT_BIG_ROOM = DP_PORT_HEADROOM + DP_VNET_HEADER + DP_BIG_FRAME_BYTES_MAX };
/* The length of a frame that was longer. */
enum { DP_PORT_TOO_LONG = 0x7fffffff };

/*
 * WHAT AN ERRNO IS ABOUT, of read(), recvmsg() and of write(), sendmsg(), by a system call or as io_uring's answer.
 *
 *   receiving
 *     EAGAIN, EINTR                 nothing: there is no frame now
 *     EINVAL                        the frame: the virtio-net header cannot describe it (UFO, SCTP's and, before Linux
 *                                   6.2, UDP's segmentation); the kernel has thrown it away
 *     EFAULT, EMSGSIZE, EBADMSG,
 *     EPROTO, ERANGE, EOVERFLOW     the frame: as above
 *     ENETDOWN, ENXIO, ENODEV       the port: its interface is down, or gone
 *     EBADFD, EBADF, EIO            the port: the TAP is gone, or was taken from the descriptor
 *     ENOMEM, ENOBUFS, all others   the port
 *   sending
 *     EAGAIN, EINTR, ENOBUFS,
 *     ENOMEM                        the queue: it is full
 *     EINVAL                        the frame: a header that contradicts itself
 *     EMSGSIZE                      the frame: longer than the interface's MTU
 *     EPERM, EACCES                 the frame: a filter of the host refuses it (tc, nftables' egress)
 *     EFAULT, EBADMSG, EPROTO, ERANGE, EOVERFLOW, EOPNOTSUPP
 *                                   the frame
 *     ENETDOWN, ENXIO, ENODEV       the port: its interface is down, or gone
 *     EIO                           the port: the TAP is down
 *     EBADFD, EBADF, all others     the port
 */
enum dp_failure { DP_FAILURE_NONE, DP_FAILURE_FULL, DP_FAILURE_FRAME, DP_FAILURE_PORT };
enum dp_failure dp_port_receive_failure(int error);
enum dp_failure dp_port_send_failure(int error);

/* Whether a port's interface is there and up, so that it can give and take frames. */
bool dp_port_is_up(int fd, uint8_t kind);

/* What the virtio-net header says of its frame: flags of struct dp_frame. */
uint64_t dp_port_frame_flags(const uint8_t *header);

/*
 * Receives one frame into at[0 .. DP_PORT_ROOM), by AF_PACKET [0 .. DP_PORT_BIG_ROOM). 1: `header` is where its
 * virtio-net header begins and `length` the length of the frame behind it, or 0 when it is none, or DP_PORT_TOO_LONG.
 * 0: there is none now. Else -errno.
 */
int dp_port_receive(int fd, uint8_t kind, uint8_t *at, uint8_t **header, uint32_t *length);

/*
 * Receives up to n frames from a TAP through an open ring, the i-th into at + i * step, each with room as above: its
 * virtio-net header is there, and length[i] is its length behind it, or 0 when it is none, or DP_PORT_TOO_LONG, or
 * -EAGAIN when none came, or DP_URING_NOT_DONE when the ring failed, or another negative error.
 */
void dp_port_receive_many(struct dp_uring *ring, uint32_t number, int fd, uint8_t *at, size_t step, uint32_t n,
                          int32_t *length);

/* Frames that the system threw away, since this was asked last, because nobody took them; always 0 for a TAP. */
uint32_t dp_port_missed(int fd, uint8_t kind);

/* Frames on their way to one port; they stay where they are until dp_port_flush. */
struct dp_sending {
    int fd;
    uint8_t kind;
    bool no_bundles;   /* the system takes no datagrams that are to be cut */
    bool wants_tunnel; /* a super-packet had to be cut that would go whole by `tunnel`, which is not there */
    int tunnel;        /* as dp_firewall_set_tunnel has it; -1: none */
    uint32_t n;
    uint8_t *header[DP_SEND_BATCH];
    uint32_t length[DP_SEND_BATCH];
};

/*
 * Sends all of them to the port `number`; what is refused is counted in `drop` by its cause, the rest in `sent`. A
 * super-packet that the port cannot take whole goes by `tunnel`, else in pieces (segment.h). Returns the errno with
 * which the port, not a frame, failed; else 0.
 */
int dp_port_flush(struct dp_sending *sending, struct dp_uring *ring, uint32_t number,
                  struct dp_port_counters *counters);

#endif
