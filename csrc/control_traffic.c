/* control_traffic.c: control_traffic.h in code. */
#include "control_traffic.h"

#include "bytes.h"
#include "discovery.h"

/* RFC 2131: 236 bytes of BOOTP and the cookie; RFC 8415, 8: type and transaction. */
enum { BOOTP_SIZE = 240, BOOTP_COOKIE = 236, BOOTP_REQUEST = 1, BOOTP_REPLY = 2, DHCPV6_HEADER = 4, DHCP_MAX = 1472 };

/* From 28 bytes to the 46 that an Ethernet frame has at least, and a frame check sequence that was captured too. */
enum { PADDING_MAX = 22, ARP_ADDRESSES = 20 };

#define ASKED_NS 60000000000u

/* ---- DHCP ---- */

enum dhcp { DHCP_NONE, DHCP_ASKS, DHCP_ANSWERS, DHCP_SERVES };

/* What the ports say that a datagram is, seen from the instance. */
static enum dhcp dhcp_by_ports(const struct dp_packet *p, uint32_t direction)
{
    uint16_t client = p->family == 4 ? DP_DHCP_CLIENT : DP_DHCPV6_CLIENT;
    uint16_t server = p->family == 4 ? DP_DHCP_SERVER : DP_DHCPV6_SERVER;

    if (p->protocol != DP_PROTO_UDP || p->later_fragment || p->tiny_fragment)
        return DHCP_NONE;
    if (p->destination_port == client && (p->source_port == server || p->family == 6))
        return direction == DP_EGRESS ? DHCP_SERVES : DHCP_ANSWERS;
    return direction == DP_EGRESS && p->source_port == client && p->destination_port == server ? DHCP_ASKS : DHCP_NONE;
}

static bool has_cookie(const struct dp_packet *p)
{
    static const uint8_t cookie[4] = {0x63, 0x82, 0x53, 0x63};

    return memcmp(p->inside + BOOTP_COOKIE, cookie, sizeof cookie) == 0;
}

/*
 * Whether a client could take it for an answer of DHCP: clients ask neither for the port that it comes from nor all of
 * them for the operation. A first fragment that ends before the cookie may be the beginning of one.
 */
static bool is_taken_for_answer(const struct dp_packet *p)
{
    if (p->family != 4 || p->destination_port != DP_DHCP_CLIENT || p->later_fragment || p->tiny_fragment)
        return false;
    return p->inside_length < BOOTP_SIZE ? p->fragment : p->inside_captured >= BOOTP_SIZE && has_cookie(p);
}

static bool is_bootp(const struct dp_packet *p, uint8_t operation)
{
    if (p->inside_length < BOOTP_SIZE || (p->inside_captured > 0 && p->inside[0] != operation))
        return false;
    return p->inside_captured < BOOTP_SIZE || has_cookie(p);
}

static bool is_dhcpv6(const struct dp_packet *p, bool asks)
{
    /* Solicit, request, confirm, renew, rebind, release, decline, information; DHCPv4 query (RFC 7341), lease query
     * (RFC 5007). */
    static const uint32_t asking =
        1u << 1 | 1u << 3 | 1u << 4 | 1u << 5 | 1u << 6 | 1u << 8 | 1u << 9 | 1u << 11 | 1u << 14 | 1u << 20;
    /* Advertise, reply, reconfigure; DHCPv4 response; lease query's reply. */
    static const uint32_t answering = 1u << 2 | 1u << 7 | 1u << 10 | 1u << 15 | 1u << 21;

    if (p->inside_length < DHCPV6_HEADER || !dp_discovery_plain(p->network, p->inside - 8))
        return false;
    if (p->inside_captured > 0 && (p->inside[0] > 31 || !((asks ? asking : answering) >> p->inside[0] & 1)))
        return false;
    for (uint32_t at = DHCPV6_HEADER; at < p->inside_length;) {
        if (p->inside_length - at < 4)
            return false;
        if (p->inside_captured < at + 4)
            return true;
        at += 4u + dp_get16(p->inside + at + 2);
        if (at > p->inside_length)
            return false;
    }
    return true;
}

