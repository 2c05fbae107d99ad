/* fast_path.c: fast_path.h in code: reading, fetching, judging. */
#include "fast_path.h"

#include "bytes.h"
#include "checksum.h"
#include "link.h"
#include "spoof.h"
#include "tcp_window.h"

#include <stddef.h>

/* Straight-line code, with what is constant folded in. */
#define ALWAYS_INLINE __attribute__((always_inline))
/* What few packets need stands apart, so that it takes no registers from what all need. */
#define NEVER_INLINE __attribute__((noinline))

enum { ETHERNET = 14, IPV4 = 20, IPV6 = 40, TCP = 20, EIGHT = 8, TAGS_MAX = 2 };
_Static_assert(DP_INGRESS == 0, "the direction is masked");
enum { MEANT_FLAGS = DP_TCP_FLAG_SYN | DP_TCP_FLAG_FIN | DP_TCP_FLAG_RST | DP_TCP_FLAG_ACK | DP_TCP_FLAG_URG };
enum { ECHO_REPLY = 0, ECHO = 8, ECHO_V6 = 128, ECHO_REPLY_V6 = 129 };

/* ---- reading ---- */

/* The ports of a key, local << 16 | remote, where the packet leaves an instance; where it enters one, the bits of
 * `turn` are others. */
struct ports {
    uint32_t leaving;
    uint32_t turn;
};

/* Those of a query; 0 for what is none. */
static NEVER_INLINE uint32_t echo_leaving(const uint8_t *p, uint8_t reply, uint8_t request)
{
    uint32_t kind = p[0] == request ? request | DP_KEY_QUERY_OUT : request;

    return p[0] == request || p[0] == reply ? (uint32_t)dp_get16(p + 4) << 16 | kind : 0;
}

/* The transport header at `p`, `length` bytes with its data, eight at least; of TCP, `data` of these are behind it. */
static inline ALWAYS_INLINE bool read_transport(const uint8_t *p, uint32_t length, uint32_t family, uint8_t protocol,
                                                struct ports *ports, uint32_t *data)
{
    uint32_t header;

    if (protocol == DP_PROTO_TCP) {
        if (length < TCP)
            return false;
        header = (uint32_t)(p[12] & 0xf0) / 4;
        if (header < TCP || header > length)
            return false;
        *data = length - header;
    } else if (protocol == DP_PROTO_UDP) {
        if (dp_get16(p + 4) < EIGHT || dp_get16(p + 4) > length || dp_is_dhcp_port(dp_get16(p + 2)))
            return false;
    } else {
        if (protocol != (family == 4 ? DP_PROTO_ICMP : DP_PROTO_ICMPV6))
            return false;
        ports->leaving = family == 4 ? echo_leaving(p, ECHO_REPLY, ECHO) : echo_leaving(p, ECHO_REPLY_V6, ECHO_V6);
        ports->turn = DP_KEY_QUERY_OUT;
        return ports->leaving != 0;
    }
    ports->leaving = dp_get32(p);
    ports->turn = ports->leaving ^ (ports->leaving << 16 | ports->leaving >> 16);
    return true;
}

static inline bool is_checksum_right(const uint8_t *ip)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < IPV4; i += 4)
        sum += dp_raw32(ip + i);
    sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    return sum == 0xffff;
}

/* The addresses of an IP header, of IPv4 their first words; apart, so that they need no memory. */
struct addresses {
    uint32_t source[4];
    uint32_t destination[4];
};

static NEVER_INLINE uint32_t find_in_prefix(const struct dp_endpoints *endpoints, uint32_t family,
                                            const uint8_t *address)
{
    union dp_address a;

    memcpy(&a, address, family == 4 ? 4 : 16);
    return dp_endpoints_find(endpoints, family, &a);
}

/* What an address leads to; of one in a prefix, its zone. */
static inline ALWAYS_INLINE uint32_t look_up(const struct dp_endpoints *endpoints,
                                             const struct dp_single_addresses *single, uint32_t family,
                                             const uint8_t *address)
{
    union dp_address six;
    uint32_t value;

    if (family == 4) {
        value = dp_single_find4(single, dp_raw32(address));
    } else {
        memcpy(&six, address, 16);
        value = dp_single_find6(single, &six);
    }
    return value == single->may_be_in_prefix[family == 6] ? find_in_prefix(endpoints, family, address) : value;
}

/*
 * The check at `zone`, which the packet enters if `enters` is all ones, and leaves if it is 0; its key is as
 * dp_flow_key_of has it. No branch depends on the direction, as it cannot be told before.
 */
