/*
 * fuzz_live.c: frames through the ports of a firewall: switch, spoof check, owners, fragments, flood (libFuzzer).
 *
 * Two instances, one whose MAC the policy does not tell, an uplink with a gateway, and a load balancer, each behind a
 * socket pair. The input is a sequence of
 * steps of 4 bytes and a frame: the first byte chooses the port, and time; the second whose MACs the frame gets; the
 * third and fourth its length. The worker has no thread: each frame is received, judged and sent before the next one,
 * at a time that the input says.
 *
 * AFTER EACH FRAME: nobody but its holder is known to the switch by a MAC that the policy tells, and an instance that
 * has one by no other; the instance without takes no MAC that was known at another port, none of its frames that was
 * not let out makes known anything, and nobody takes what it has, in whatever VLAN; nothing leaves by the port that it
 * came by, nor under another's MAC or address; fragments wait within their bounds; of each copy of it, one for the port
 * that its MAC leads to, or one for every port, exactly one is true: it was sent, was dropped with a cause, was denied,
 * or is held.
 *
 * A REPLAY goes on beside it: the same frame, as one of a capture by port, must meet the same, to the last byte of its
 * record (SPEC 7, "At a port").
 */
#include "../../csrc/io/firewall.h"
#include "../../csrc/io/forward.h"
#include "../../csrc/io/receive.h"
#include "../../csrc/io/replay_at_port.h"
#include "arena.h"

#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { A, B, UPLINK, BALANCER, STRANGER, PORTS, ZONES = 3, FRAMES_MAX = 64, LENGTH_MAX = 1600 };

static const uint8_t macs[PORTS][6] = {
    {2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}, {2, 0, 0, 0, 0, 9}, {2, 0, 0, 0, 0, 14}, {2, 0, 0, 0, 0, 3}};
static const uint64_t steps_ns[8] = {0, 1000000, 1000000000, 9999999999, 30000000000, 180000000000, 600000000000, 1};

/* Whether the policy tells the MAC of who is behind the port. */
static bool tells_mac(uint32_t port)
{
    return port != UPLINK && port != STRANGER;
}

/* All that no frame changes. */
struct parts {
    struct dp_conntrack_config config;
    struct dp_rule_table *table[2][2]; /* by direction and family */
    struct dp_endpoints *endpoints;
    int ours[PORTS];
    int theirs[PORTS];
};

static void must_hold(bool holds, int line)
{
    if (holds)
        return;
    fprintf(stderr, "fuzz_live.c:%d: does not hold\n", line);
    abort();
}

#define must(holds) must_hold((holds), __LINE__)

static void make(struct parts *parts)
{
    struct dp_selector selectors[2] = {{17 << 16 | 53, 17 << 16 | 53}, {0, 0xffffff}};
    struct dp_rule rules[2] = {{1, DP_REMOTE_ANY, 0, 1, DP_ALLOW}, {2, DP_REMOTE_ANY, 1, 1, DP_ALLOW}};
    struct dp_holding holdings[5] = {{{{10, 0, 0, 1}, 32}, 4, 0, 0},
                                     {{{10, 0, 0, 2}, 32}, 4, 1, 0},
                                     {{{10, 0, 0, 3}, 32}, 4, 2, 0},
                                     {{{0x20, 1, 0xd, 0xb8, [15] = 1}, 128}, 6, 0, 0},
                                     {{{0x20, 1, 0xd, 0xb8, [15] = 2}, 128}, 6, 1, 0}};
    struct dp_mac known[3] = {{.zone = 0}, {.zone = 1}, {.zone = DP_NO_ZONE, .balancer = 1, .has_port = 1}};
    struct dp_balancer_address balancer = {.address = {10, 0, 0, 14}, .family = 4, .balancer = 1, .has_port = 1};
    struct dp_backend backend = {1, 0};

    parts->config = (struct dp_conntrack_config){.max_entries = 64, .control_rate = 10, .control_burst = 20};
    for (int s = 0; s < DP_CONN_STATES; s++)
        parts->config.timeout_ns[s] = 30000000000u;
    for (int i = 0; i < 3; i++)
        memcpy(known[i].mac, macs[i == 2 ? BALANCER : i], 6);
    must(dp_endpoints_new(holdings, 5, known, 3, &balancer, 1, &backend, 1, &parts->endpoints) == 0);
    for (int d = 0; d < DP_DIRECTIONS; d++)
        for (int f = 0; f < 2; f++)
            must(dp_rule_table_new(f ? 6 : 4, &rules[d], 1, NULL, 0, NULL, 0, selectors, 2, &parts->table[d][f]) == 0);
    for (int p = 0; p < PORTS; p++) {
        int pair[2];

        must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair) == 0);
        parts->ours[p] = pair[0];
        parts->theirs[p] = pair[1];
    }
}