/* Whether it is a message of DHCP, and all of the datagram is. */
static bool is_dhcp(const struct dp_packet *p, bool asks)
{
    if (p->fragment || p->trailer > PADDING_MAX || p->inside_length > DHCP_MAX ||
        dp_get16(p->inside - 4) != p->inside_length + 8)
        return false;
    return p->family == 4 ? is_bootp(p, asks ? BOOTP_REQUEST : BOOTP_REPLY) : is_dhcpv6(p, asks);
}

static uint32_t transaction_of(const struct dp_packet *p)
{
    if (p->inside_captured < (p->family == 4 ? 8u : 4u))
        return 0;
    return p->family == 4 ? dp_get32(p->inside + 4) : dp_get32(p->inside) & 0xffffff;
}

/* All servers, or the one that answered last. */
static bool is_for_server(const struct dp_packet *p, const struct dp_zone_control *known)
{
    static const uint8_t agents[16] = {0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2};
    static const uint8_t servers[16] = {0xff, 0x05, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 3};
    const uint8_t *to = p->destination.byte;

    if (p->family == 4)
        return p->destination.word[0] == UINT32_MAX ||
               (known->server[0].word[0] && p->destination.word[0] == known->server[0].word[0]);
    return memcmp(to, agents, 16) == 0 || memcmp(to, servers, 16) == 0 ||
           (known->server[1].word[0] && memcmp(to, &known->server[1], 16) == 0);
}

static bool was_asked(const struct dp_engine *engine, const struct dp_job *job, const struct dp_zone_control *known)
{
    const struct dp_packet *p = &job->packet;
    uint64_t now = engine->conntrack.now, asked = known->asked_ns[p->family == 6];

    if (asked && now - (asked - 1) < ASKED_NS)
        return true;
    for (uint32_t i = 0; !job->place && i < DP_DHCP_QUESTIONS; i++) {
        const struct dp_dhcp_question *q = &engine->first->question[i];

        if (q->family == p->family && q->id == transaction_of(p) && now - q->time_ns < ASKED_NS)
            return true;
    }
    return false;
}

void dp_control_heard(struct dp_engine *engine, const struct dp_packet *p)
{
    struct dp_engine *first = engine->first;

    if (p->kind != DP_PACKET_IP || dhcp_by_ports(p, DP_EGRESS) != DHCP_ASKS || !is_dhcp(p, true))
        return;
    first->question[first->n_questions++ % DP_DHCP_QUESTIONS] =
        (struct dp_dhcp_question){engine->conntrack.now, p->family, transaction_of(p)};
}

/* ---- the bound ---- */

/* What a packet costs: one, and one more for each 128 bytes that IP says of it, so that few large ones carry no more.
 */
static uint64_t cost_of(const struct dp_packet *p)
{
    return p->kind != DP_PACKET_IP ? 1 : 1 + dp_get16(p->network + (p->family == 4 ? 2 : 4)) / 128u;
}

/* Whether the zone may send one more now. `sent_ns` is when the bucket is full again. */
static bool within_rate(const struct dp_conntrack *ct, const struct dp_packet *p, struct dp_zone_control *known)
{
    uint64_t each, full, cost = cost_of(p);

    if (!ct->config.control_rate)
        return true;
    each = 1000000000u / ct->config.control_rate;
    full = known->sent_ns > ct->now ? known->sent_ns : ct->now;
    if (full - ct->now + each * cost > each * ct->config.control_burst)
        return false;
    known->sent_ns = full + each * cost;
    return true;
}

/* ---- answers ---- */

static void pass(struct dp_engine *engine, const struct dp_packet *p, uint32_t direction, struct dp_zone_control *known,
                 struct dp_check *check)
{
    if (direction == DP_INGRESS || within_rate(&engine->conntrack, p, known)) {
        dp_answer(check, DP_ALLOW, DP_STATE_UNTRACKED, DP_REASON_CONTROL);
        return;
    }
    dp_answer(check, DP_DENY, DP_STATE_UNTRACKED, DP_REASON_CONTROL);
    check->cause = DP_CAUSE_CONTROL_RATE;
}

