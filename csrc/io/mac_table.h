/*
 * mac_table.h: which port leads to a MAC that was heard: the table of a learning switch, shared by all workers.
 *
 * A station is known by its MAC and its outer VLAN id. It is learned from the frames that come from it and forgotten
 * DP_STATION_LIFE_S seconds after the last. Where a MAC is that the policy tells is not asked here (port_bindings.h).
 *
 * WHO MAY TEACH WHAT. A port that must not have others' MACs, though its own is not told (an instance with port
 * security without a mac), teaches as `bound`: it takes no MAC that is known at another port, and no other port takes
 * what it has, until it has been silent for DP_STATION_LIFE_S. That holds for a MAC in whatever VLAN: what is bound is
 * known in all of them. It has at most DP_STATION_BOUND MACs: for one more, the one of its own that was silent longest
 * is forgotten.
 *
 * THE TABLE has DP_STATION_SETS sets of DP_STATION_WAYS. In a full set the station that was silent longest gives way,
 * but a bound one that is not silent gives way to nobody. The hash has a secret, so that nobody outside can tell which
 * MACs share a set. Two words an entry, read without a lock: the value carries a part of the key's hash, by which a
 * reader notices that it caught two halves and takes it for unknown. Who changes an entry holds `changing`; a worker
 * that does not get it soon goes on, and the station is learned by its next frame.
 */
#ifndef DP_IO_MAC_TABLE_H
#define DP_IO_MAC_TABLE_H

#include "../dp_live.h"

#include <stdatomic.h>
#include <stdbool.h>

enum { DP_STATION_SETS = 2048, DP_STATION_WAYS = 8, DP_STATION_LIFE_S = 300, DP_STATION_BOUND = 4 };
enum { DP_PORT_UNKNOWN = 0xffff, DP_STATION_SECRET = 3 };

struct dp_mac_table {
    struct {
        _Atomic uint64_t key;
        _Atomic uint64_t value;
    } entry[DP_STATION_SETS][DP_STATION_WAYS];
    _Atomic bool has_bound; /* a bound port has taught, once */
    atomic_flag changing;
    uint64_t bound[DP_PORTS_MAX][DP_STATION_BOUND]; /* keys of what each port has bound, the last one last; 0: none */
    uint64_t secret[DP_STATION_SECRET];             /* two multipliers and what is added */
};

/* Of all zeros; DP_STATION_SECRET words that nobody outside knows key its hash. */
void dp_mac_table_init(struct dp_mac_table *table, const uint64_t *secret);

/* Where `mac` is: a port's number, or DP_PORT_UNKNOWN. */
uint32_t dp_mac_table_find(const struct dp_mac_table *table, const uint8_t *mac, uint16_t vlan, uint32_t now_s);
/* A frame from `mac`, whose sender may come by it, came from `port`, below DP_PORTS_MAX where it is bound. */
void dp_mac_table_learn(struct dp_mac_table *table, const uint8_t *mac, uint16_t vlan, uint32_t port, bool bound,
                        uint32_t now_s);
/* Whether `mac` was learned at another port than `port`, in whatever VLAN, and may not move there. */
bool dp_mac_table_is_taken(const struct dp_mac_table *table, const uint8_t *mac, uint32_t port, bool bound,
                           uint32_t now_s);
/* Forgets all stations of `port`. */
void dp_mac_table_forget(struct dp_mac_table *table, uint32_t port);
/*
 * The port is gone: as dp_mac_table_forget, but no bound port gets what was bound to it until that has been silent for
 * DP_STATION_LIFE_S, and when the number is in use again it has it at once. Meanwhile it may speak at a port that is
 * not bound, and is looked for everywhere. Whether there is any.
 */
bool dp_mac_table_leave(struct dp_mac_table *table, uint32_t port);
/* At most n stations that are known now. */
uint32_t dp_mac_table_list(const struct dp_mac_table *table, uint32_t now_s, struct dp_station *stations, uint32_t n);

#endif