/* A firewall, and what replays its frames. */
struct both {
    struct dp_firewall *firewall;
    struct dp_plane *plane;
    struct dp_engine *engine; /* its shard */
    struct dp_at_port *ports;
    struct dp_capture_interface interface[PORTS];
};

static struct both start(const struct parts *parts)
{
    static const uint64_t seed[2] = {1, 2};
    static char *const names[PORTS] = {"tap-a", "tap-b", "eth0", "elb0", "tap-c"};
    struct dp_zone_tables zones[ZONES] = {{.zone = 0}};
    struct dp_named_port named[PORTS];
    struct both both = {.ports = dp_at_port_new()};

    for (uint32_t z = 0; z < ZONES; z++) {
        zones[z].zone = z;
        memcpy(zones[z].table, parts->table, sizeof parts->table);
    }
    struct dp_policy_update update = {
        .zones = zones, .n_zones = ZONES, .endpoints = parts->endpoints, .config = &parts->config};
    must(both.ports && dp_plane_new(&parts->config, seed, 1, &both.plane) == 0);
    both.engine = dp_plane_shard(both.plane, 0);
    must(dp_plane_update(both.plane, &update) == 0);
    must(dp_firewall_new(&parts->config, seed, 1, &both.firewall) == 0);
    must(dp_firewall_update(both.firewall, &update) == 0);
    for (int p = 0; p < PORTS; p++) {
        struct dp_port port = {.zone = p <= B          ? p
                                       : p == STRANGER ? 2
                                                       : DP_ZONE_NONE,
                               .balancer = p == BALANCER,
                               .guarded = p <= B || p == STRANGER,
                               .has_mac = tells_mac((uint32_t)p)};

        memcpy(port.mac, macs[p], 6);
        must(dp_firewall_add_port(both.firewall, &port, &parts->theirs[p]) == p);
        named[p] = (struct dp_named_port){names[p], port};
        both.interface[p] = (struct dp_capture_interface){.name = names[p]};
    }
    must(dp_at_port_set(both.ports, named, PORTS, -1) == 0);
    return both;
}

/* ---- what holds after each frame ---- */

static uint32_t holder_of(const uint8_t *mac)
{
    uint32_t p = 0;

    while (p < PORTS && (!tells_mac(p) || memcmp(mac, macs[p], 6) != 0))
        p++;
    return p;
}

/* Whether a station may be known at that port. */
static bool may_be_at(const uint8_t *mac, uint32_t port)
{
    uint32_t holder = holder_of(mac);

    return port <= B ? holder == port : holder == PORTS || holder == port;
}

static uint32_t station(const struct dp_firewall *firewall, const uint8_t *mac, uint16_t vlan)
{
    return dp_mac_table_find(&firewall->stations, mac, vlan, (uint32_t)(firewall->worker[0].now_ns / 1000000000u));
}

static void check_station(const struct dp_firewall *firewall, const uint8_t *mac, uint16_t vlan)
{
    uint32_t port = station(firewall, mac, vlan);

    must(port == DP_PORT_UNKNOWN || may_be_at(mac, port));
}

static uint16_t vlan_of(const uint8_t *frame, size_t length)
{
    uint16_t type = length < 16 ? 0 : (uint16_t)(frame[12] << 8 | frame[13]);
    bool tagged = type == 0x8100 || type == 0x88a8 || type == 0x9100;

    return tagged ? (uint16_t)((frame[14] << 8 | frame[15]) & 0xfff) : 0;
}

/* How many copies of a frame there are when nothing refuses it before: a frame to everybody, or to nobody known, has
 * one for each other port, but none to a station that the policy tells when it is for somebody else. At least one,
 * which finds no destination. */
static uint64_t copies_of(const struct dp_firewall *firewall, const uint8_t *frame, size_t length, uint32_t in)
{
    if (length < 14)
        return 1;
    if (frame[0] & 1)
        return PORTS - 1;
    if (holder_of(frame) < PORTS || station(firewall, frame, vlan_of(frame, length)) != DP_PORT_UNKNOWN)
        return 1;
    return in == A || in == B ? 3 : 2;
}

/* Whether all that was held still is, so that what was counted is of one frame alone. */
static bool all_held(const struct dp_worker *w, const uint64_t *numbers)
{
    for (uint32_t slot = 0; slot < DP_WAITING_SLOTS; slot++)
        if (numbers[slot] != UINT64_MAX && !(w->waiting[slot].used && w->waiting[slot].number == numbers[slot]))
            return false;
    return true;
}