static bool judge_dhcp(struct dp_engine *engine, const struct dp_job *job, uint32_t direction, struct dp_zone *zone,
                       struct dp_check *check)
{
    const struct dp_packet *p = &job->packet;
    struct dp_zone_control *known = &zone->control;
    bool six = p->family == 6;
    enum dhcp role = dhcp_by_ports(p, direction);

    if (role == DHCP_NONE && direction == DP_EGRESS && is_taken_for_answer(p))
        role = DHCP_SERVES;
    if (role == DHCP_NONE || (role == DHCP_SERVES && zone->dhcp_server))
        return false;
    if (role == DHCP_SERVES) {
        dp_answer_invalid(check, DP_CAUSE_DHCP_SERVER);
        return true;
    }
    if (!is_dhcp(p, role == DHCP_ASKS)) {
        /* Only the servers' own port says that it means to be DHCP. */
        if (role == DHCP_ANSWERS && p->source_port != (six ? DP_DHCPV6_SERVER : DP_DHCP_SERVER))
            return false;
        dp_answer_invalid(check, DP_CAUSE_DHCP);
        return true;
    }
    if (role == DHCP_ASKS ? !is_for_server(p, known) : !was_asked(engine, job, known))
        return false;
    pass(engine, p, direction, known, check);
    if (check->verdict != DP_ALLOW)
        return true;
    if (role == DHCP_ASKS)
        known->asked_ns[six] = 1 + engine->conntrack.now;
    else
        memcpy(&known->server[six], &p->source, six ? 16 : 4);
    return true;
}

bool dp_control_announces(struct dp_engine *engine, const struct dp_job *job, struct dp_check *check)
{
    const struct dp_packet *p = &job->packet;
    struct dp_zone nobody = {0};
    uint32_t zone = job->zone[DP_EGRESS];

    if (!p->rarp_request || p->inside_length > ARP_ADDRESSES + PADDING_MAX)
        return false;
    pass(engine, p, DP_EGRESS,
         zone < engine->first->conntrack.n_zones ? &engine->first->conntrack.zones[zone].control : &nobody.control,
         check);
    return true;
}

static bool is_arp(const struct dp_packet *p)
{
    uint32_t operation = dp_get16(p->inside - 2);

    return p->inside_length <= ARP_ADDRESSES + PADDING_MAX &&
           (operation == DP_ARP_REQUEST || operation == DP_ARP_REPLY);
}

bool dp_control(struct dp_engine *engine, const struct dp_job *job, uint32_t direction, struct dp_check *check)
{
    const struct dp_packet *p = &job->packet;
    struct dp_zone nobody = {0}; /* a port's, whose instance the policy does not have */
    struct dp_conntrack *first = &engine->first->conntrack;
    struct dp_zone *zone = job->zone[direction] < first->n_zones ? &first->zones[job->zone[direction]] : &nobody;
    bool router = p->icmp_class == DP_ICMP_CONTROL_FROM_HOST;

    if (p->protocol == DP_PROTO_UDP)
        return judge_dhcp(engine, job, direction, zone, check);
    if (p->kind == DP_PACKET_ARP) {
        if (is_arp(p))
            pass(engine, p, direction, &zone->control, check);
        else
            dp_answer_invalid(check, DP_CAUSE_ARP);
    } else if (p->icmp_class == DP_ICMP_CONTROL_BROKEN || p->trailer > PADDING_MAX ||
               (router && direction == DP_EGRESS)) {
        dp_answer_invalid(check, dp_is_multicast_listener(p->selector >> 8 & 0xff) ? DP_CAUSE_MULTICAST_LISTENER
                                                                                   : DP_CAUSE_NEIGHBOUR_DISCOVERY);
    } else {
        pass(engine, p, direction, &zone->control, check);
    }
    return true;
}