static inline ALWAYS_INLINE void put_check(const struct dp_flow_table *table, struct ports ports, uint32_t zone,
                                           uint32_t enters, uint32_t family, uint8_t protocol,
                                           const struct addresses *addresses, struct dp_fast_check *check)
{
    uint32_t both = ports.leaving ^ (enters & ports.turn), hash;
    struct dp_flow_key key;

    key.family = family;
    key.vlans = 0;
    key.zone_protocol = zone << 8 | protocol;
    key.local_port = (uint16_t)(both >> 16);
    key.remote_port = (uint16_t)both;
    for (int i = 0; i < (family == 4 ? 1 : 4); i++) {
        uint32_t differ = addresses->source[i] ^ addresses->destination[i];

        key.local.word[i] = addresses->source[i] ^ (enters & differ);
        key.remote.word[i] = key.local.word[i] ^ differ;
    }
    hash = dp_flow_hash(&table->secret, &key);
    dp_flow_table_prefetch_slot(table, hash);
    check->local = key.local.word[0];
    check->remote = key.remote.word[0];
    check->local_port = key.local_port;
    check->remote_port = key.remote_port;
    check->zone_protocol = key.zone_protocol;
    check->hash = hash;
}

static inline ALWAYS_INLINE void read_addresses(const uint8_t *ip, uint32_t family, struct addresses *addresses)
{
    const uint32_t size = family == 4 ? 4 : 16;
    const uint8_t *at = ip + (family == 4 ? 12 : 8);

    memcpy(addresses->source, at, size);
    memcpy(addresses->destination, at + size, size);
}

/* The check of one end more, as of a packet between two instances. */
static NEVER_INLINE void put_second(const struct dp_flow_table *table, struct ports ports, uint32_t zone,
                                    const uint8_t *ip, struct dp_fast *fast)
{
    struct addresses addresses;

    read_addresses(ip, fast->family, &addresses);
    fast->direction[1] = DP_INGRESS;
    put_check(table, ports, zone, UINT32_MAX, fast->family, fast->protocol, &addresses, &fast->check[1]);
}

/* What reading a burst needs of the engine. */
struct reading {
    const struct dp_flow_table *table;
    const struct dp_endpoints *endpoints;
    const struct dp_single_addresses *single;
    bool verify;
};

/* Whether the sender may come by the port, and the checksums are right. */
static NEVER_INLINE bool is_sound(const struct reading *reading, const struct dp_frame *frame,
                                  const struct dp_place *place, const uint8_t *ip, const uint32_t family,
                                  uint8_t protocol)
{
    const uint32_t size = family == 4 ? 4 : 16;
    const uint8_t *at = ip + (family == 4 ? 12 : 8);
    struct dp_packet p;
    uint32_t whose;

    if (frame->flags & DP_FRAME_CHECKSUM_OFFLOADED) {
        if (reading->verify && family == 4 && !is_checksum_right(ip))
            return false;
        if (!place || !place->guard)
            return true;
    }
    memcpy(&p.source, at, size);
    memcpy(&p.destination, at + size, size);
    p.source_port = p.destination_port = 0; /* not those of DHCP */
    p.family = (uint8_t)family;
    p.protocol = protocol;
    p.kind = DP_PACKET_IP;
    p.selector = 0;
    p.icmp_class = DP_ICMP_UNKNOWN;
    p.fragment = p.rarp_request = false;
    p.network = ip;
    p.source_mac = frame->data + 6;
    p.inside = NULL;
    p.inside_captured = 0;
    return !(place && place->guard && dp_is_spoofed(reading->endpoints, place, &p, &whose)) &&
           (!reading->verify || dp_checksum_right(frame, &p));
}

