/*
 * mac_table.h: which port leads to a MAC that was heard: the table of a learning switch, shared by all workers.
 *
 * A station is known by its MAC and its outer VLAN id. It is learned from the frames that come from it and forgotten
 * DP_STATION_LIFE_S seconds after the last. Where a MAC is that the policy tells is not asked here (port_bindings.h).
 *
 * WHO MAY TEACH WHAT. A port that must not have others' MACs, though its own is not told (an instance with port
 * security without a mac), teaches as `bound`: it takes no MAC that is known at another port, and no other port takes
 * what it has, until it has been silent for DP_STATION_LIFE_S; nor does it take the place of another port's station.
 * That holds for a MAC in whatever VLAN: what is bound is known in all of them.
 *
 * THE TABLE has DP_STATION_SETS sets of DP_STATION_WAYS; in a full set the station that was silent longest gives way,
 * so that made-up MACs only take what hashes to their sets. Two words an entry, read and written without a lock: the
 * value carries a part of the key's hash, by which a reader notices that it caught two halves and takes it for unknown.
 */
#ifndef DP_IO_MAC_TABLE_H
#define DP_IO_MAC_TABLE_H

#include "../dp_api.h"

#include <stdatomic.h>
#include <stdbool.h>

enum { DP_STATION_SETS = 2048, DP_STATION_WAYS = 8, DP_STATION_LIFE_S = 300 };
enum { DP_PORT_UNKNOWN = 0xffff };

struct dp_mac_table {
    struct {
        _Atomic uint64_t key;
        _Atomic uint64_t value;
    } entry[DP_STATION_SETS][DP_STATION_WAYS];
    _Atomic bool has_bound; /* a bound port has taught, once */
};

/* Where `mac` is: a port's number, or DP_PORT_UNKNOWN. */
uint32_t dp_mac_table_find(const struct dp_mac_table *table, const uint8_t *mac, uint16_t vlan, uint32_t now_s);
/* A frame from `mac`, whose sender may come by it, came from `port`. */
void dp_mac_table_learn(struct dp_mac_table *table, const uint8_t *mac, uint16_t vlan, uint32_t port, bool bound,
                        uint32_t now_s);
/* Whether `mac` was learned at another port than `port`, in whatever VLAN, and may not move there. */
bool dp_mac_table_is_taken(const struct dp_mac_table *table, const uint8_t *mac, uint32_t port, bool bound,
                           uint32_t now_s);
/* Forgets all stations of `port`. */
void dp_mac_table_forget(struct dp_mac_table *table, uint32_t port);
/* At most n stations that are known now. */
uint32_t dp_mac_table_list(const struct dp_mac_table *table, uint32_t now_s, struct dp_station *stations, uint32_t n);

#endif
