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

/* The ports of a key, local << 16 | remote, where the packet leaves an instance and where it enters one. */
struct ports {
    uint32_t leaving;
    uint32_t entering;
};

static NEVER_INLINE bool read_echo(const uint8_t *p, uint8_t reply, uint8_t request, struct ports *ports)
{
    uint32_t id = (uint32_t)dp_get16(p + 4) << 16, asked = id | request | DP_KEY_QUERY_OUT, heard = id | request;

    ports->leaving = p[0] == request ? asked : heard;
    ports->entering = p[0] == request ? heard : asked;
    return p[0] == request || p[0] == reply;
}

/* The transport header at `p`, `length` bytes with its data, eight at least. */
static inline ALWAYS_INLINE bool read_transport(const uint8_t *p, uint32_t length, uint32_t family, uint8_t protocol,
                                                struct ports *ports, struct dp_fast *fast)
{
    uint32_t header;

    ports->leaving = dp_get32(p);
    ports->entering = ports->leaving << 16 | ports->leaving >> 16;
    if (protocol == DP_PROTO_TCP) {
        if (length < TCP)
            return false;
        header = (uint32_t)(p[12] >> 4) * 4;
        if (header < TCP || header > length)
            return false;
        fast->flags = p[13];
        fast->seq = dp_get32(p + 4);
        fast->ack = dp_get32(p + 8);
        fast->end = fast->seq + (length - header);
        fast->window = dp_get16(p + 14);
        return true;
    }
    if (protocol == DP_PROTO_UDP)
        return dp_get16(p + 4) >= EIGHT && dp_get16(p + 4) <= length && !dp_is_dhcp_port((uint16_t)ports->leaving);
    if (family == 4)
        return protocol == DP_PROTO_ICMP && read_echo(p, ECHO_REPLY, ECHO, ports);
    return protocol == DP_PROTO_ICMPV6 && read_echo(p, ECHO_REPLY_V6, ECHO_V6, ports);
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

/* What an address leads to; of one in a prefix, its zone. */
static inline ALWAYS_INLINE uint32_t look_up(const struct dp_endpoints *endpoints,
                                             const struct dp_single_addresses *single, uint32_t family,
                                             const union dp_address *address)
{
    uint32_t value = family == 4 ? dp_single_find4(single, address->word[0]) : dp_single_find6(single, address);

    return single->has_prefixes[family == 6] && value == DP_NO_ZONE ? dp_endpoints_find(endpoints, family, address)
                                                                    : value;
}

/*
 * The check at `zone`, which the packet enters if `enters` is all ones, and leaves if it is 0; its key is as
 * dp_flow_key_of has it. No branch depends on the direction, as it cannot be told before.
 */
static inline ALWAYS_INLINE void put_check(const struct dp_flow_table *table, const struct ports *ports, uint32_t zone,
                                           uint32_t enters, uint32_t family, uint8_t protocol,
                                           const union dp_address *source, const union dp_address *destination,
                                           struct dp_fast_check *check)
{
    uint32_t both = ports->leaving ^ (enters & (ports->leaving ^ ports->entering)), hash;
    struct dp_flow_key key;

