/* frame_path.c: frame_path.h in code. */
#include "frame_path.h"

#include "../wire.h"

#include <string.h>

uint16_t dp_frame_vlan(const struct dp_frame *frame)
{
    const uint8_t *p = frame->data;
    uint16_t type = (uint16_t)(p[12] << 8 | p[13]);

    if (frame->captured < 16 || !dp_is_vlan_tag(type))
        return 0;
    return (uint16_t)((p[14] << 8 | p[15]) & 0xfff);
}

bool dp_port_forgets(const struct dp_port *before, const struct dp_port *now)
{
    return before->zone != now->zone || before->balancer != now->balancer || now->closed ||
           (before->has_mac && (!now->has_mac || memcmp(before->mac, now->mac, sizeof now->mac) != 0));
}

uint32_t dp_frame_out(const struct dp_mac_table *stations, const struct dp_bindings *served,
                      const struct dp_frame *frame, uint32_t in, uint32_t now_s)
{
    const struct dp_bound_mac *told;
    uint32_t found;

    if (frame->data[0] & 1)
        return DP_OUT_ALL;
    told = dp_bindings_find(served, frame->data);
    found = told ? told->port - 1u : dp_mac_table_find(stations, frame->data, dp_frame_vlan(frame), now_s);
    if (found == in)
        return DP_OUT_NONE;
    return found == DP_PORT_UNKNOWN ? DP_OUT_ALL : found;
}

void dp_place_enter(struct dp_place *place, const struct dp_mac_table *stations, const struct dp_bindings *served,
                    const struct dp_frame *frame, const struct dp_port *in, uint32_t number, const struct dp_port *out,
                    uint32_t now_s)
{
    dp_place_make(place, served, in, out);
    place->port = number;
    if (!place->mac)
        place->mac_taken =
            place->guard != DP_GUARD_OPEN &&
            dp_mac_table_is_taken(stations, frame->data + 6, number, place->guard == DP_GUARD_INSTANCE, now_s);
}

bool dp_is_flooded_to(const struct dp_endpoints *endpoints, const struct dp_frame *frame, const struct dp_port *to)
{
    /* A station that the policy tells is not behind another port. */
    return frame->data[0] & 1 || !to->has_mac || to->zone == DP_ZONE_NONE ||
           dp_endpoints_is_virtual_mac(endpoints, (uint32_t)to->zone, frame->data, 0, NULL);
}

void dp_place_flood(struct dp_place *place, const struct dp_bindings *served, const struct dp_port *in, uint32_t number,
                    const struct dp_port *to)
{
    *place = (struct dp_place){.zone = {[DP_INGRESS] = (uint32_t)to->zone, [DP_EGRESS] = DP_NO_ZONE},
                               .balancer = {[DP_INGRESS] = in->balancer},
                               .port = number,
                               .served = served};
}

/*
 * What an instance's frame says of its MAC, where the policy does not, counts once the frame was let out: else any
 * would do that the rules or the checks refuse, and nobody would hear of who claims the MAC. Elsewhere all teach but
 * those whose sender was refused: with no check, or as spoofed.
 */
static bool teaches(const struct dp_place *place, const struct dp_record *record)
{
    if (place->guard == DP_GUARD_INSTANCE)
        return record->verdict != DP_DENY && record->verdict != DP_WAITING;
    return record->verdict != DP_DENY || (record->checks && record->check[0].cause != DP_CAUSE_SPOOFED);
}

void dp_frame_teach(struct dp_mac_table *stations, const struct dp_bindings *served,
                    const struct dp_endpoints *endpoints, const struct dp_frame *frame, const struct dp_place *place,
                    const struct dp_record *record, uint32_t now_s)
{
    bool bound;

    if (!teaches(place, record) || dp_bindings_find(served, frame->data + 6))
        return;
    /* An instance that has no port here may be outside, and nowhere else. */
    if (place->guard == DP_GUARD_OPEN && dp_endpoints_is_others_mac(endpoints, place->zone[DP_EGRESS], frame->data + 6))
        return;
    bound = place->guard == DP_GUARD_INSTANCE &&
            !dp_endpoints_is_virtual_mac(endpoints, place->zone[DP_EGRESS], frame->data + 6, 0, NULL);
    dp_mac_table_learn(stations, frame->data + 6, dp_frame_vlan(frame), place->port, bound, now_s);
}
