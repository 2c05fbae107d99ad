/*
 * mac_table.c: mac_table.h in code.
 *
 *   key    mac << 16 | vlan, or ANY_VLAN; never 0 for a station
 *   value  hash of the key << 48 | bound << 47 | left << 46 | port << 32 | second in which it was last heard of
 */
#include "mac_table.h"

#define BOUND ((uint64_t)1 << 47)
#define LEFT ((uint64_t)1 << 46)

/* No VLAN has this id. Under it is what is bound, and where a station of a VLAN was heard last. */
enum { ANY_VLAN = 0xfff };

static uint64_t key_of(const uint8_t *mac, uint16_t vlan)
{
    uint64_t key = 0;

    for (int i = 0; i < 6; i++)
        key = key << 8 | mac[i];
    return key << 16 | vlan;
}

/* Strongly universal, like that of flows: 32 bits, of which all are good. */
static uint32_t hash_of(const struct dp_mac_table *table, uint64_t key)
{
    const uint64_t *s = table->secret;

    return (uint32_t)((s[0] * (uint32_t)key + s[1] * (key >> 32) + s[2]) >> 32);
}

static uint64_t tag_of(uint32_t hash)
{
    return (uint64_t)(hash >> 16) << 48;
}

static uint32_t port_of(uint64_t value)
{
    return value >> 32 & 0x3fff;
}

static bool is_fresh(uint64_t value, uint32_t now_s)
{
    return now_s - (uint32_t)value < DP_STATION_LIFE_S;
}

/* The way of `key` in its set, DP_STATION_WAYS when it is not in. */
static int way_of(const struct dp_mac_table *table, uint64_t key, uint64_t *value)
{
    uint32_t hash = hash_of(table, key), set = hash % DP_STATION_SETS;
    int way = key ? 0 : DP_STATION_WAYS; /* 0 is nobody's key, and that of free entries */

    for (; way < DP_STATION_WAYS; way++) {
        if (atomic_load_explicit(&table->entry[set][way].key, memory_order_acquire) != key)
            continue;
        *value = atomic_load_explicit(&table->entry[set][way].value, memory_order_relaxed);
        if (*value >> 48 << 48 == tag_of(hash))
            break;
    }
    return way;
}

/* Whether what is known of the key, if that still holds, was put into `value`. */
static bool know(const struct dp_mac_table *table, uint64_t key, uint32_t now_s, uint64_t *value)
{
    return way_of(table, key, value) != DP_STATION_WAYS && is_fresh(*value, now_s);
}

static bool has_bound(const struct dp_mac_table *table)
{
    return atomic_load_explicit(&table->has_bound, memory_order_relaxed);
}

void dp_mac_table_init(struct dp_mac_table *table, const uint64_t *secret)
{
    for (int i = 0; i < DP_STATION_SECRET; i++)
        table->secret[i] = secret[i];
    atomic_flag_clear_explicit(&table->changing, memory_order_relaxed);
}

uint32_t dp_mac_table_find(const struct dp_mac_table *table, const uint8_t *mac, uint16_t vlan, uint32_t now_s)
{
    uint64_t value;

    if (know(table, key_of(mac, vlan), now_s, &value) ||
        (has_bound(table) && know(table, key_of(mac, ANY_VLAN), now_s, &value) && value & BOUND))
        return value & LEFT ? (uint32_t)DP_PORT_UNKNOWN : port_of(value);
    return DP_PORT_UNKNOWN;
}

/* Whether who is not `port` keeps the station from it. */
static bool keeps(uint64_t value, uint32_t port, bool bound, uint32_t now_s)
{
    return port_of(value) != port && is_fresh(value, now_s) && (bound || value & BOUND);
}