    key.family = family;
    key.vlans = 0;
    key.zone_protocol = zone << 8 | protocol;
    key.local_port = (uint16_t)(both >> 16);
    key.remote_port = (uint16_t)both;
    for (int i = 0; i < (family == 4 ? 1 : 4); i++) {
        uint32_t differ = source->word[i] ^ destination->word[i];

        key.local.word[i] = source->word[i] ^ (enters & differ);
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
                                  uint8_t protocol, const union dp_address *source, const union dp_address *destination)
{
    const uint32_t size = family == 4 ? 4 : 16;
    struct dp_packet p;
    uint32_t whose;

    memcpy(&p.source, source, size);
    memcpy(&p.destination, destination, size);
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
    union dp_address source, destination;
    uint8_t protocol = family == 4 ? ip[9] : ip[6];
    uint32_t length, from, to;
    bool offloaded = frame->flags & DP_FRAME_CHECKSUM_OFFLOADED;
    struct ports ports;
    uint32_t enters;

    if (family == 4) {
        length = dp_get16(ip + 2);
        if (ip[0] != 0x45 || (dp_get16(ip + 6) & 0x3fff) || length > captured ||
            (reading->verify && offloaded && !is_checksum_right(ip)))
            return false;
    } else {
        length = dp_get16(ip + 4) + IPV6;
        if (ip[0] >> 4 != 6 || length > captured)
            return false;
    }
    memcpy(source.byte, ip + header - 2 * size, size);
    memcpy(destination.byte, ip + header - size, size);
    if (length < header + EIGHT || memcmp(&source, &destination, size) == 0 ||
        !read_transport(ip + header, length - header, family, protocol, &ports, fast) ||
        (((reading->verify && !offloaded) || (place && place->guard)) &&
         !is_sound(reading, frame, place, ip, family, protocol, &source, &destination)))
        return false;
    if (place) {
        from = place->zone[DP_EGRESS];
        to = place->zone[DP_INGRESS];
    } else {
        from = look_up(reading->endpoints, reading->single, family, &source);
        to = look_up(reading->endpoints, reading->single, family, &destination);
        if ((int)dp_is_shared(from) | (int)dp_is_shared(to))
            return false;
    }
    if (vlans && (dp_endpoints_overlaps(reading->endpoints, dp_endpoint_zone(from)) ||
                  dp_endpoints_overlaps(reading->endpoints, dp_endpoint_zone(to))))
        return false;
    fast->network = ip;
    fast->family = (uint8_t)family;
    fast->protocol = protocol;
    fast->vlans = vlans;
    /* Of most packets one end is an instance's. */
    enters = -(uint32_t)(from == DP_NO_ZONE);
    fast->direction[0] = (uint8_t)(DP_EGRESS & ~enters);
    fast->checks = (uint8_t)((from != DP_NO_ZONE) + (to != DP_NO_ZONE));
    put_check(reading->table, &ports, (from ^ (enters & (from ^ to))) & ~(uint32_t)DP_ENDPOINT_VIRTUAL, enters, family,
              protocol, &source, &destination, &fast->check[0]);
    if (fast->checks == DP_DIRECTIONS) {
        fast->direction[1] = DP_INGRESS;
        put_check(reading->table, &ports, to & ~(uint32_t)DP_ENDPOINT_VIRTUAL, UINT32_MAX, family, protocol, &source,
                  &destination, &fast->check[1]);
    }
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

uint32_t dp_fast_read(const struct dp_engine *engine, const struct dp_frame *frames, const struct dp_place *places,
                      uint32_t n, bool verify, struct dp_fast *fast)
{
    const struct dp_endpoints *endpoints = engine->policy->endpoints;
    struct reading reading = {.table = &engine->conntrack.table, .endpoints = endpoints, .verify = verify};
    uint32_t set = 0;

    if (!endpoints || engine->policy->balancers || engine->long_way || !stay_established(&engine->conntrack.config))
        return 0;
    reading.single = dp_endpoints_single(endpoints);
    for (uint32_t k = 0; places && k < n; k++)
        set |= (uint32_t)read_frame(&reading, &frames[k], &places[k], &fast[k]) << k;
    for (uint32_t k = 0; !places && k < n; k++)
        set |= (uint32_t)read_frame(&reading, &frames[k], NULL, &fast[k]) << k;
    return set;
}

static inline void fetch(const struct dp_flow_table *table, struct dp_fast_check *check)
{
    check->entry = dp_flow_table_first(table, check->hash);
    __builtin_prefetch(&table->entries[check->entry], 1);
}

void dp_fast_fetch(const struct dp_engine *engine, struct dp_fast *fast, uint32_t set)
{
    const struct dp_flow_table table = engine->conntrack.table;

    /* Where there is no check, the first is of nobody's zone, and there is no such entry. */
    for (struct dp_fast *one = fast; set; set >>= 1, one++)
        if (set & 1) {
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

/* The same of IPv6, whose addresses stand elsewhere; of no VLAN. */
static NEVER_INLINE bool has_wide_key(const struct dp_flow_table *table, const struct dp_entry *e,
                                      const struct dp_fast *fast, const struct dp_fast_check *check, bool in)
{
    const uint8_t *source = fast->network + 8, *destination = source + 16;
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

static inline ALWAYS_INLINE enum dp_side side_of(const struct dp_entry *e, bool in)
{
    return in == ((e->flags & DP_ENTRY_INBOUND) != 0) ? DP_INITIATOR : DP_RESPONDER;
}

static inline enum dp_side other(enum dp_side side)
{
    return side == DP_INITIATOR ? DP_RESPONDER : DP_INITIATOR;
}

/* Whether a segment of `side` leaves its connection established. */
static inline ALWAYS_INLINE bool stays_established(const struct dp_entry *e, enum dp_side side,
                                                   const struct dp_fast *fast)
{
    enum dp_side peer = other(side);

    return e->state == DP_CONN_TCP_ESTABLISHED && (fast->flags & MEANT_FLAGS) == DP_TCP_FLAG_ACK &&
           !(e->tcp_scale_flags[peer] & DP_TCP_SIDE_FIN) && e->tcp_max_window[side] != 0 &&
           ((e->tcp_scale_flags[side] & DP_TCP_SIDE_LIBERAL) ||
            dp_tcp_is_inside(e, side, peer, fast->seq, fast->ack, fast->end));
}

/* The same for what is no TCP: whether it stays as it is. */
static inline ALWAYS_INLINE bool stays(const struct dp_entry *e, enum dp_side side)
{
    return e->state == DP_CONN_OTHER_TWO_WAY || e->state == DP_CONN_ICMP_TWO_WAY ||
           (side == DP_INITIATOR && (e->state == DP_CONN_OTHER_ONE_WAY || e->state == DP_CONN_ICMP_ONE_WAY));
}

/* Whether the connection that was found for check `i` is its own and lives. */
static inline ALWAYS_INLINE bool is_live(const struct dp_conntrack *ct, const struct dp_fast *fast, uint32_t i)
{
    const struct dp_entry *e = &ct->table.entries[fast->check[i].entry];

    return fast->check[i].entry && has_key(&ct->table, e, fast, &fast->check[i], fast->direction[i] == DP_INGRESS) &&
           e->state != DP_CONN_INVALID && e->change == ct->change && !(e->flags & DP_ENTRY_CUT) &&
           ct->now - e->last_ns < ct->config.timeout_ns[e->state];
}

/* Whether it stays in its state by the packet. */
static inline ALWAYS_INLINE bool stays_so(const struct dp_conntrack *ct, const struct dp_fast *fast, uint32_t i)
{
    const struct dp_entry *e = &ct->table.entries[fast->check[i].entry];
    enum dp_side side = side_of(e, fast->direction[i] == DP_INGRESS);

    return fast->protocol == DP_PROTO_TCP ? stays_established(e, side, fast) : stays(e, side);
}

static const uint8_t *transport_of(const struct dp_fast *fast)
{
    return fast->network + (fast->family == 4 ? IPV4 : IPV6);
}

/* All of it was captured. */
static void read_segment(const struct dp_fast *fast, struct dp_tcp_segment *segment)
{
    const uint8_t *transport = transport_of(fast);
    uint32_t header = (uint32_t)(transport[12] >> 4) * 4;

    dp_tcp_read(transport, header, fast->end - fast->seq + header, header, segment);
}

/* Keeps the connection of the one check where the packet is valid in another way: it may lead to another state, but
 * not begin the connection anew. */
static NEVER_INLINE bool step(struct dp_conntrack *ct, const struct dp_fast *fast)
{
    struct dp_entry *e = &ct->table.entries[fast->check[0].entry];
    struct dp_tcp_segment segment;
    uint8_t next;

    if (fast->protocol == DP_PROTO_TCP) {
        if ((fast->flags & (DP_TCP_FLAG_SYN | DP_TCP_FLAG_ACK)) == DP_TCP_FLAG_SYN)
            return false;
        read_segment(fast, &segment);
    }
    if (dp_judge_step(ct, e, fast->protocol, &segment, side_of(e, fast->direction[0] == DP_INGRESS), &next))
        return false;
    dp_conntrack_keep(ct, fast->check[0].entry, next);
    return true;
}

/* Keeps the connection of check `i`, by which it passes. */
static inline ALWAYS_INLINE void keep(struct dp_conntrack *ct, const struct dp_fast *fast, uint32_t i)
{
    struct dp_entry *e = &ct->table.entries[fast->check[i].entry];
    enum dp_side side = side_of(e, fast->direction[i] == DP_INGRESS);

    if (fast->protocol == DP_PROTO_TCP) {
        /* In units of its scale, as it stands in the segment. */
        if (fast->window > e->tcp_max_window[side])
            e->tcp_max_window[side] = fast->window;
        dp_tcp_move(e, side, other(side), fast->end, fast->ack, (uint32_t)fast->window << dp_tcp_scale(e, side), true);
    }
    e->last_ns = ct->now;
}

/* The answer of a connection, by the direction of the check and whether the connection is inbound. */
#define ANSWER(d, o)                                                                                                   \
    {.direction = d, .verdict = DP_ALLOW, .state = DP_STATE_ESTABLISHED, .reason = DP_REASON_CONNECTION, .origin = o}
static const struct dp_check answers[DP_DIRECTIONS][2] = {
    [DP_INGRESS] = {ANSWER(DP_INGRESS, DP_OUTBOUND), ANSWER(DP_INGRESS, DP_INBOUND)},
    [DP_EGRESS] = {ANSWER(DP_EGRESS, DP_OUTBOUND), ANSWER(DP_EGRESS, DP_INBOUND)},
};

/* Answers check `i` by its connection, and counts it for the rule that admitted that. */
static inline ALWAYS_INLINE void answer(struct dp_engine *engine, const struct dp_fast *fast, uint32_t i,
                                        uint32_t length, struct dp_check *check)
{
    const struct dp_conntrack *ct = &engine->conntrack;
    const struct dp_entry *e = &ct->table.entries[fast->check[i].entry];
    uint32_t rule = e->rule;

    *check = answers[fast->direction[i]][(e->flags & DP_ENTRY_INBOUND) != 0];
    check->zone = fast->check[i].zone_protocol >> 8;
    check->rule = rule;
    if (ct->openers)
        check->opened_by = ct->openers[fast->check[i].entry];
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

    for (uint32_t i = 0; i < fast->checks; i++)
        if (!is_live(ct, fast, i) || !stays_so(ct, fast, i))
            return false;
    record->checks = fast->checks;
    record->verdict = fast->checks ? DP_ALLOW : DP_BYPASS;
    memset(record->check, 0, sizeof record->check);
    for (uint32_t i = 0; i < fast->checks; i++) {
        keep(ct, fast, i);
        answer(engine, fast, i, length, &record->check[i]);
    }
    count(engine, record->verdict, 1, length, fast->checks);
    return true;
}

/* What finds a connection, the rules look at, and one is made from. */
static void read_first(const struct dp_fast *fast, struct dp_packet *p)
{
    const uint8_t *source = fast->network + (fast->family == 4 ? 12 : 8), *transport = transport_of(fast);
    const uint32_t size = fast->family == 4 ? 4 : 16;

    memcpy(&p->source, source, size);
    memcpy(&p->destination, source + size, size);
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

/* Answers and counts a packet of one check that no connection is known for; false when one is. */
static NEVER_INLINE bool judge_first(struct dp_engine *engine, const struct dp_fast *fast, struct dp_record *record)
{
    const uint32_t d = fast->direction[0];
    struct dp_job job;
    uint32_t entry;

    read_first(fast, &job.packet);
    job.zone[d] = fast->check[0].zone_protocol >> 8;
    job.hash[d] = fast->check[0].hash;
    dp_flow_key_of(&job.packet, job.zone[d], d, &job.key[d]);
    if (dp_conntrack_find(&engine->conntrack, &job.key[d], job.hash[d], &entry) != DP_CONN_NONE)
        return false;
    record->check[0] = (struct dp_check){.zone = job.zone[d], .direction = (uint8_t)d};
    dp_judge_new(engine, &job, d, 0, &record->check[0]);
    record->verdict = record->check[0].verdict;
    record->checks = 1;
    dp_engine_count(engine, engine->first->denied, &job.packet, record);
    return true;
}

/* The clock is set by each packet, also by one that then goes the long way: setting it again changes nothing. */
uint32_t dp_fast_judge(struct dp_engine *engine, const struct dp_frame *frames, const struct dp_fast *fast,
                       uint32_t set, uint32_t n, struct dp_record *records)
{
    struct dp_conntrack *ct = &engine->conntrack;
    uint64_t packets = 0, bytes = 0;
    uint32_t k;

    for (k = 0; k < n && (set & 1); k++, set >>= 1) {
        const struct dp_fast *one = &fast[k];
        struct dp_record *record = &records[k];
        uint32_t length = frames[k].length;
        uint64_t time_ns = frames[k].time_ns;
        bool late = time_ns < ct->now;

        dp_conntrack_advance(ct, time_ns);
        if (one->checks == 1 && is_live(ct, one, 0)) {
            if (stays_so(ct, one, 0))
                keep(ct, one, 0);
            else if (!step(ct, one))
                break;
            record->verdict = DP_ALLOW;
            record->checks = 1;
            answer(engine, one, 0, length, &record->check[0]);
            record->check[1] = (struct dp_check){0};
            packets++;
            bytes += length;
        } else if (one->checks == 1) {
            record->length = length; /* for who counts */
            if (!judge_first(engine, one, record))
                break;
            record->check[1] = (struct dp_check){0};
        } else if (!judge_two_or_none(engine, one, length, record)) {
            break;
        }
        record->time_ns = time_ns;
        record->length = length;
        record->unused[0] = record->unused[1] = 0;
        engine->counters.time_backwards += late;
        /* For who observes the connections, packet by packet. */
        engine->frames++;
    }
    count(engine, DP_ALLOW, packets, bytes, 1);
    return k;
}

void dp_fast_flow_of(const struct dp_fast *fast, struct dp_flow *flow)
{
    const uint8_t *ip = fast->network, *transport = ip + (fast->family == 4 ? IPV4 : IPV6);
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
