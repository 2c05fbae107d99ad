/*
 * control_traffic.h: control traffic, which rules do not judge (SPEC 4.8): ARP, neighbour discovery, MLD, and DHCP of
 * an instance as the client. What has the marks of it (type, ports) and is not so is invalid.
 *
 * DHCP. An instance asks servers by broadcast or multicast, or the one that answered last; for 60 s after it asked,
 * answers to it are control traffic. What is DHCP and goes elsewhere, or comes unasked, is left to the rules. A
 * fragment of DHCP is none. What an instance says as a server, from whatever port, is invalid, unless the policy makes
 * it one.
 *
 * BOUND. What one instance sends as control traffic is held to a rate (struct dp_conntrack_config), in each engine.
 * What comes to it is not: a flood from outside must not shut its neighbours' answers out.
 *
 * Time is that of the packets, ct->now.
 */
#ifndef DP_CONTROL_TRAFFIC_H
#define DP_CONTROL_TRAFFIC_H

#include "judge.h"

/* Whether dp_control has anything to say of a packet; most are out of it here. */
static inline bool dp_may_be_control(const struct dp_packet *p)
{
    if (p->protocol == DP_PROTO_UDP)
        return dp_is_dhcp_port(p->destination_port);
    return p->icmp_class >= DP_ICMP_CONTROL || p->kind == DP_PACKET_ARP;
}

/* True when such a packet is control traffic, or pretends to be; the check is answered then. */
bool dp_control(struct dp_engine *engine, const struct dp_job *job, uint32_t direction, struct dp_check *check);
/*
 * At a port: true, with the answer, when what leaves an instance is a request of RARP (RFC 903), by which a machine
 * that has moved tells the switches where it is. None enters an instance.
 */
bool dp_control_announces(struct dp_engine *engine, const struct dp_job *job, struct dp_check *check);

/*
 * Notes a question for DHCP from an address that no instance has: in a replay, where only addresses tell whose a packet
 * is, a client has none yet. An answer that repeats its transaction is an answer then.
 */
void dp_control_heard(struct dp_engine *engine, const struct dp_packet *packet);

#endif