/* Whether the MAC is known at another port, which keeps it; what has left keeps it too, if `left`. */
static bool is_kept(const struct dp_mac_table *table, const uint8_t *mac, uint32_t port, bool bound, bool left,
                    uint32_t now_s)
{
    uint64_t value;

    if (!bound && !has_bound(table))
        return false;
    if (know(table, key_of(mac, ANY_VLAN), now_s, &value) && keeps(value, port, bound, now_s) &&
        (left || !(value & LEFT)))
        return true;
    return bound && know(table, key_of(mac, 0), now_s, &value) && port_of(value) != port;
}

bool dp_mac_table_is_taken(const struct dp_mac_table *table, const uint8_t *mac, uint32_t port, bool bound,
                           uint32_t now_s)
{
    return is_kept(table, mac, port, bound, bound, now_s);
}

static uint64_t value_of(uint32_t hash, uint32_t port, bool bound, uint32_t now_s)
{
    return tag_of(hash) | (bound ? BOUND : 0) | (uint64_t)port << 32 | now_s;
}

/* ---- changes: `changing` is held ---- */

enum { TRIES = 1000 };

static bool begin_change(struct dp_mac_table *table)
{
    for (int i = 0; i < TRIES; i++)
        if (!atomic_flag_test_and_set_explicit(&table->changing, memory_order_acquire))
            return true;
    return false;
}

static void end_change(struct dp_mac_table *table)
{
    atomic_flag_clear_explicit(&table->changing, memory_order_release);
}

static void drop(struct dp_mac_table *table, uint64_t key)
{
    uint64_t value;
    int way = way_of(table, key, &value);

    if (way != DP_STATION_WAYS)
        atomic_store_explicit(&table->entry[hash_of(table, key) % DP_STATION_SETS][way].key, 0, memory_order_release);
}

/* Whether the port has the key bound, and for how long it was silent. */
static bool has(const struct dp_mac_table *table, uint64_t key, uint32_t port, uint32_t now_s, uint32_t *silent)
{
    uint64_t value;

    if (!know(table, key, now_s, &value) || port_of(value) != port || !(value & BOUND))
        return false;
    *silent = now_s - (uint32_t)value;
    return true;
}

/* Puts the key at the end of what the port has bound, where it is, is free, or was silent longest. */
static void bind(struct dp_mac_table *table, uint64_t key, uint32_t port, uint32_t now_s)
{
    uint64_t *bound = table->bound[port];
    uint32_t longest = 0;
    int at = 0, oldest = 0;

    while (at < DP_STATION_BOUND && bound[at] != key)
        at++;
    for (int i = 0; at == DP_STATION_BOUND && i < DP_STATION_BOUND; i++) {
        uint32_t silent = 0;

        if (!has(table, bound[i], port, now_s, &silent)) {
            at = i;
        } else if (silent > longest) {
            longest = silent;
            oldest = i;
        }
    }
    if (at == DP_STATION_BOUND) {
        at = oldest;
        drop(table, bound[at]);
    }
    for (; at + 1 < DP_STATION_BOUND; at++)
        bound[at] = bound[at + 1];
    bound[at] = key;
}

/* The way of the set for a newcomer: a free one, or that of who was silent longest; -1 where nobody gives way. */
static int way_for(const struct dp_mac_table *table, uint32_t set, uint32_t now_s)
{
    uint32_t longest = 0;
    int found = -1;

    for (int way = 0; way < DP_STATION_WAYS; way++) {
        uint64_t value = atomic_load_explicit(&table->entry[set][way].value, memory_order_relaxed);

        if (!atomic_load_explicit(&table->entry[set][way].key, memory_order_relaxed))
            return way;
        if (now_s - (uint32_t)value >= longest && !(value & BOUND && is_fresh(value, now_s))) {
            longest = now_s - (uint32_t)value;
            found = way;
        }
    }
    return found;
}