/* Behind the link header; `captured` bytes from the IP header on, which hold it and eight bytes more. */
static inline ALWAYS_INLINE bool read_ip(const struct reading *reading, const struct dp_frame *frame,
                                         const struct dp_place *place, const uint8_t *ip, uint32_t captured,
                                         const uint32_t family, uint32_t vlans, struct dp_fast *fast)
{
    const uint32_t header = family == 4 ? IPV4 : IPV6, size = family == 4 ? 4 : 16;
    struct addresses addresses;
    uint8_t protocol = family == 4 ? ip[9] : ip[6];
    uint32_t length, from, to, enters;
    struct ports ports;

    if (family == 4) {
        length = dp_get16(ip + 2);
        if (ip[0] != 0x45 || (ip[6] & 0x3f) || ip[7] || length > captured)
            return false;
    } else {
        length = dp_get16(ip + 4) + IPV6;
        if (ip[0] >> 4 != 6 || length > captured)
            return false;
    }
    read_addresses(ip, family, &addresses);
    if (length < header + EIGHT || memcmp(addresses.source, addresses.destination, size) == 0 ||
        !read_transport(ip + header, length - header, family, protocol, &ports, &fast->data) ||
        ((reading->verify || (place && place->guard)) && !is_sound(reading, frame, place, ip, family, protocol)))
        return false;
    if (place) {
        from = place->zone[DP_EGRESS];
        to = place->zone[DP_INGRESS];
    } else {
        from = look_up(reading->endpoints, reading->single, family, ip + header - 2 * size);
        to = look_up(reading->endpoints, reading->single, family, ip + header - size);
        if ((int)dp_is_shared(from) | (int)dp_is_shared(to))
            return false;
    }
    if (vlans && (dp_endpoints_overlaps(reading->endpoints, dp_endpoint_zone(from)) ||
                  dp_endpoints_overlaps(reading->endpoints, dp_endpoint_zone(to))))
        return false;
    fast->transport = ip + header;
    fast->family = (uint8_t)family;
    fast->protocol = protocol;
    fast->vlans = vlans;
    /* Of most packets one end is an instance's. */
    enters = -(uint32_t)(from == DP_NO_ZONE);
    fast->direction[0] = (uint8_t)(DP_EGRESS & ~enters);
    fast->checks = (uint8_t)((from != DP_NO_ZONE) + (to != DP_NO_ZONE));
    put_check(reading->table, ports, (from ^ (enters & (from ^ to))) & ~(uint32_t)DP_ENDPOINT_VIRTUAL, enters, family,
              protocol, &addresses, &fast->check[0]);
    if (fast->checks == DP_DIRECTIONS)
        put_second(reading->table, ports, to & ~(uint32_t)DP_ENDPOINT_VIRTUAL, ip, fast);
    return true;
}

/* A frame that has tags, or no IPv4. */
static NEVER_INLINE bool read_other(const struct reading *reading, const struct dp_frame *frame,
                                    const struct dp_place *place, struct dp_fast *fast)
{
    const uint8_t *p = frame->data;
    uint32_t captured = frame->captured, vlans = 0;
    uint16_t type = dp_get16(p + ETHERNET - 2);

    for (int tags = 0; dp_is_vlan_tag(type) && tags < TAGS_MAX && captured >= ETHERNET + 4; tags++) {
        vlans = vlans << 12 | (dp_get16(p + ETHERNET) & 0xfff);
        p += 4;
        captured -= 4;
        type = dp_get16(p + ETHERNET - 2);
    }
    if (type == DP_ETHERTYPE_IPV4 && captured >= ETHERNET + IPV4 + EIGHT)
        return read_ip(reading, frame, place, p + ETHERNET, captured - ETHERNET, 4, vlans, fast);
    if (type == DP_ETHERTYPE_IPV6 && captured >= ETHERNET + IPV6 + EIGHT)
        return read_ip(reading, frame, place, p + ETHERNET, captured - ETHERNET, 6, vlans, fast);
    return false;
}

static inline ALWAYS_INLINE bool read_frame(const struct reading *reading, const struct dp_frame *frame,
                                            const struct dp_place *place, struct dp_fast *fast)
{
    if (frame->captured < ETHERNET + IPV4 + EIGHT || frame->link != DP_LINK_ETHERNET)
        return false;
    if (dp_get16(frame->data + ETHERNET - 2) != DP_ETHERTYPE_IPV4)
        return read_other(reading, frame, place, fast);
    return read_ip(reading, frame, place, frame->data + ETHERNET, frame->captured - ETHERNET, 4, 0, fast);
}

/* Whether an acknowledgement leaves an established connection so, as it does in any policy. */
static bool stay_established(const struct dp_conntrack_config *config)
{
    const uint8_t (*next)[DP_TCP_EVENTS] = config->tcp_next[DP_CONN_TCP_ESTABLISHED];

    return next[DP_INITIATOR][DP_TCP_ACK] == DP_CONN_TCP_ESTABLISHED &&
           next[DP_RESPONDER][DP_TCP_ACK] == DP_CONN_TCP_ESTABLISHED;
}

