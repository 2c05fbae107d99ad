/*
 * admission.h: a new connection entry, and whose entry goes for it when the table is full (SPEC 4.9).
 *
 * SHARES. A zone's fair share is limit / zones, where the limit is max_entries, or what the plane gives of it to one of
 * several shards (plane.h).
 *
 * ROOM is made in this order: dead entries; the zone's own oldest tentative entry if it has its share; the oldest
 * tentative entry of the largest zone that is larger; for a zone below its share, any tentative entry, then the oldest
 * steady one of the largest zone above its share. Else the table is full for that zone.
 */
#ifndef DP_ADMISSION_H
#define DP_ADMISSION_H

#include "conntrack.h"

/* Takes out what may go, for one entry more of `zone`; false where nothing may. */
bool dp_admission_make_room(struct dp_conntrack *ct, uint32_t zone);
/* Counts a connection of `zone` that is refused because the table is full for it. */
void dp_admission_refuse(struct dp_conntrack *ct, uint32_t zone, uint8_t protocol, uint8_t state);
/* Gives up n entries, or as many as somebody else's want may cost: half-open and one-way ones of the largest zones,
 * then others of zones above their fair share. Returns how many. */
uint32_t dp_admission_give_way(struct dp_conntrack *ct, uint32_t n);

/* A new entry, 0 when the table is full for its zone. */
static inline uint32_t dp_conntrack_admit(struct dp_conntrack *ct, const struct dp_flow_key *key, uint32_t hash,
                                          enum dp_origin origin, uint8_t state, uint32_t rule)
{
    uint32_t zone = key->zone_protocol >> 8;

    if (ct->table.count >= ct->limit && !dp_admission_make_room(ct, zone)) {
        dp_admission_refuse(ct, zone, (uint8_t)key->zone_protocol, state);
        return 0;
    }
    return dp_conntrack_insert(ct, key, hash, origin, state, rule);
}

#endif
