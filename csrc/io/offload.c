/* offload.c: offload.h in code. */
#include "offload.h"

#include "../bytes.h"
#include "../packet.h"
#include "port.h"

#include <linux/virtio_net.h>
#include <string.h>

enum { MACS = 12, TAG = 4, FRAGMENT_BITS = 0x3fff, TAGS = 2, EXTENSIONS = 16 };

/* The packet's own transport header: its protocol and place; false for a fragment and for what has none. */
static bool find_transport(const uint8_t *frame, uint32_t length, uint8_t *protocol, uint32_t *at)
{
    uint32_t place = MACS, tags = 0;
    uint16_t type;

    for (;; place += TAG) {
        if (place + 2 > length)
            return false;
        type = dp_get16(frame + place);
        if (!dp_is_vlan_tag(type) || tags++ == TAGS)
            break;
    }
    place += 2;
    if (type == DP_ETHERTYPE_IPV4) {
        if (place + 20 > length || dp_get16(frame + place + 6) & FRAGMENT_BITS)
            return false;
        *protocol = frame[place + 9];
        *at = place + (frame[place] & 15) * 4u;
        return *at >= place + 20;
    }
    if (type != DP_ETHERTYPE_IPV6 || place + 40 > length)
        return false;
    *protocol = frame[place + 6];
    *at = place + 40;
    for (uint32_t n = 0; dp_is_extension(*protocol); n++) {
        uint32_t size;

        if (*protocol == DP_NEXT_FRAGMENT || n == EXTENSIONS || *at + 8 > length)
            return false;
        size = dp_extension_size(*protocol, frame + *at);
        if (size < 8)
            return false;
        *protocol = frame[*at];
        *at += size;
    }
    return true;
}

static bool is_dhcp(const uint8_t *udp)
{
    for (int end = 0; end < 2; end++)
        if (dp_is_dhcp_port(dp_get16(udp + end * 2)))
            return true;
    return false;
}

bool dp_offload_is_sound(const uint8_t *header, uint32_t length)
{
    const uint8_t *frame = header + DP_VNET_HEADER, *transport;
    struct virtio_net_hdr vnet;
    uint32_t at, field, own, carried;
    uint8_t protocol;

    memcpy(&vnet, header, sizeof vnet);
    if (!(vnet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM))
        return true;
    field = (uint32_t)vnet.csum_start + vnet.csum_offset;
    if (field + 2 > length || !find_transport(frame, length, &protocol, &at) || at + 8 > length)
        return false;
    transport = frame + at;
    switch (protocol) {
    case DP_PROTO_TCP:
        if (at + 20 > length)
            return false;
        own = 16;
        carried = (transport[12] >> 4) * 4u;
        if (carried < 20)
            return false;
        break;
    case DP_PROTO_UDP:
    case DP_PROTO_UDPLITE:
        own = 6;
        carried = is_dhcp(transport) ? length : 8;
        break;
    case DP_PROTO_SCTP:
        own = 8;
        carried = 12;
        break;
    case DP_PROTO_DCCP:
        own = 6;
        carried = transport[4] * 4u < 12 ? length : transport[4] * 4u;
        break;
    case DP_PROTO_ICMP:
    case DP_PROTO_ICMPV6:
        /* What it carries is judged too: the target of neighbour discovery, the packet that an error quotes. */
        own = 2;
        carried = length;
        break;
    case DP_PROTO_VRRP:
        return false;
    default:
        return field >= at;
    }
    return (vnet.csum_start == at && vnet.csum_offset == own) || field >= at + carried;
}
