/* plane_update.h: what an update would do, for those who ask. An update itself is dp_plane_update() (dp_plane.h,
 * plane.h). */
#ifndef DP_PLANE_UPDATE_H
#define DP_PLANE_UPDATE_H

#include "plane.h"

/* An update that is tried: the policy made of it, and what becomes of the inbound connections of each zone below
 * policy->n_zones, but for revocations and arrivals. */
struct dp_trial {
    struct dp_policy *policy;
    uint8_t *zones; /* enum dp_fate */
};

/* 0 or a negative error code, of which nothing is left. */
int dp_trial_begin(const struct dp_policy_update *update, struct dp_trial *trial);
void dp_trial_end(struct dp_trial *trial);

#endif