uint32_t dp_fast_read(const struct dp_engine *engine, const struct dp_frame *frames, const uint32_t *which,
                      const struct dp_place *places, uint32_t n, bool verify, struct dp_fast *fast)
{
    const struct dp_endpoints *endpoints = engine->policy->endpoints;
    struct reading reading = {.table = &engine->conntrack.table, .endpoints = endpoints, .verify = verify};
    uint32_t set = 0;

    if (!endpoints || engine->policy->balancers || engine->long_way || !stay_established(&engine->conntrack.config))
        return 0;
    reading.single = dp_endpoints_single(endpoints);
    if (which)
        for (uint32_t k = 0; k < n; k++)
            set |= (uint32_t)read_frame(&reading, &frames[which[k]], NULL, &fast[k]) << k;
    else if (places)
        for (uint32_t k = 0; k < n; k++)
            set |= (uint32_t)read_frame(&reading, &frames[k], &places[k], &fast[k]) << k;
    else
        for (uint32_t k = 0; k < n; k++)
            set |= (uint32_t)read_frame(&reading, &frames[k], NULL, &fast[k]) << k;
    return set;
}

static inline void fetch(const struct dp_flow_table *table, struct dp_fast_check *check)
{
    check->entry = dp_flow_table_first(table, check->hash, &check->end);
    __builtin_prefetch(&table->entries[check->entry], 1);
}

void dp_fast_fetch(const struct dp_engine *engine, struct dp_fast *fast, uint32_t set)
{
    const struct dp_flow_table table = engine->conntrack.table;

    /* Where there is no check, the first is of nobody's zone, and there is no such entry. */
    for (struct dp_fast *one = fast; set; set >>= 1, one++)
        if (set & 1) {
            one->rearranged = table.rearranged;
            fetch(&table, &one->check[0]);
            if (one->checks == DP_DIRECTIONS)
                fetch(&table, &one->check[1]);
        }
}

/* ---- judging ---- */

_Static_assert(offsetof(struct dp_fast_check, remote) == offsetof(struct dp_entry, remote) &&
                   offsetof(struct dp_fast_check, local_port) == offsetof(struct dp_entry, local_port) &&
                   offsetof(struct dp_fast_check, remote_port) == offsetof(struct dp_entry, remote_port) &&
                   offsetof(struct dp_fast_check, zone_protocol) == offsetof(struct dp_entry, zone_protocol),
               "a key of IPv4 is compared as it lies");

/* The IP header. */
static const uint8_t *network_of(const struct dp_fast *fast)
{
    return fast->transport - (fast->family == 4 ? IPV4 : IPV6);
}

/* The same of IPv6, whose addresses stand elsewhere; of no VLAN. */
static NEVER_INLINE bool has_wide_key(const struct dp_flow_table *table, const struct dp_entry *e,
                                      const struct dp_fast *fast, const struct dp_fast_check *check, bool in)
{
    const uint8_t *source = network_of(fast) + 8, *destination = source + 16;
    const struct dp_address_pair *pair;

    if (memcmp(&e->local_port, &check->local_port, 8) != 0 || !(e->flags & DP_ENTRY_WIDE) || e->remote != 0)
        return false;
    pair = &table->pairs[e->local];
    return memcmp(&pair->local, in ? destination : source, 16) == 0 &&
           memcmp(&pair->remote, in ? source : destination, 16) == 0;
}

static inline ALWAYS_INLINE bool has_key(const struct dp_flow_table *table, const struct dp_entry *e,
                                         const struct dp_fast *fast, const struct dp_fast_check *check, bool in)
{
    return fast->family == 4 ? memcmp(e, check, 16) == 0 && !(e->flags & DP_ENTRY_WIDE)
                             : has_wide_key(table, e, fast, check, in);
}

/* Whether the entry that was found for check `i` is of its connection, and that lives. */
static inline ALWAYS_INLINE bool is_live(const struct dp_conntrack *ct, const struct dp_entry *e,
                                         const struct dp_fast *fast, uint32_t i)
{
    return has_key(&ct->table, e, fast, &fast->check[i], fast->direction[i] == DP_INGRESS) &&
           e->state != DP_CONN_INVALID && e->change == ct->change && !(e->flags & DP_ENTRY_CUT) &&
           ct->now - e->last_ns < ct->config.timeout_ns[e->state];
}

/* Who sends what comes in `direction`: as a number, which chooses without a branch. */
static inline ALWAYS_INLINE uint32_t side_of(const struct dp_entry *e, uint32_t direction)
{
    _Static_assert(DP_INGRESS == 0 && DP_EGRESS == 1 && DP_INITIATOR == 0 && DP_RESPONDER == 1 && DP_ENTRY_INBOUND == 2,
                   "what enters an inbound connection is of its initiator");
    return direction ^ (e->flags >> 1 & 1) ^ 1;
}

