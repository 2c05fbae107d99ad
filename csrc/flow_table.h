/*
 * flow_table.h: the connection entries and the index that finds them.
 *
 * An ENTRY is one cache line and never moves: everything else names it by its index (from 1; 0 is none). The addresses
 * of wide keys, IPv6 mostly, do not fit and stand in a second pool of 32 bytes each. The INDEX is open addressing with
 * linear probing over 32-bit slots: the low bits name the entry, the bits above are a tag of the key's hash, so that a
 * look-up rarely touches a wrong entry; deletion shifts back and leaves no tombstones; it doubles at three quarters
 * full. Hashes are kept in an array of their own for that.
 *
 * BYTES per connection: 64 (entry) + 4 (hash) + 8 (timer link) + 8 (zone link) + 4 / load (index, load 0.38 .. 0.75),
 * so 89 to 95; an IPv6 connection 32 more. Nothing is allocated per connection: pools are reserved for max_entries and
 * touched as they fill, or all at once (dp_flow_table_populate): filling a page with zeros, and laying a large index
 * anew, takes as long as many packets do.
 *
 * OWNERSHIP. The table owns its entries; pointers to them hold until the next dp_flow_table_resize.
 */
#ifndef DP_FLOW_TABLE_H
#define DP_FLOW_TABLE_H

#include "dp_plane.h"
#include "flow_key.h"

#include <string.h>

enum {
    DP_ENTRY_IPV6 = 0x01,
    DP_ENTRY_INBOUND = 0x02,
    DP_ENTRY_CUT = 0x04,       /* disconnected; last_ns is the time of the change that did it */
    DP_ENTRY_TENTATIVE = 0x08, /* in its zone's tentative list, else in the steady one */
    DP_ENTRY_WIDE = 0x10,      /* the addresses are in a pair: IPv6, and tagged IPv4 of networks that share addresses */
    DP_ENTRY_ALONE = 0x20      /* its packets cross no other zone, as the flow cache has it (flow_cache.h) */
};

struct dp_entry {
    /* the key: does not change while the entry lives */
    uint32_t local;  /* IPv4 address, or index of the pair of a wide key's addresses; next free entry when free */
    uint32_t remote; /* IPv4 address, or a wide key's VLANs */
    uint16_t local_port;
    uint16_t remote_port;
    uint32_t zone_protocol;
    /* what packets change */
    uint64_t last_ns; /* the last valid packet */
    uint32_t change;  /* all changes up to this one have been looked at */
    uint32_t rule;    /* the rule that admitted the connection */
    uint8_t state;    /* enum dp_conn_state */
    uint8_t flags;
    /* what tcp.c keeps, by enum dp_side */
    union {
        uint8_t tcp_scale_flags[DP_SIDES];
        uint8_t icmp_code; /* of the query that was judged */
    };
    uint16_t tcp_max_window[DP_SIDES]; /* in units of the side's scale */
    uint32_t tcp_end[DP_SIDES];
    uint32_t tcp_max_end[DP_SIDES];
    uint32_t tcp_max_ack[DP_SIDES];
};
_Static_assert(sizeof(struct dp_entry) == 64, "a connection entry is one cache line");

struct dp_address_pair {
    union dp_address local;
    union dp_address remote;
};

/*
 * Where a look-up in vain has ended: the slot that a new entry of this hash takes, or one behind it, for as long as no
 * slot before has been emptied. So what is not found is not looked for once more when it is made.
 */
struct dp_vacancy {
    uint64_t rearranged;
    uint32_t hash;
    uint32_t at;
};

struct dp_flow_table {
    struct dp_entry *entries;
    uint32_t *hashes;
    struct dp_address_pair *pairs;
    uint32_t *slots;
    uint32_t slot_mask;
    uint32_t entry_mask; /* low bits of a slot */
    uint32_t room;       /* most entries */
    uint32_t count;
    uint32_t high;      /* entries 1 .. high have been used */
    uint32_t populated; /* entries 1 .. populated have their memory */
    uint32_t free;
    uint32_t pair_high;
    uint32_t pair_free;
    uint64_t rearranged;       /* how often a slot was emptied, or all were laid anew; from 1 */
    struct dp_vacancy vacancy; /* of the last look-up in vain */
    struct dp_hash_secret secret;
};

int dp_flow_table_init(struct dp_flow_table *table, uint32_t room, const uint64_t *seed);
void dp_flow_table_release(struct dp_flow_table *table);
/* Makes room for `room` entries, no fewer than before. */
int dp_flow_table_resize(struct dp_flow_table *table, uint32_t room);

/* Takes the memory for all entries that there is room for, but no more than `most`, and lays the index for as many; 0
 * or DP_E_MEMORY. The pool of wide addresses stays as it is. */
int dp_flow_table_populate(struct dp_flow_table *table, uint32_t most);

