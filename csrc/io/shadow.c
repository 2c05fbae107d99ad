/* shadow.c: shadow.h in code. */
#include "shadow.h"

#include "../flow_log.h"
#include "../pipeline.h"
#include "../table_walk.h"

enum { AT_ONCE = 32, TAKEN_AT_ONCE = 128 };

static bool is_known(const struct dp_engine *engine, uint32_t zone)
{
    return zone < engine->conntrack.n_zones && engine->conntrack.zones[zone].present;
}

/* A place as the shadow's policy knows it. */
static void place_in(const struct dp_engine *engine, const struct dp_place *from, struct dp_place *place)
{
    *place = *from;
    for (int d = 0; d < DP_DIRECTIONS; d++)
        if (place->zone[d] != DP_NO_ZONE && !is_known(engine, place->zone[d])) {
            place->zone[d] = DP_NO_ZONE;
            if (d == DP_EGRESS && place->guard == DP_GUARD_INSTANCE)
                place->guard = DP_GUARD_NONE;
        }
}

static enum dp_shadow_outcome outcome_of(const struct dp_record *before, const struct dp_record *after)
{
    if ((before->verdict == DP_DENY) == (after->verdict == DP_DENY))
        return DP_SHADOW_SAME;
    return after->verdict == DP_DENY ? DP_SHADOW_WOULD_DENY : DP_SHADOW_WOULD_ALLOW;
}

static void compare(struct dp_shadow *shadow, struct dp_engine *engine, const struct dp_record *before,
                    struct dp_record *after, const struct dp_flow *flow)
{
    enum dp_shadow_outcome outcome;

    if (before->verdict == DP_WAITING || after->verdict == DP_WAITING)
        return;
    outcome = outcome_of(before, after);
    engine->counters.shadow[outcome]++;
    /* Passed is passed, whether somebody was asked or not. */
    if (outcome == DP_SHADOW_SAME)
        after->verdict = before->verdict;
    dp_difference_add(shadow->difference, NULL, before, after, flow, 1);
    if (outcome != DP_SHADOW_SAME && engine->flow_log)
        dp_flow_log_note_shadow(engine->flow_log, before, after, flow);
}

static void discard_resolved(struct dp_engine *engine)
{
    struct dp_resolution resolution;

    while (dp_engine_resolved(engine, &resolution, 1) == 1)
        ;
}

void dp_shadow_judge(struct dp_shadow *shadow, struct dp_engine *engine, const struct dp_frame *frames,
                     const struct dp_place *places, const struct dp_record *records, const struct dp_flow *flows,
                     uint32_t n)
{
    struct dp_place place[AT_ONCE];
    struct dp_record after[AT_ONCE];

    for (uint32_t done = 0, some; done < n; done += some) {
        some = n - done < AT_ONCE ? n - done : AT_ONCE;
        for (uint32_t i = 0; i < some; i++)
            place_in(shadow->engine, &places[done + i], &place[i]);
        dp_engine_process_at(shadow->engine, frames + done, place, some, after, NULL);
        for (uint32_t i = 0; i < some && shadow->comparing; i++)
            compare(shadow, engine, &records[done + i], &after[i], &flows[done + i]);
    }
    discard_resolved(shadow->engine);
}

uint32_t dp_shadow_take_over(struct dp_shadow *shadow, struct dp_engine *engine, uint64_t *cursor)
{
    struct dp_saved_connection saved[TAKEN_AT_ONCE];
    uint32_t n, taken = 0;

    dp_shadow_advance(shadow, engine->conntrack.now);
    n = dp_connections_save_some(engine, NULL, cursor, TAKEN_AT_ONCE, saved, TAKEN_AT_ONCE);
    for (uint32_t i = 0; i < n; i++)
        taken += dp_connections_restore(shadow->engine, &saved[i], 0, DP_RESTORE_ANEW) == DP_RESTORED_TAKEN;
    return taken;
}

void dp_shadow_advance(struct dp_shadow *shadow, uint64_t now_ns)
{
    dp_engine_advance(shadow->engine, now_ns);
    discard_resolved(shadow->engine);
}
