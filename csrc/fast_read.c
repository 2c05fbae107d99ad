/* fast_read.c: fast_read.h in code. */
#include "fast_read.h"

#include "bytes.h"
#include "checksum.h"
#include "link.h"
#include "spoof.h"

enum { ETHERNET = 14, IPV4 = 20, IPV6 = 40, TCP = 20, EIGHT = 8, TAGS_MAX = 2 };
_Static_assert(DP_INGRESS == 0, "the direction is masked");
enum { ECHO_REPLY = 0, ECHO = 8, ECHO_V6 = 128, ECHO_REPLY_V6 = 129 };

/* ---- a burst ---- */

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

/* Those of TCP and UDP. */
static inline ALWAYS_INLINE struct ports ports_of(const uint8_t *transport)
{
    uint32_t leaving = dp_get32(transport);

    return (struct ports){leaving, leaving ^ (leaving << 16 | leaving >> 16)};
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
    *ports = ports_of(p);
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
    if (single->has_prefixes[family == 6] &&
        (uint32_t)(value == DP_NO_ZONE) & dp_is_near_prefix(single, family, dp_block_of(address, family)))
        return find_in_prefix(endpoints, family, address);
    return value;
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

/* They stand right before the transport header. */
static inline ALWAYS_INLINE void read_addresses(const uint8_t *transport, uint32_t family, struct addresses *addresses)
{
    const uint32_t size = family == 4 ? 4 : 16;

    memcpy(addresses->source, transport - 2 * size, size);
    memcpy(addresses->destination, transport - size, size);
}

/* The check of one end more, as of a packet between two instances. */
static NEVER_INLINE void put_second(const struct dp_flow_table *table, struct ports ports, uint32_t zone,
                                    struct dp_fast *fast)
{
    struct addresses addresses;

    read_addresses(fast->transport, fast->family, &addresses);
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

/* Finds the zones of both ends and the key of each check; false where this is not the way for them. */
static inline ALWAYS_INLINE bool read_ends(const struct reading *reading, const struct dp_place *place,
                                           struct ports ports, const uint32_t family, uint32_t vlans,
                                           struct dp_fast *fast)
{
    const uint32_t size = family == 4 ? 4 : 16;
    const uint8_t *source = fast->transport - 2 * size;
    struct addresses addresses;
    uint32_t from, to, enters;

    if (place) {
        from = place->zone[DP_EGRESS];
        to = place->zone[DP_INGRESS];
    } else {
        from = look_up(reading->endpoints, reading->single, family, source);
        to = look_up(reading->endpoints, reading->single, family, source + size);
        if ((int)dp_is_shared(from) | (int)dp_is_shared(to))
            return false;
    }
    if (vlans && (dp_endpoints_overlaps(reading->endpoints, dp_endpoint_zone(from)) ||
                  dp_endpoints_overlaps(reading->endpoints, dp_endpoint_zone(to))))
        return false;
    read_addresses(fast->transport, family, &addresses);
    /* Of most packets one end is an instance's. */
    enters = -(uint32_t)(from == DP_NO_ZONE);
    fast->direction[0] = (uint8_t)(DP_EGRESS & ~enters);
    fast->checks = (uint8_t)((from != DP_NO_ZONE) + (to != DP_NO_ZONE));
    put_check(reading->table, ports, (from ^ (enters & (from ^ to))) & ~(uint32_t)DP_ENDPOINT_VIRTUAL, enters, family,
              fast->protocol, &addresses, &fast->check[0]);
    if (fast->checks == DP_DIRECTIONS)
        put_second(reading->table, ports, to & ~(uint32_t)DP_ENDPOINT_VIRTUAL, fast);
    return true;
}

/* Behind the link header; `captured` bytes from the IP header on, which hold it and eight bytes more. */
static inline ALWAYS_INLINE bool read_ip(const struct reading *reading, const struct dp_frame *frame,
                                         const struct dp_place *place, const uint8_t *ip, uint32_t captured,
                                         const uint32_t family, uint32_t vlans, struct dp_fast *fast)
{
    const uint32_t header = family == 4 ? IPV4 : IPV6, size = family == 4 ? 4 : 16;
    const uint8_t *transport = ip + header;
    uint8_t protocol = family == 4 ? ip[9] : ip[6];
    struct ports ports;
    uint32_t length;

    if (family == 4) {
        length = dp_get16(ip + 2);
        if (ip[0] != 0x45 || (ip[6] & 0x3f) || ip[7] || length > captured)
            return false;
    } else {
        length = dp_get16(ip + 4) + IPV6;
        if (ip[0] >> 4 != 6 || length > captured)
            return false;
    }
    if (length < header + EIGHT || memcmp(transport - 2 * size, transport - size, size) == 0 ||
        !read_transport(transport, length - header, family, protocol, &ports, &fast->data) ||
        ((reading->verify || (place && place->guard)) && !is_sound(reading, frame, place, ip, family, protocol)))
        return false;
    fast->transport = transport;
    fast->vlans = vlans;
    fast->family = (uint8_t)family;
    fast->protocol = protocol;
    return read_ends(reading, place, ports, family, vlans, fast);
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

/* Any other than dp_fast_read reads itself. */
static NEVER_INLINE bool read_apart(const struct reading *reading, const struct dp_frame *frame, struct dp_fast *fast)
{
    return read_frame(reading, frame, NULL, fast);
}

/* ---- a burst, with the flow cache ---- */

/*
 * Whether a frame is what the flow cache may have: untagged IPv4 of TCP or UDP, all of it and as it should be; of TCP,
 * `data` bytes are behind the header. No branch tells the two apart, as they come mixed.
 */
static inline ALWAYS_INLINE bool is_common(const struct dp_frame *frame, uint32_t *data)
{
    uint32_t length, header, datagram, least, taken, tcp, dhcp;
    const uint8_t *ip, *transport;

    if (frame->captured < ETHERNET + IPV4 + TCP || frame->link != DP_LINK_ETHERNET)
        return false;
    ip = frame->data + ETHERNET;
    transport = ip + IPV4;
    if (dp_get16(ip - 2) != DP_ETHERTYPE_IPV4 || ip[0] != 0x45 || (ip[6] & 0x3f) || ip[7] ||
        !(ip[9] < 32 && (1u << DP_PROTO_TCP | 1u << DP_PROTO_UDP) >> (ip[9] & 31) & 1))
        return false;
    length = dp_get16(ip + 2);
    if (length > frame->captured - ETHERNET || length < IPV4 || dp_raw32(ip + 12) == dp_raw32(ip + 16))
        return false;
    length -= IPV4;
    tcp = -(uint32_t)(ip[9] == DP_PROTO_TCP);
    header = (uint32_t)(transport[12] & 0xf0) / 4;
    datagram = dp_get16(transport + 4);
    least = EIGHT ^ (tcp & (EIGHT ^ TCP));
    taken = datagram ^ (tcp & (datagram ^ header));
    dhcp = dp_is_dhcp_port(dp_get16(transport + 2)) & ~tcp;
    *data = length - taken;
    return ((uint32_t)(taken < least) | (uint32_t)(taken > length) | dhcp) == 0;
}

/* Reads a burst with the flow cache. */
static uint32_t read_cached(const struct reading *reading, struct dp_flow_cache *cache, const struct dp_frame *frames,
                            uint32_t n, struct dp_fast *fast, struct dp_fast_asked *asked)
{
    const struct dp_flow_table *const table = reading->table;
    uint32_t set = 0, common = 0, known = 0, n_known = 0, n_other = 0, data;

    for (uint32_t k = 0; k < n; k++) {
        struct dp_fast *one = &fast[k];
        const uint8_t *transport;
        uint32_t entry;
        uint64_t hash;

        if (!is_common(&frames[k], &data)) {
            set |= (uint32_t)read_apart(reading, &frames[k], one) << k;
            n_other++;
            continue;
        }
        transport = frames[k].data + ETHERNET + IPV4;
        hash = dp_flow_cache_hash(&table->secret, dp_raw32(transport - 8), dp_raw32(transport - 4),
                                  ports_of(transport).turn);
        entry = dp_flow_cache_find(cache, hash);
        __builtin_prefetch(&table->entries[entry], 1);
        one->check[0].entry = entry;
        one->hash = hash;
        one->transport = transport;
        one->data = data;
        one->vlans = 0;
        one->family = 4;
        one->protocol = transport[9 - IPV4];
        one->checks = 1;
        common |= 1u << k;
        known |= (uint32_t)(entry != 0) << k;
        n_known += entry != 0;
    }
    dp_flow_cache_count(cache, n - n_other, n_known);
    for (uint32_t rest = common & ~known; rest; rest &= rest - 1) {
        uint32_t k = (uint32_t)__builtin_ctz(rest);

        if (!read_ends(reading, NULL, ports_of(fast[k].transport), 4, 0, &fast[k]))
            common &= ~(1u << k);
    }
    *asked = (struct dp_fast_asked){common, known};
    return set | common;
}

/* Whether an acknowledgement leaves an established connection so, as it does in any policy. */
static bool stay_established(const struct dp_conntrack_config *config)
{
    const uint8_t (*next)[DP_TCP_EVENTS] = config->tcp_next[DP_CONN_TCP_ESTABLISHED];

    return next[DP_INITIATOR][DP_TCP_ACK] == DP_CONN_TCP_ESTABLISHED &&
           next[DP_RESPONDER][DP_TCP_ACK] == DP_CONN_TCP_ESTABLISHED;
}

uint32_t dp_fast_read(const struct dp_engine *engine, const struct dp_frame *frames, const struct dp_place *places,
                      uint32_t n, bool verify, struct dp_fast *fast, struct dp_fast_asked *asked)
{
    const struct dp_endpoints *endpoints = engine->policy->endpoints;
    struct reading reading = {.table = &engine->conntrack.table, .endpoints = endpoints, .verify = verify};
    uint32_t set = 0;

    *asked = (struct dp_fast_asked){0, 0};
    if (!endpoints || engine->policy->balancers || engine->long_way || !stay_established(&engine->conntrack.config))
        return 0;
    reading.single = dp_endpoints_single(endpoints);
    if (!places && !verify && !dp_flow_cache_rests(engine->cache))
        return read_cached(&reading, engine->cache, frames, n, fast, asked);
    if (places)
        for (uint32_t k = 0; k < n; k++)
            set |= (uint32_t)read_frame(&reading, &frames[k], &places[k], &fast[k]) << k;
    else
        for (uint32_t k = 0; k < n; k++)
            set |= (uint32_t)read_frame(&reading, &frames[k], NULL, &fast[k]) << k;
    return set;
}

/* ---- one of it, for others ---- */

/* The IP header. */
static const uint8_t *network_of(const struct dp_fast *fast)
{
    return fast->transport - (fast->family == 4 ? IPV4 : IPV6);
}

void dp_fast_segment_of(const struct dp_fast *fast, struct dp_tcp_segment *segment)
{
    uint32_t header = (uint32_t)(fast->transport[12] >> 4) * 4;

    dp_tcp_read(fast->transport, header, fast->data + header, header, segment);
}

void dp_fast_packet_of(const struct dp_fast *fast, struct dp_packet *p)
{
    const uint8_t *source = network_of(fast) + (fast->family == 4 ? 12 : 8), *transport = fast->transport;
    const uint32_t size = fast->family == 4 ? 4 : 16;

    memcpy(&p->source, source, size);
    memcpy(&p->destination, source + size, size);
    p->kind = DP_PACKET_IP;
    p->cause = DP_CAUSE_NONE;
    p->later_fragment = p->tiny_fragment = false;
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
            dp_fast_segment_of(fast, &p->tcp);
    } else {
        p->source_port = dp_get16(transport + 4);
        p->destination_port = 0;
        p->selector |= dp_get16(transport);
        p->icmp_query = fast->family == 4 ? ECHO : ECHO_V6;
        p->icmp_class = transport[0] == p->icmp_query ? DP_ICMP_REQUEST : DP_ICMP_REPLY;
    }
}

void dp_fast_flow_of(const struct dp_fast *fast, struct dp_flow *flow)
{
    const uint8_t *ip = network_of(fast), *transport = fast->transport;
    bool echo = fast->protocol == (fast->family == 4 ? DP_PROTO_ICMP : DP_PROTO_ICMPV6);

    *flow =
        (struct dp_flow){.family = fast->family, .protocol = fast->protocol, .transport = true, .vlans = fast->vlans};
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