/* A new entry with this key, its other fields zero; 0 when there is no room or memory. The key must not be in yet. */
uint32_t dp_flow_table_insert(struct dp_flow_table *table, const struct dp_flow_key *key, uint32_t hash);
void dp_flow_table_remove(struct dp_flow_table *table, uint32_t entry);
/* Bytes of memory that the table has touched, by its own count. */
uint64_t dp_flow_table_bytes(const struct dp_flow_table *table);

/* Entries 1 .. this have their memory, used or not. */
static inline uint32_t dp_flow_table_touched(const struct dp_flow_table *table)
{
    return table->high > table->populated ? table->high : table->populated;
}

static inline bool dp_entry_matches(const struct dp_flow_table *table, const struct dp_entry *entry,
                                    const struct dp_flow_key *key)
{
    if (entry->zone_protocol != key->zone_protocol || entry->local_port != key->local_port ||
        entry->remote_port != key->remote_port)
        return false;
    if (key->family == 4)
        return !(entry->flags & DP_ENTRY_WIDE) && entry->local == key->local.word[0] &&
               entry->remote == key->remote.word[0];
    return (entry->flags & DP_ENTRY_WIDE) && entry->remote == key->vlans &&
           memcmp(&table->pairs[entry->local].local, &key->local, 16) == 0 &&
           memcmp(&table->pairs[entry->local].remote, &key->remote, 16) == 0;
}

/* The entry's remote address; of IPv4, the first four bytes, and zeros. */
static inline union dp_address dp_entry_remote(const struct dp_flow_table *table, const struct dp_entry *e)
{
    return e->flags & DP_ENTRY_WIDE ? table->pairs[e->local].remote : (union dp_address){{e->remote}};
}

/* The selector of the packet that was judged when the connection was admitted. */
static inline uint32_t dp_entry_selector(const struct dp_entry *e)
{
    uint32_t protocol = e->zone_protocol & 0xff;

    if (e->state == DP_CONN_ICMP_ONE_WAY || e->state == DP_CONN_ICMP_TWO_WAY)
        return protocol << 16 | (e->remote_port & 0xffu) << 8 | e->icmp_code;
    return protocol << 16 | (e->flags & DP_ENTRY_INBOUND ? e->local_port : e->remote_port);
}

/* The entry with this key, 0 for none. */
static inline uint32_t dp_flow_table_find(struct dp_flow_table *table, const struct dp_flow_key *key, uint32_t hash)
{
    uint32_t at;

    for (at = hash & table->slot_mask; table->slots[at]; at = (at + 1) & table->slot_mask) {
        uint32_t slot = table->slots[at];

        if (((slot ^ hash) & ~table->entry_mask) == 0 &&
            dp_entry_matches(table, &table->entries[slot & table->entry_mask], key))
            return slot & table->entry_mask;
    }
    table->vacancy = (struct dp_vacancy){table->rearranged, hash, at};
    return 0;
}

static inline void dp_flow_table_prefetch_slot(const struct dp_flow_table *table, uint32_t hash)
{
    __builtin_prefetch(&table->slots[hash & table->slot_mask]);
}

/* Asks for the hashes of what may move into the place of an entry of this hash, when it is taken out. */
static inline void dp_flow_table_prefetch_cluster(const struct dp_flow_table *table, uint32_t hash)
{
    for (uint32_t at = hash & table->slot_mask; table->slots[at]; at = (at + 1) & table->slot_mask)
        __builtin_prefetch(&table->hashes[table->slots[at] & table->entry_mask]);
}

/* The entry that the first slot of a fitting tag names, which is nearly always the one with the key; 0 for none. `end`
 * is that slot, or the free one where there is none. */
static inline uint32_t dp_flow_table_first(const struct dp_flow_table *table, uint32_t hash, uint32_t *end)
{
    uint32_t at, entry = 0;

    for (at = hash & table->slot_mask; table->slots[at]; at = (at + 1) & table->slot_mask)
        if (((table->slots[at] ^ hash) & ~table->entry_mask) == 0) {
            entry = table->slots[at] & table->entry_mask;
            break;
        }
    *end = at;
    return entry;
}

/* Whether there is still no entry of a hash, for which dp_flow_table_first has found none; then this is where a new one
 * goes. */
static inline bool dp_flow_table_is_vacant(struct dp_flow_table *table, const struct dp_vacancy *vacancy)
{
    if (vacancy->rearranged != table->rearranged || table->slots[vacancy->at])
        return false;
    table->vacancy = *vacancy;
    return true;
}

/* Asks for that entry. */
static inline void dp_flow_table_prefetch_entry(const struct dp_flow_table *table, uint32_t hash)
{
    uint32_t end, entry = dp_flow_table_first(table, hash, &end);

    if (entry)
        __builtin_prefetch(&table->entries[entry], 1);
}

#endif