/* Whether what is no TCP leaves its connection in its state. */
static inline ALWAYS_INLINE bool stays(const struct dp_entry *e, uint32_t side)
{
    return e->state == DP_CONN_OTHER_TWO_WAY || e->state == DP_CONN_ICMP_TWO_WAY ||
           (side == DP_INITIATOR && (e->state == DP_CONN_OTHER_ONE_WAY || e->state == DP_CONN_ICMP_ONE_WAY));
}

/* Those fields of an entry that say what is held of its connection. */
struct holding {
    uint8_t state;
    uint8_t flags;
    uint8_t scale_flags[DP_SIDES];
};
_Static_assert(offsetof(struct dp_entry, flags) == offsetof(struct dp_entry, state) + 1 &&
                   offsetof(struct dp_entry, tcp_scale_flags) == offsetof(struct dp_entry, state) + 2,
               "they lie together");

static inline ALWAYS_INLINE uint32_t word_of(const void *holding)
{
    uint32_t word;

    memcpy(&word, holding, sizeof word);
    return word;
}

/* Whether a connection is established, and neither has the peer of `side` sent a FIN nor `side` no acknowledgement. */
static inline ALWAYS_INLINE bool is_flowing(const struct dp_entry *e, uint32_t side)
{
    static const struct holding asked[DP_SIDES] =
        {{0xff, 0, {DP_TCP_SIDE_LIBERAL | DP_TCP_SIDE_ACKED, DP_TCP_SIDE_FIN}},
         {0xff, 0, {DP_TCP_SIDE_FIN, DP_TCP_SIDE_LIBERAL | DP_TCP_SIDE_ACKED}}},
                                answer[DP_SIDES] = {{DP_CONN_TCP_ESTABLISHED, 0, {DP_TCP_SIDE_ACKED, 0}},
                                                    {DP_CONN_TCP_ESTABLISHED, 0, {0, DP_TCP_SIDE_ACKED}}};

    return (word_of(&e->state) & word_of(&asked[side])) == word_of(&answer[side]);
}

/*
 * Moves the window by a segment that goes straight on, which most do: it is no older than what its side has sent last,
 * ends where the receiver has said there is room, acknowledges something that was sent lately, and offers no larger
 * window than before. The conditions of dp_tcp_is_inside follow from these, and dp_tcp_move comes to no more: no number
 * is 2^30 or more ahead, nor a window so large. False, and nothing has changed, for all others.
 */
static inline ALWAYS_INLINE bool goes_on(struct dp_entry *e, uint32_t side, const struct dp_fast *fast)
{
    const uint8_t *p = fast->transport;
    uint32_t peer = side ^ 1, ack = dp_get32(p + 8), end = dp_get32(p + 4) + fast->data, units = dp_get16(p + 14);
    uint32_t window = units << (e->tcp_scale_flags[side] & DP_TCP_SCALE_MASK);
    uint32_t ahead = end - e->tcp_end[side], room = e->tcp_max_end[side] - end;
    uint32_t unanswered = e->tcp_end[peer] - ack, offered = e->tcp_max_end[peer] - ack;

    if ((p[13] & MEANT_FLAGS) != DP_TCP_FLAG_ACK || (ahead | room | offered) >> 30 ||
        unanswered > DP_TCP_ACK_WINDOW_LEAST || units - 1 >= e->tcp_max_window[side])
        return false;
    e->tcp_end[side] = end;
    e->tcp_max_ack[side] = dp_seq_later(e->tcp_max_ack[side], ack);
    e->tcp_max_end[peer] = dp_seq_later(e->tcp_max_end[peer], ack + window);
    return true;
}

/* All of it was captured. */
static void read_segment(const struct dp_fast *fast, struct dp_tcp_segment *segment)
{
    uint32_t header = (uint32_t)(fast->transport[12] >> 4) * 4;

    dp_tcp_read(fast->transport, header, fast->data + header, header, segment);
}

/* Whether the packet leaves the connection of check `i` in its state. */
static bool stays_so(const struct dp_entry *e, const struct dp_fast *fast, uint32_t i)
{
    const enum dp_side side = (enum dp_side)side_of(e, fast->direction[i]), peer = (enum dp_side)(side ^ 1);
    struct dp_tcp_segment s;

    if (fast->protocol != DP_PROTO_TCP)
        return stays(e, side);
    read_segment(fast, &s);
    return e->state == DP_CONN_TCP_ESTABLISHED && (s.flags & MEANT_FLAGS) == DP_TCP_FLAG_ACK &&
           !(e->tcp_scale_flags[peer] & DP_TCP_SIDE_FIN) && e->tcp_max_window[side] != 0 &&
           ((e->tcp_scale_flags[side] & DP_TCP_SIDE_LIBERAL) || dp_tcp_is_inside(e, side, peer, s.seq, s.ack, s.end));
}