static void put(struct dp_mac_table *table, uint64_t key, uint32_t port, bool bound, uint32_t now_s)
{
    uint32_t hash = hash_of(table, key), set = hash % DP_STATION_SETS;
    uint64_t value, next = value_of(hash, port, bound, now_s);
    int way = way_of(table, key, &value);

    if (way != DP_STATION_WAYS && keeps(value, port, bound, now_s))
        return;
    if (way == DP_STATION_WAYS)
        way = way_for(table, set, now_s);
    if (way < 0)
        return;
    if (bound)
        bind(table, key, port, now_s);
    atomic_store_explicit(&table->entry[set][way].value, next, memory_order_relaxed);
    atomic_store_explicit(&table->entry[set][way].key, key, memory_order_release);
}

/* ---- */

static void teach(struct dp_mac_table *table, uint64_t key, uint32_t port, bool bound, uint32_t now_s)
{
    uint64_t value;

    if (way_of(table, key, &value) != DP_STATION_WAYS && value == value_of(hash_of(table, key), port, bound, now_s))
        return;
    if (begin_change(table)) {
        put(table, key, port, bound, now_s);
        end_change(table);
    }
}

void dp_mac_table_learn(struct dp_mac_table *table, const uint8_t *mac, uint16_t vlan, uint32_t port, bool bound,
                        uint32_t now_s)
{
    /* Groups send nothing, and nobody has the MAC of zeros. */
    if ((mac[0] & 1) || key_of(mac, 0) == 0 || is_kept(table, mac, port, bound, true, now_s))
        return;
    if (!bound)
        teach(table, key_of(mac, vlan), port, false, now_s);
    else if (!has_bound(table))
        atomic_store_explicit(&table->has_bound, true, memory_order_relaxed);
    if (bound || (vlan && vlan != ANY_VLAN))
        teach(table, key_of(mac, ANY_VLAN), port, bound, now_s);
}

/* What the port taught is forgotten, but for what is bound with `keep`; whether there is any. */
static bool forget(struct dp_mac_table *table, uint32_t port, bool keep)
{
    bool kept = false;

    while (!begin_change(table))
        ;
    for (int i = 0; i < DP_STATION_SETS * DP_STATION_WAYS; i++) {
        int set = i / DP_STATION_WAYS, way = i % DP_STATION_WAYS;
        uint64_t value = atomic_load_explicit(&table->entry[set][way].value, memory_order_relaxed);

        if (port_of(value) != port || !atomic_load_explicit(&table->entry[set][way].key, memory_order_relaxed))
            continue;
        if (keep && value & BOUND) {
            atomic_store_explicit(&table->entry[set][way].value, value | LEFT, memory_order_relaxed);
            kept = true;
        } else {
            atomic_store_explicit(&table->entry[set][way].key, 0, memory_order_release);
        }
    }
    end_change(table);
    return kept;
}

void dp_mac_table_forget(struct dp_mac_table *table, uint32_t port)
{
    forget(table, port, false);
}

bool dp_mac_table_leave(struct dp_mac_table *table, uint32_t port)
{
    return forget(table, port, true);
}

uint32_t dp_mac_table_list(const struct dp_mac_table *table, uint32_t now_s, struct dp_station *stations, uint32_t n)
{
    uint32_t have = 0;

    for (int i = 0; i < DP_STATION_SETS * DP_STATION_WAYS && have < n; i++) {
        uint64_t key =
            atomic_load_explicit(&table->entry[i / DP_STATION_WAYS][i % DP_STATION_WAYS].key, memory_order_acquire);
        uint64_t value =
            atomic_load_explicit(&table->entry[i / DP_STATION_WAYS][i % DP_STATION_WAYS].value, memory_order_relaxed);

        if (!key || value & LEFT || !is_fresh(value, now_s) || ((key & ANY_VLAN) == ANY_VLAN && !(value & BOUND)))
            continue;
        for (int b = 0; b < 6; b++)
            stations[have].mac[b] = (uint8_t)(key >> (56 - 8 * b));
        stations[have].port = (uint16_t)port_of(value);
        stations[have].fixed = 0;
        stations[have].vlan = value & BOUND ? 0 : (uint16_t)key;
        stations[have].age_s = now_s - (uint32_t)value;
        have++;
    }
    return have;
}
