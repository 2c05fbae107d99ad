/*
 * segment.h: super-packets in pieces that every port takes, or as a tunnel's that some do, by the headers before their
 * data.
 *
 * A virtio-net header describes TCP or UDP whose data is to be cut, in IP, and nothing around it: what came out of a
 * veth as TCP in a tunnel (VXLAN, Geneve, GRE, IP in IP, and any behind UDP) goes in, and is refused on its way out. A
 * frame of more than 64 KB (BIG TCP) is one that few interfaces take whole. The first are cut into frames of their
 * segment size, the second into super-packets of less than 64 KB. Each piece has its own lengths, IPv4 ids, sequence
 * numbers of TCP and GRE, flags of TCP (CWR in the first, FIN and PSH in the last), and checksums: those of tunnels
 * whole, that of the data as the virtio-net header leaves it, to be completed where a wire needs it.
 *
 * Data is not copied: a piece is its headers, which are the caller's, and a place in the frame. Every read is bounded.
 */
#ifndef DP_IO_SEGMENT_H
#define DP_IO_SEGMENT_H

#include <stdbool.h>
#include <stdint.h>

/* The virtio-net header in front of every frame (linux/virtio_net.h). */
enum { DP_VNET_HEADER = 10 };
/* The one that tells of a tunnel over UDP, too, which TAPs know since Linux 6.17. */
enum { DP_TUNNEL_HEADER = 24 };

enum { DP_SEGMENT_HEADERS = 512, DP_SEGMENT_LAYERS = 10, DP_PIECES = 48 };

/* A header whose fields differ from piece to piece. */
struct dp_segment_layer {
    uint16_t at; /* in the frame */
    uint8_t kind;
};

/* A super-packet on its way; `header` holds the virtio-net header and all headers of the frame. */
struct dp_segmenter {
    const uint8_t *payload;
    uint32_t length; /* of the payload */
    uint32_t done;
    uint32_t chunk;   /* payload of a piece, all but the last */
    uint32_t headers; /* bytes of the frame before its payload */
    uint32_t start;   /* of the transport header */
    uint16_t segment;
    uint8_t layers;
    bool tcp;
    struct dp_segment_layer layer[DP_SEGMENT_LAYERS];
    uint8_t header[DP_SEGMENT_HEADERS];
};

/* Of a frame: its virtio-net header and its headers, then a part of the data. */
struct dp_piece {
    uint8_t header[DP_SEGMENT_HEADERS];
    uint32_t header_length;
    const uint8_t *payload;
    uint32_t payload_length;
};

/*
 * Whether the frame of `length` bytes behind a virtio-net header must go in pieces, and can; it must outlive them. One
 * that cannot be understood is left to the kernel as it is.
 */
bool dp_segment_begin(struct dp_segmenter *segmenter, const uint8_t *header, uint32_t length);
/* The next pieces, n at most; how many, 0 at the end. */
uint32_t dp_segment_next(struct dp_segmenter *segmenter, struct dp_piece *piece, uint32_t n);

/*
 * Pieces of a tunnel over UDP as one frame: a datagram that is to be cut again (UDP segmentation, Linux 6.2), so that
 * all of them take the way through the kernel once. `header` gets what stands before the first piece; behind it belongs
 * of each piece what follows the same number of bytes of its header, then its payload. Their checksums are completed,
 * so that each can also be sent as it is. Returns the bytes of `header`, and in `n` how many pieces, of those given,
 * went in; 0 where there is no such tunnel, or only one piece.
 */
uint32_t dp_segment_bundle(const struct dp_segmenter *segmenter, struct dp_piece *piece, uint32_t *n, uint8_t *header);

/*
 * A super-packet of a tunnel over UDP as it is, for a TAP that takes it: `header` gets the virtio-net header of
 * DP_TUNNEL_HEADER bytes and all headers, behind which belongs the payload. Returns its length; 0 where it is none, or
 * has a VLAN tag, or is longer than 64 KB.
 */
uint32_t dp_segment_whole(const struct dp_segmenter *segmenter, uint8_t *header);
enum { DP_WHOLE_HEADERS = DP_TUNNEL_HEADER + DP_SEGMENT_HEADERS };

#endif
