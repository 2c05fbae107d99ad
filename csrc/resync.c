/* resync.c: resync.h in code. */
#include "resync.h"

#include "memory.h"

enum { BYTES = DP_RESYNC_SETS * DP_RESYNC_WAYS * sizeof(struct dp_disagreement) };

int dp_resync_init(struct dp_resync *resync)
{
    resync->slots = dp_reserve(BYTES);
    return resync->slots ? 0 : DP_E_MEMORY;
}

void dp_resync_release(struct dp_resync *resync)
{
    if (resync->slots)
        dp_unreserve(resync->slots, BYTES);
}

static struct dp_disagreement *set_of(struct dp_resync *resync, uint32_t hash)
{
    return &resync->slots[(size_t)(hash % DP_RESYNC_SETS) * DP_RESYNC_WAYS];
}

struct dp_disagreement *dp_resync_find(struct dp_resync *resync, const struct dp_flow_table *table, uint32_t entry)
{
    uint32_t hash = table->hashes[entry];
    struct dp_disagreement *set = set_of(resync, hash);

    for (int i = 0; i < DP_RESYNC_WAYS; i++)
        if (set[i].entry == entry && set[i].hash == hash)
            return set[i].last_ns == table->entries[entry].last_ns ? &set[i] : NULL;
    return NULL;
}

/* The place that a connection of `zone` takes in its set. */
static struct dp_disagreement *place_for(struct dp_disagreement *set, uint32_t entry, uint32_t zone)
{
    struct dp_disagreement *best = NULL;
    uint32_t most = 0;

    for (int i = 0; i < DP_RESYNC_WAYS; i++)
        if (set[i].entry == 0 || set[i].entry == entry)
            return &set[i];
    for (int i = 0; i < DP_RESYNC_WAYS; i++) {
        uint32_t share = set[i].zone == zone;

        for (int k = 0; k < DP_RESYNC_WAYS; k++)
            share += set[k].zone == set[i].zone;
        if (!best || share > most || (share == most && set[i].used < best->used)) {
            best = &set[i];
            most = share;
        }
    }
    return best;
}

/* Makes room for one more: two that follow each other become a run, else the oldest is given up. */
static void make_room(struct dp_disagreement *kept, enum dp_side side)
{
    struct dp_refused *refused = kept->refused[side];
    bool follow = refused[0].end == refused[1].seq && refused[0].ack == refused[1].ack;
    uint32_t seq = refused[0].seq;

    memmove(refused, refused + 1, (DP_RESYNC_SEGMENTS - 1) * sizeof *refused);
    kept->n[side]--;
    if (follow) {
        refused[0].seq = seq;
        refused[0].run = 1;
    }
}

void dp_resync_refuse(struct dp_resync *resync, const struct dp_flow_table *table, uint32_t entry, enum dp_side side,
                      const struct dp_tcp_segment *s, uint32_t window)
{
    const struct dp_entry *e = &table->entries[entry];
    uint32_t hash = table->hashes[entry], zone = e->zone_protocol >> 8;
    struct dp_disagreement *kept = dp_resync_find(resync, table, entry);

    if (!kept) {
        kept = place_for(set_of(resync, hash), entry, zone);
        *kept = (struct dp_disagreement){.last_ns = e->last_ns, .entry = entry, .hash = hash, .zone = zone};
    }
    kept->used = ++resync->clock;
    kept->window[side] = window;
    if (kept->n[side] == DP_RESYNC_SEGMENTS)
        make_room(kept, side);
    kept->refused[side][kept->n[side]++] = (struct dp_refused){.seq = s->seq, .end = s->end, .ack = s->ack};
}

bool dp_resync_agrees(const struct dp_disagreement *kept, enum dp_side side, const struct dp_tcp_segment *s)
{
    enum dp_side other = side == DP_INITIATOR ? DP_RESPONDER : DP_INITIATOR;

    for (uint32_t i = 0; i < kept->n[other]; i++) {
        const struct dp_refused *r = &kept->refused[other][i];

        if (r->ack == s->seq && (r->end == s->ack || (r->run && s->ack - r->seq - 1 < r->end - r->seq)))
            return true;
    }
    return false;
}