/* Keeps a connection that stays so. */
static void keep_so(struct dp_conntrack *ct, struct dp_entry *e, const struct dp_fast *fast, uint32_t i)
{
    const enum dp_side side = (enum dp_side)side_of(e, fast->direction[i]), peer = (enum dp_side)(side ^ 1);
    struct dp_tcp_segment s;

    if (fast->protocol == DP_PROTO_TCP) {
        read_segment(fast, &s);
        /* In units of its scale, as it stands in the segment. */
        if (s.window > e->tcp_max_window[side])
            e->tcp_max_window[side] = s.window;
        dp_tcp_move(e, side, peer, s.end, s.ack, (uint32_t)s.window << dp_tcp_scale(e, side), true);
    }
    e->last_ns = ct->now;
}

/*
 * Keeps the connection of the one check where the packet is valid in another way: it may stand elsewhere in its window,
 * or outside and pass all the same, or lead to another state, but not begin the connection anew.
 */
static NEVER_INLINE bool keep_otherwise(struct dp_conntrack *ct, const struct dp_fast *fast)
{
    const uint32_t entry = fast->check[0].entry;
    struct dp_entry *e = &ct->table.entries[entry];
    const enum dp_side side = (enum dp_side)side_of(e, fast->direction[0]);
    struct dp_tcp_segment segment;
    enum dp_cause cause;
    uint8_t next;

    if (stays_so(e, fast, 0)) {
        keep_so(ct, e, fast, 0);
        return true;
    }
    if (fast->protocol == DP_PROTO_TCP) {
        read_segment(fast, &segment);
        if (ct->config.reopens[e->state] && (segment.flags & (DP_TCP_FLAG_SYN | DP_TCP_FLAG_ACK)) == DP_TCP_FLAG_SYN)
            return false;
    }
    cause = dp_judge_step(ct, e, fast->protocol, &segment, side, &next);
    if (cause == DP_CAUSE_TCP_WINDOW)
        switch (dp_tcp_outside(&ct->config, &ct->resync, &ct->table, entry, side, &segment, &next)) {
        case DP_TCP_UNCHANGED:
            return true;
        case DP_TCP_RESYNCED:
            ct->resynchronised++;
            break;
        default:
            return false;
        }
    else if (cause)
        return false;
    dp_conntrack_keep(ct, entry, next);
    return true;
}

/* Keeps the connection of check 0, by which the packet passes; false, and nothing has changed, where it may not. */
static inline ALWAYS_INLINE bool keep(struct dp_conntrack *ct, struct dp_entry *e, const struct dp_fast *fast)
{
    uint32_t side = side_of(e, fast->direction[0]);

    if (fast->protocol == DP_PROTO_TCP ? is_flowing(e, side) && goes_on(e, side, fast) : stays(e, side)) {
        e->last_ns = ct->now;
        return true;
    }
    return keep_otherwise(ct, fast);
}
/* What a connection answers, behind its zone and rule: by the direction of the check, and whether it is inbound. */
struct answer {
    uint8_t direction;
    uint8_t verdict;
    uint8_t state;
    uint8_t reason;
    uint8_t origin;
    uint8_t cause;
    uint8_t unused[2];
};
_Static_assert(offsetof(struct dp_check, verdict) == offsetof(struct dp_check, direction) + 1 &&
                   offsetof(struct dp_check, state) == offsetof(struct dp_check, direction) + 2 &&
                   offsetof(struct dp_check, reason) == offsetof(struct dp_check, direction) + 3 &&
                   offsetof(struct dp_check, origin) == offsetof(struct dp_check, direction) + 4 &&
                   offsetof(struct dp_check, cause) == offsetof(struct dp_check, direction) + 5 &&
                   offsetof(struct dp_check, opened_by) == offsetof(struct dp_check, direction) + sizeof(struct answer),
               "they lie as in a check");
#define ANSWER(d, o) {d, DP_ALLOW, DP_STATE_ESTABLISHED, DP_REASON_CONNECTION, o, DP_CAUSE_NONE, {0, 0}}
static const struct answer answers[DP_DIRECTIONS][2] = {
    [DP_INGRESS] = {ANSWER(DP_INGRESS, DP_OUTBOUND), ANSWER(DP_INGRESS, DP_INBOUND)},
    [DP_EGRESS] = {ANSWER(DP_EGRESS, DP_OUTBOUND), ANSWER(DP_EGRESS, DP_INBOUND)},
};

