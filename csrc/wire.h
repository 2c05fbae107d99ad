/*
 * wire.h: numbers as they stand in packets, each once (IANA), and the addresses that IPv6 keeps for itself.
 */
#ifndef DP_WIRE_H
#define DP_WIRE_H

#include <stdbool.h>
#include <stdint.h>

enum {
    DP_ETHERTYPE_IPV4 = 0x0800,
    DP_ETHERTYPE_ARP = 0x0806,
    DP_ETHERTYPE_RARP = 0x8035,
    DP_ETHERTYPE_VLAN = 0x8100,
    DP_ETHERTYPE_IPV6 = 0x86dd,
    DP_ETHERTYPE_MPLS = 0x8847,
    DP_ETHERTYPE_MPLS_UPSTREAM = 0x8848,
    DP_ETHERTYPE_PPPOE_SESSION = 0x8864,
    DP_ETHERTYPE_QINQ = 0x88a8,
    DP_ETHERTYPE_QINQ_OLD = 0x9100
};

static inline bool dp_is_vlan_tag(uint32_t ethertype)
{
    return ethertype == DP_ETHERTYPE_VLAN || ethertype == DP_ETHERTYPE_QINQ || ethertype == DP_ETHERTYPE_QINQ_OLD;
}

enum { DP_ARP_REQUEST = 1, DP_ARP_REPLY = 2, DP_RARP_REQUEST = 3 };

enum {
    DP_PROTO_ICMP = 1,
    DP_PROTO_IPIP = 4,
    DP_PROTO_TCP = 6,
    DP_PROTO_UDP = 17,
    DP_PROTO_DCCP = 33,
    DP_PROTO_IPV6 = 41,
    DP_PROTO_GRE = 47,
    DP_PROTO_ICMPV6 = 58,
    DP_PROTO_VRRP = 112, /* and CARP */
    DP_PROTO_SCTP = 132,
    DP_PROTO_UDPLITE = 136
};

/* Whether a transport header begins with two ports (SPEC 2, 4.7). */
static inline bool dp_has_ports(uint32_t protocol)
{
    return protocol == DP_PROTO_TCP || protocol == DP_PROTO_UDP || protocol == DP_PROTO_DCCP ||
           protocol == DP_PROTO_SCTP || protocol == DP_PROTO_UDPLITE;
}

/* IPv6 extension headers that are walked (SPEC 4.7), by their number in the header before. */
enum {
    DP_NEXT_HOP_BY_HOP = 0,
    DP_NEXT_ROUTING = 43,
    DP_NEXT_FRAGMENT = 44,
    DP_NEXT_AUTHENTICATION = 51,
    DP_NEXT_DESTINATION = 60,
    DP_NEXT_MOBILITY = 135
};

enum {
    DP_TCP_FLAG_FIN = 0x01,
    DP_TCP_FLAG_SYN = 0x02,
    DP_TCP_FLAG_RST = 0x04,
    DP_TCP_FLAG_PSH = 0x08,
    DP_TCP_FLAG_ACK = 0x10,
    DP_TCP_FLAG_URG = 0x20,
    DP_TCP_FLAG_CWR = 0x80
};

enum { DP_DHCP_SERVER = 67, DP_DHCP_CLIENT = 68, DP_DHCPV6_CLIENT = 546, DP_DHCPV6_SERVER = 547 };

static inline bool dp_is_dhcp_port(uint32_t port)
{
    return port == DP_DHCP_SERVER || port == DP_DHCP_CLIENT || port == DP_DHCPV6_CLIENT || port == DP_DHCPV6_SERVER;
}

/* Types of ICMPv6: multicast listeners and neighbour discovery. */
enum {
    DP_MLD_QUERY = 130,
    DP_MLD_REPORT = 131,
    DP_MLD_DONE = 132,
    DP_ND_ROUTER_SOLICITATION = 133,
    DP_ND_ROUTER_ADVERTISEMENT = 134,
    DP_ND_NEIGHBOUR_SOLICITATION = 135,
    DP_ND_NEIGHBOUR_ADVERTISEMENT = 136,
    DP_ND_REDIRECT = 137,
    DP_MLD2_REPORT = 143
};

static inline bool dp_is_multicast_listener(uint32_t type)
{
    return (type >= DP_MLD_QUERY && type <= DP_MLD_DONE) || type == DP_MLD2_REPORT;
}

static inline bool dp_is_neighbour_discovery(uint32_t type)
{
    return type >= DP_ND_ROUTER_SOLICITATION && type <= DP_ND_REDIRECT;
}

/* Options of neighbour discovery that are link-layer addresses (RFC 4861, 4.6.1). */
enum { DP_ND_SOURCE_LINK = 1, DP_ND_TARGET_LINK = 2 };

static inline bool dp_ipv6_is_multicast(const uint8_t *address)
{
    return address[0] == 0xff;
}

static inline bool dp_ipv6_is_link_local(const uint8_t *address)
{
    return address[0] == 0xfe && (address[1] & 0xc0) == 0x80;
}

#endif