/* After a frame: its sender, and all that the policy tells. To look at the whole table takes longer than all else. */
static void check_sender(const struct dp_firewall *firewall, const uint8_t *frame, size_t length)
{
    uint16_t vlan = vlan_of(frame, length);

    if (length >= 14)
        check_station(firewall, frame + 6, vlan);
    for (uint32_t p = 0; p < PORTS; p++)
        check_station(firewall, macs[p], vlan);
}

/* Where the sender of a frame is known to be, in each VLAN that is asked for, before and after it passed. */
enum { VLANS = 3 };

static void where_sender(const struct dp_firewall *firewall, const uint8_t *frame, size_t length, uint32_t at[VLANS])
{
    const uint16_t vlans[VLANS] = {vlan_of(frame, length), 0, 7};

    for (int i = 0; i < VLANS; i++)
        at[i] = length < 14 ? DP_PORT_UNKNOWN : station(firewall, frame + 6, vlans[i]);
}

static void check_unstolen(const uint32_t before[VLANS], const uint32_t after[VLANS], uint32_t in, bool let_out)
{
    for (int i = 0; i < VLANS; i++) {
        if (in == STRANGER)
            must(after[i] == before[i] || (let_out && before[i] == DP_PORT_UNKNOWN && after[i] == STRANGER));
        else
            must(before[i] != STRANGER || after[i] == STRANGER);
        if (in == STRANGER && before[i] != DP_PORT_UNKNOWN && before[i] != STRANGER)
            for (int k = 0; k < VLANS; k++)
                must(after[k] != STRANGER);
    }
}

static void check_stations(const struct dp_firewall *firewall)
{
    static struct dp_station stations[256];
    uint32_t n =
        dp_mac_table_list(&firewall->stations, (uint32_t)(firewall->worker[0].now_ns / 1000000000u), stations, 256);

    for (uint32_t i = 0; i < n; i++)
        must(may_be_at(stations[i].mac, stations[i].port));
}

static bool is_own(uint32_t port, const uint8_t *frame, size_t size)
{
    static const uint8_t none[4], own[PORTS][4] = {{10, 0, 0, 1}, {10, 0, 0, 2}, [STRANGER] = {10, 0, 0, 3}};

    if (tells_mac(port) && port <= B ? memcmp(frame + 6, macs[port], 6) != 0
                                     : holder_of(frame + 6) != PORTS && holder_of(frame + 6) != port)
        return false;
    if (port == UPLINK || port == BALANCER || size < 34 || frame[12] != 8 || frame[13] != 0)
        return true;
    return memcmp(frame + 26, own[port], 4) == 0 || memcmp(frame + 26, none, 4) == 0;
}

/* Takes what came out of all ports; all of it came in by `in`. Returns how many frames. */
static uint64_t take(const struct parts *parts, uint32_t in)
{
    static uint8_t got[DP_VNET_HEADER + LENGTH_MAX + 64];
    uint64_t frames = 0;

    for (uint32_t p = 0; p < PORTS; p++)
        for (ssize_t n; (n = read(parts->ours[p], got, sizeof got)) > 0; frames++)
            must(p != in && n >= DP_VNET_HEADER + 14 && is_own(in, got + DP_VNET_HEADER, (size_t)n - DP_VNET_HEADER));
    return frames;
}

struct account {
    uint64_t received;
    uint64_t sent;
    uint64_t gone; /* dropped or denied */
    uint64_t verdicts;
};

static struct account account_of(const struct dp_worker *w)
{
    struct account sum = {0, 0, 0, 0};

    for (uint32_t p = 0; p < PORTS; p++) {
        const struct dp_port_counters *c = &w->port_counters[p];

        sum.received += c->received.packets + c->drop[DP_DROP_DAMAGED];
        sum.sent += c->sent.packets;
        for (int k = 0; k < DP_PORT_DROPS; k++)
            sum.gone += c->drop[k];
    }
    sum.gone += w->engine->counters.verdict[DP_DENY].packets;
    for (int v = 0; v < DP_VERDICTS; v++)
        sum.verdicts += w->engine->counters.verdict[v].packets;
    return sum;
}

static void check_held(const struct dp_worker *w)
{
    uint32_t used = 0;

    for (uint32_t slot = 0; slot < DP_WAITING_SLOTS; slot++)
        used += w->waiting[slot].used;
    must(used == w->n_waiting && dp_fragments_waiting(w->engine->fragments) <= DP_WAITING_FRAMES_MAX &&
         w->engine->n_resolved == 0);
}