/* Answers check `i` by its connection, and counts it for the rule that admitted that. */
static inline ALWAYS_INLINE void answer(struct dp_engine *engine, const struct dp_entry *e, const struct dp_fast *fast,
                                        uint32_t i, uint32_t length, struct dp_check *check)
{
    const struct dp_conntrack *ct = &engine->conntrack;
    uint32_t rule = e->rule;

    check->zone = fast->check[i].zone_protocol >> 8;
    check->rule = rule;
    memcpy((uint8_t *)check + offsetof(struct dp_check, direction), &answers[fast->direction[i]][e->flags >> 1 & 1],
           sizeof(struct answer));
    check->opened_by = ct->openers ? ct->openers[fast->check[i].entry] : 0;
    if (rule && rule < engine->n_rule_counters) {
        engine->rule_counters[rule].traffic.packets++;
        engine->rule_counters[rule].traffic.bytes += length;
    }
}

static void add(struct dp_counter *counter, uint64_t packets, uint64_t bytes)
{
    counter->packets += packets;
    counter->bytes += bytes;
}

static void count(struct dp_engine *engine, uint8_t verdict, uint64_t packets, uint64_t bytes, uint64_t checks)
{
    add(&engine->counters.verdict[verdict], packets, bytes);
    add(&engine->answers[DP_ALLOW][DP_REASON_CONNECTION][DP_STATE_ESTABLISHED], checks * packets, checks * bytes);
}

/* A packet between two instances, or between none. */
static NEVER_INLINE bool judge_two_or_none(struct dp_engine *engine, const struct dp_fast *fast, uint32_t length,
                                           struct dp_record *record)
{
    struct dp_conntrack *ct = &engine->conntrack;

    for (uint32_t i = 0; i < fast->checks; i++) {
        const struct dp_entry *e = &ct->table.entries[fast->check[i].entry];

        if (!is_live(ct, e, fast, i) || !stays_so(e, fast, i))
            return false;
    }
    record->checks = fast->checks;
    record->verdict = fast->checks ? DP_ALLOW : DP_BYPASS;
    memset(record->check, 0, sizeof record->check);
    for (uint32_t i = 0; i < fast->checks; i++) {
        struct dp_entry *e = &ct->table.entries[fast->check[i].entry];

        keep_so(ct, e, fast, i);
        answer(engine, e, fast, i, length, &record->check[i]);
    }
    count(engine, record->verdict, 1, length, fast->checks);
    return true;
}

/* What finds a connection, the rules look at, and one is made from. */
static void read_first(const struct dp_fast *fast, struct dp_packet *p)
{
    const uint8_t *source = network_of(fast) + (fast->family == 4 ? 12 : 8), *transport = fast->transport;
    const uint32_t size = fast->family == 4 ? 4 : 16;

    memcpy(&p->source, source, size);
    memcpy(&p->destination, source + size, size);
    p->kind = DP_PACKET_IP;
    p->later_fragment = false;
    p->family = fast->family;
    p->protocol = fast->protocol;
    p->selector = (uint32_t)fast->protocol << 16;
    p->icmp_class = DP_ICMP_UNKNOWN;
    p->icmp_query = 0;
    p->vlans = 0; /* they are in no key here, and denied flows are counted without */
    if (fast->protocol == DP_PROTO_TCP || fast->protocol == DP_PROTO_UDP) {
        p->source_port = dp_get16(transport);
        p->destination_port = dp_get16(transport + 2);
        p->selector |= p->destination_port;
        if (fast->protocol == DP_PROTO_TCP)
            read_segment(fast, &p->tcp);
    } else {
        p->source_port = dp_get16(transport + 4);
        p->destination_port = 0;
        p->selector |= dp_get16(transport);
        p->icmp_query = fast->family == 4 ? ECHO : ECHO_V6;
        p->icmp_class = transport[0] == p->icmp_query ? DP_ICMP_REQUEST : DP_ICMP_REPLY;
    }
}

/* Whether there is no connection for the one check. */
static bool is_unknown(struct dp_conntrack *ct, const struct dp_fast *fast, const struct dp_flow_key *key)
{
    const struct dp_fast_check *check = &fast->check[0];
    const struct dp_vacancy vacancy = {fast->rearranged, check->hash, check->end};
    uint32_t entry;

    return (!check->entry && dp_flow_table_is_vacant(&ct->table, &vacancy)) ||
           dp_conntrack_find(ct, key, check->hash, &entry) == DP_CONN_NONE;
}

