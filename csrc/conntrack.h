/*
 * conntrack.h: the life of connection entries: found, inserted, kept, disconnected, expired (SPEC 4, 5).
 *
 * LIFE. dp_conntrack_admit (admission.h) makes an entry for the first packet that the rules allowed. Each valid packet
 * keeps it (dp_conntrack_keep): its time starts anew with the timeout of the state that the packet leads to. It dies
 * when now - last >= timeout. Whoever looks an entry up gets an exact answer; the timer wheel only takes the dead out
 * later.
 *
 * CHANGES. A change of the rules has a number, one more than the change before, and says which zones it cuts; that is
 * all that packets wait for. A zone meets it when one of its entries is looked at or made, or when whoever made the
 * change comes to that zone, which he does for all before the next one: then (number, time) is written into the zone's
 * cut log, and how many it disconnects is known. What had met a change is in a zone that had. An entry remembers up to
 * which change it has been looked at (`change`); at the next look, or when its timer comes up, the first cut of its
 * zone after that decides: an inbound entry that was alive at that time is DISCONNECTED: last_ns becomes the time of
 * the cut and packets refresh it no more, so that it goes when its state's timeout has passed since the cut, and a
 * later cut prolongs nothing. A cut that no entry could meet first is not logged, and a log that is longer than the
 * zone has entries is emptied by looking at all of these; so it takes no more memory than they do. The observer is told
 * of it at that look, so whoever wants to hear of all soon has every entry looked at. Whether a change of remote groups
 * (SPEC 5.4) cuts an entry is asked of `is_cut` in the same place, while that change is the last one: by the next every
 * entry has been looked at.
 *
 * A ZONE lists its entries in two queues, oldest first: tentative ones (half-open, one-way, closed) and steady ones.
 *
 * TIME is ct->now, set by dp_conntrack_advance and never set back.
 */
#ifndef DP_CONNTRACK_H
#define DP_CONNTRACK_H

#include "dp_connections.h"
#include "dp_counters.h"
#include "flow_table.h"
#include "resync.h"
#include "timer.h"
#include "zone_queues.h"

enum dp_conn_status { DP_CONN_NONE, DP_CONN_LIVE, DP_CONN_DISCONNECTED };

struct dp_cut {
    uint32_t change;
    uint64_t time_ns;
};

/* Cuts of a zone for which no memory is needed. */
enum { DP_CUTS_AT_HAND = 2 };

/* What control_traffic.c keeps of an instance's control traffic (SPEC 4.8); [0] is IPv4, [1] IPv6. */
struct dp_zone_control {
    uint64_t sent_ns;           /* when all that it has sent is paid for: in the future by no more than the burst */
    uint64_t asked_ns[2];       /* 1 + when it last asked for DHCP, 0 for never */
    union dp_address server[2]; /* which answered last; all zeros for none */
};

/* What is kept for an instance's zone. */
struct dp_zone {
    uint32_t entries;
    uint32_t attached; /* inbound entries that no change has cut, as of change `met` */
    uint32_t met;      /* number of the last change that the zone has met */
    uint32_t last_cut; /* number of the last change that cut this zone */
    uint32_t cut;      /* how many that one disconnected, until they are counted */
    uint32_t n_cuts;
    uint32_t cut_room;
    uint8_t present;
    uint8_t dhcp_server;
    struct dp_zone_control control;
    struct dp_cut *cuts; /* NULL while there is room in `few_cuts` */
    struct dp_cut few_cuts[DP_CUTS_AT_HAND];
};

/* The zone's log: `n_cuts` of its cuts, the oldest first. */
static inline struct dp_cut *dp_zone_log(struct dp_zone *zone)
{
    return zone->cuts ? zone->cuts : zone->few_cuts;
}

/*
 * Told of an entry that was made, changed its state, was found disconnected (or kept after all), or is about to go; it
 * must not touch the table. One that goes to make room is counted in early_drops already.
 */
typedef void dp_entry_observer(void *owner, enum dp_connection_event event, uint32_t entry);

/* Whether the last change cuts an inbound entry, though not all of its zone. */
typedef bool dp_entry_is_cut(void *owner, const struct dp_entry *entry);