/* ---- the replay ---- */

static void resolve(struct both *both)
{
    struct dp_resolution resolution;

    while (dp_engine_resolved(both->engine, &resolution, 1) == 1)
        dp_at_port_resolved(both->ports, both->engine, &resolution);
}

static void check_replay(struct both *both, uint32_t in, const uint8_t *data, uint32_t length)
{
    const struct dp_worker *w = &both->firewall->worker[0];
    struct dp_frame frame = {.time_ns = w->now_ns,
                             .data = data,
                             .captured = length,
                             .length = length,
                             .link = DP_LINK_ETHERNET,
                             .flags = DP_FRAME_RECEIVED,
                             .interface = in + 1};
    struct dp_record record;

    /* It is not taken from its port. */
    if (length < 14)
        return;
    must(dp_at_port_concerns(both->ports, &frame, &both->interface[in], in + 1) == 1);
    dp_at_port_judge(both->ports, both->engine, &frame, in + 1, &record, NULL);
    must(memcmp(&record, &w->record[0], sizeof record) == 0);
    resolve(both);
}

/* ---- one step ---- */

static size_t pass(const struct parts *parts, struct both *both, const uint8_t *data, size_t size)
{
    static uint8_t frame[DP_VNET_HEADER + LENGTH_MAX];
    static const uint8_t everybody[6] = {255, 255, 255, 255, 255, 255};
    struct dp_worker *w = &both->firewall->worker[0];
    size_t length = (size_t)(data[2] << 8 | data[3]) % LENGTH_MAX;
    uint32_t in = (data[0] & 31) % PORTS, to = data[1] >> 1 & 7, held;
    uint64_t numbers[DP_WAITING_SLOTS], copies, counted;
    uint32_t at[2][VLANS];
    struct account before, after;

    if (length > size - 4)
        length = size - 4;
    memset(frame, 0, DP_VNET_HEADER);
    memcpy(frame + DP_VNET_HEADER, data + 4, length);
    if (length >= 14 && data[1] & 1)
        memcpy(frame + DP_VNET_HEADER + 6, macs[in], 6);
    if (length >= 14 && to <= PORTS)
        memcpy(frame + DP_VNET_HEADER, to == PORTS ? everybody : macs[to], 6);
    w->now_ns += steps_ns[data[0] >> 5];
    dp_engine_advance(w->engine, w->now_ns);
    dp_forward_resolved(w);
    dp_engine_advance(both->engine, w->now_ns);
    resolve(both);
    before = account_of(w);
    held = w->n_waiting;
    for (uint32_t slot = 0; slot < DP_WAITING_SLOTS; slot++)
        numbers[slot] = w->waiting[slot].used ? w->waiting[slot].number : UINT64_MAX;
    copies = copies_of(both->firewall, frame + DP_VNET_HEADER, length, in);
    where_sender(both->firewall, frame + DP_VNET_HEADER, length, at[0]);
    must(write(parts->ours[in], frame, DP_VNET_HEADER + length) == (ssize_t)(DP_VNET_HEADER + length));
    dp_receive(w, in);
    after = account_of(w);
    must(after.received == before.received + 1);
    must(after.sent - before.sent == take(parts, in));
    counted = after.sent + after.gone + w->n_waiting - (before.sent + before.gone + held);
    if (all_held(w, numbers))
        /* One that is refused, or waits, before it has copies: the engine was asked once at most. */
        must(counted == copies || (counted == 1 && after.verdicts - before.verdicts <= 1));
    else
        must(after.sent + after.gone > before.sent + before.gone || w->n_waiting > held);
    check_sender(both->firewall, frame + DP_VNET_HEADER, length);
    where_sender(both->firewall, frame + DP_VNET_HEADER, length, at[1]);
    check_unstolen(at[0], at[1], in, w->record[0].verdict == DP_ALLOW);
    check_held(w);
    check_replay(both, in, frame + DP_VNET_HEADER, (uint32_t)length);
    return 4 + length;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct parts parts;
    struct both both;

    if (!parts.endpoints)
        make(&parts);
    both = start(&parts);
    both.firewall->worker[0].now_ns = UINT64_C(2000000000000000000);
    for (int n = 0; size >= 4 && n < FRAMES_MAX; n++) {
        size_t used = pass(&parts, &both, data, size);

        data += used;
        size -= used;
    }
    check_stations(both.firewall);
    dp_firewall_free(both.firewall);
    dp_plane_free(both.plane);
    dp_at_port_free(both.ports);
    arena_reset();
    return 0;
}