/* Answers and counts a packet of one check that no connection is known for; false when one is. */
static NEVER_INLINE bool judge_first(struct dp_engine *engine, const struct dp_fast *fast,
                                     struct dp_denied_flows *denied, struct dp_record *record)
{
    const uint32_t d = fast->direction[0];
    struct dp_job job;

    read_first(fast, &job.packet);
    job.zone[d] = fast->check[0].zone_protocol >> 8;
    job.hash[d] = fast->check[0].hash;
    dp_flow_key_of(&job.packet, job.zone[d], d, &job.key[d]);
    if (!is_unknown(&engine->conntrack, fast, &job.key[d]))
        return false;
    record->check[0] = (struct dp_check){.zone = job.zone[d], .direction = (uint8_t)d};
    dp_judge_new(engine, &job, d, 0, &record->check[0]);
    record->verdict = record->check[0].verdict;
    record->checks = 1;
    dp_engine_count(engine, denied, &job.packet, record);
    return true;
}

/*
 * Judges frames at their positions, or without `which` one after the other. The clock is set by each packet, also by
 * one that then goes the long way: setting it again changes nothing.
 */
static inline ALWAYS_INLINE uint32_t judge(struct dp_engine *engine, const struct dp_frame *frames,
                                           const struct dp_selection *some, const uint32_t *which,
                                           const struct dp_fast *fast, uint32_t set, struct dp_record *records)
{
    struct dp_conntrack *ct = &engine->conntrack;
    uint64_t packets = 0, bytes = 0;
    uint32_t k;

    for (k = 0; set & 1; k++, fast++, set >>= 1) {
        const uint32_t at = some ? which[k] : k;
        const struct dp_frame *frame = &frames[at];
        struct dp_record *record = &records[at];
        struct dp_entry *e = &ct->table.entries[fast->check[0].entry];

        if (some)
            engine->frames = some->first + at;
        dp_conntrack_advance(ct, some ? some->now_ns[at] : frame->time_ns);
        if (fast->checks == 1 && is_live(ct, e, fast, 0)) {
            if (!keep(ct, e, fast))
                break;
            record->verdict = DP_ALLOW;
            record->checks = 1;
            answer(engine, e, fast, 0, frame->length, &record->check[0]);
            record->check[1] = (struct dp_check){0};
            packets++;
            bytes += frame->length;
        } else if (fast->checks == 1) {
            record->length = frame->length; /* for who counts */
            if (!judge_first(engine, fast, some ? NULL : engine->first->denied, record))
                break;
            record->check[1] = (struct dp_check){0};
        } else if (!judge_two_or_none(engine, fast, frame->length, record)) {
            break;
        }
        record->time_ns = frame->time_ns;
        record->length = frame->length;
        record->unused[0] = record->unused[1] = 0;
        if (frame->time_ns < ct->now)
            engine->counters.time_backwards++;
        /* For who observes the connections, packet by packet. */
        engine->frames++;
    }
    count(engine, DP_ALLOW, packets, bytes, 1);
    return k;
}

uint32_t dp_fast_judge(struct dp_engine *engine, const struct dp_frame *frames, const struct dp_fast *fast,
                       uint32_t set, struct dp_record *records)
{
    return judge(engine, frames, NULL, NULL, fast, set, records);
}

uint32_t dp_fast_judge_selected(struct dp_engine *engine, const struct dp_frame *frames,
                                const struct dp_selection *some, const uint32_t *which, const struct dp_fast *fast,
                                uint32_t set, struct dp_record *records)
{
    return judge(engine, frames, some, which, fast, set, records);
}

void dp_fast_flow_of(const struct dp_fast *fast, struct dp_flow *flow)
{
    const uint8_t *ip = network_of(fast), *transport = fast->transport;
    bool echo = fast->protocol == (fast->family == 4 ? DP_PROTO_ICMP : DP_PROTO_ICMPV6);

    *flow = (struct dp_flow){.family = fast->family, .protocol = fast->protocol, .vlans = fast->vlans};
    if (fast->family == 4) {
        memcpy(flow->source, ip + 12, 4);
        memcpy(flow->destination, ip + 16, 4);
    } else {
        memcpy(flow->source, ip + 8, 16);
        memcpy(flow->destination, ip + 24, 16);
    }
    flow->source_port = dp_get16(echo ? transport + 4 : transport);
    if (echo) {
        flow->icmp = 1;
        flow->icmp_type = transport[0];
        flow->icmp_code = transport[1];
    } else {
        flow->destination_port = dp_get16(transport + 2);
    }
}