struct dp_conntrack {
    uint64_t now;
    uint32_t change;
    uint32_t n_zones; /* length of `zones` */
    uint32_t n_present;
    uint32_t victim; /* the zone that had to give way last */
    struct dp_zone *zones;
    struct dp_flow_table table;
    struct dp_resync resync;
    struct dp_timer_wheel wheel;
    struct dp_zone_queues queues;
    uint64_t *openers; /* by entry: the frame that opened it, from 1; NULL unless asked for */
    uint32_t openers_room;
    struct dp_conntrack_config config;
    uint32_t limit;         /* entries; max_entries at most */
    uint32_t wanted;        /* how often room had to be made, since the plane has asked */
    uint32_t last_cut_some; /* number of the last change that `is_cut` was to be asked about */
    uint64_t cut_some_ns;   /* when that was */
    const uint8_t *cutting; /* by zone, `n_cutting` of them: 1 where the last change cuts all; NULL once all know */
    uint32_t n_cutting;
    uint64_t cutting_ns; /* when that was */
    uint32_t pace;       /* timers that may come up at once; 0: all */
    uint64_t reap_from;  /* no entry left in the wheel can be dead before */
    uint64_t opened;
    uint64_t expired;
    uint64_t replaced;
    uint64_t disconnected;
    uint64_t resynchronised;
    uint64_t early_drops;
    struct dp_flood_counter flood[DP_FLOODS];
    dp_entry_observer *observe; /* NULL: nobody wants to know */
    void *observer;
    dp_entry_is_cut *is_cut; /* asked only after dp_conntrack_cut_some */
    void *cutter;
    uint32_t observed_from; /* what changes up to this one disconnected is no news */
};

int dp_conntrack_init(struct dp_conntrack *ct, const struct dp_conntrack_config *config, const uint64_t *seed);
void dp_conntrack_release(struct dp_conntrack *ct);
/* Takes the memory now that so many entries, `most` at most, will come to need; 0 or DP_E_MEMORY. */
int dp_conntrack_populate(struct dp_conntrack *ct, uint32_t most);
/* Notes who opens each entry from now on (dp_engine_note_openers); 0 or DP_E_MEMORY. */
int dp_conntrack_note_openers(struct dp_conntrack *ct);
/* Makes room for `n` entries, no fewer than there was for; on an error all is as before. */
int dp_conntrack_reserve_entries(struct dp_conntrack *ct, uint32_t n);
/* Puts new settings in force, for whose max_entries there is room; the limit is theirs. */
void dp_conntrack_configure(struct dp_conntrack *ct, const struct dp_conntrack_config *config);

/* Lets timers come up that are due by now, no more than `pace` of them if they are not late. */
void dp_conntrack_run_timers(struct dp_conntrack *ct);

/* Sets the time, if it is later than now, and lets timers come up. */
static inline void dp_conntrack_advance(struct dp_conntrack *ct, uint64_t time_ns)
{
    if (time_ns <= ct->now)
        return;
    ct->now = time_ns;
    if (dp_timer_is_due(&ct->wheel, time_ns))
        dp_conntrack_run_timers(ct);
}

/* Whether timers are due that have not come up: those behind the pace. */
static inline bool dp_conntrack_is_behind(const struct dp_conntrack *ct)
{
    return dp_timer_is_due(&ct->wheel, ct->now);
}

/* The entry of `key`; a dead one is taken out first. DISCONNECTED: a change cut it, and its time is not over yet. */
enum dp_conn_status dp_conntrack_find(struct dp_conntrack *ct, const struct dp_flow_key *key, uint32_t hash,
                                      uint32_t *entry);
/* A new entry, for which there is room (admission.h); 0 without memory. */
uint32_t dp_conntrack_insert(struct dp_conntrack *ct, const struct dp_flow_key *key, uint32_t hash,
                             enum dp_origin origin, uint8_t state, uint32_t rule);
/* A valid packet led to `state`. */
void dp_conntrack_keep(struct dp_conntrack *ct, uint32_t entry, uint8_t state);
/* A disconnected connection is kept after all, under `rule` (SPEC 5.7, reevaluate). */
void dp_conntrack_reattach(struct dp_conntrack *ct, uint32_t entry, uint32_t rule);
void dp_conntrack_remove(struct dp_conntrack *ct, uint32_t entry);
/* The same for many, none of them twice, which waits for what all of them touch at once. */
void dp_conntrack_remove_many(struct dp_conntrack *ct, const uint32_t *entries, uint32_t n);
/* An entry just admitted has had its last packet `age_ns` ago, or, if `cut`, was disconnected then (a restart). */
void dp_conntrack_age(struct dp_conntrack *ct, uint32_t entry, uint64_t age_ns, bool cut);

/* Takes out every entry that is dead by now. */
void dp_conntrack_reap(struct dp_conntrack *ct);

/* Has a zone meet the last change (conntrack_changes.h). */
void dp_conntrack_meet(struct dp_conntrack *ct, uint32_t zone);

/* Who is told from now on; NULL for nobody. */
void dp_conntrack_observe(struct dp_conntrack *ct, dp_entry_observer *observe, void *observer);

/* Whether entry `index` is in use and alive now, all changes looked at. */
enum dp_conn_status dp_conntrack_status(struct dp_conntrack *ct, uint32_t index);

#endif
