/*
 * plane.h: one policy over shards, whoever brings their packets.
 *
 * A SHARD is an engine (engine.h): the fragments, connections and counters of the packets that belong to it (shard.h).
 * The PLANE owns what they have in common: the policy, which is compiled once and shared by references, and all that
 * goes over every shard: an update, its rehearsal, walks over connections, counters, save and restore.
 *
 * WHO RUNS A SHARD. Work on one is done through a callback, by whoever its packets are judged by (io/worker.h), or
 * right here where nobody is: the library's one thread. What goes over many entries, zones or rules is cut into steps,
 * each work of its own, so that packets wait for tens of microseconds at most (measured by bench/pauses.c).
 *
 * AN UPDATE takes all the memory that it needs first: the policy is built, and every shard makes room for it. After
 * that nothing can fail: it is swapped on each shard between two packets, with what stands behind ports (`swapped`),
 * which takes the same time for one zone as for all. From then on no packet passes by what was cut; what that is, is
 * counted zone by zone, connections of instances that went are taken out, and entries settled where revocations and
 * arrivals cut, before the next change can come.
 *
 * THE BOUND of the table, max_entries, is the plane's: each shard has a limit, and all limits add up to it. What of
 * them is not used is shared out anew by dp_plane_balance, again and again, so that a shard that has most of the
 * connections has most of the table; packets touch nothing that shards have in common. Where all of it is used, each
 * shard makes room within its limit, by fair shares of that (conntrack.h); one that has less than an equal part, and
 * has found no room, is given it by those that have more: by half-open and one-way entries first, then by others of
 * zones above their share. APPROXIMATE is therefore: a shard may be full while others have room, until the next
 * balance; a zone's fair share is counted in each shard by itself; and a shard without half-open or one-way entries may
 * give up another one, of a zone above its share, while another shard has some.
 *
 * One thread at a time calls what is here.
 */
#ifndef DP_PLANE_H
#define DP_PLANE_H

#include "engine.h"

/* What one step looks at: entries, or fewer that it takes out or puts back; zones that are to be cut; rules. */
enum { DP_VISITS = 512, DP_REMOVALS = 24, DP_CUTS = 32, DP_RULES = 8192 };
/* Timers that may come up between two bursts: more than the packets of one can arm mostly, which is two each. */
enum { DP_TIMERS = 128 };

typedef void dp_shard_work(struct dp_engine *shard, void *argument);

/* Whoever brings the packets. */
struct dp_plane_driver {
    void *owner;
    /* Has work done on shard `number` and returns when it is. */
    void (*run)(void *owner, uint32_t number, dp_shard_work *work, void *argument);
    /* The time by which the shards live. */
    uint64_t (*now)(void);
    /* An update was swapped on a shard: what goes with it, before the shard's next packet. */
    void (*swapped)(void *owner, uint32_t number, const struct dp_policy_update *update);
};

struct dp_plane {
    uint32_t shards;
    uint32_t max_entries;
    const struct dp_plane_driver *driver; /* NULL: one thread, and times that the caller tells */
    struct dp_engine *shard[DP_SHARDS_MAX];
};

/* From now on the shards are run by a driver, which must outlive the plane; timers come up at a pace then, for which
 * the driver calls dp_engine_catch_up. No packets may run on the shards meanwhile. */
void dp_plane_drive(struct dp_plane *plane, const struct dp_plane_driver *driver);
/* Frames that all shards have judged; how many fragments of them wait, or are answered and not told yet; one that is,
 * true if there is any; and what waits up to a number is refused. For planes whose shards count together: those of one
 * shard, and those of a replay. */
uint64_t dp_plane_frames(const struct dp_plane *plane);
uint32_t dp_plane_waiting(const struct dp_plane *plane);
bool dp_plane_resolved(struct dp_plane *plane, struct dp_resolution *resolution, struct dp_engine **by);
void dp_plane_give_up(struct dp_plane *plane, uint64_t number);
/* Each shard has as much of the table as the next: the part of this one. */
uint32_t dp_plane_equal_part(const struct dp_plane *plane, uint32_t number);
/* Lets a shard's time pass to now, where there is a clock; called on the shard. */
void dp_plane_advance_shard(const struct dp_plane *plane, struct dp_engine *shard);
/* Has work done on one shard, and on each, one after the other. */
void dp_plane_run(struct dp_plane *plane, uint32_t number, dp_shard_work *work, void *argument);
void dp_plane_run_all(struct dp_plane *plane, dp_shard_work *work, void *argument);

#endif
