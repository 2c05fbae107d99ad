/*
 * dp_connections.h: what Python sees of a plane's connection table: listed, counted, flushed, reconsidered, saved and
 * restored.
 *
 * What dp_api.h says of ownership, errors, units and threads holds here too.
 */
#ifndef DP_CONNECTIONS_H
#define DP_CONNECTIONS_H

#include "dp_plane.h"

/* cffi: begin */

/* ---- the connection table as people see it ---- */

struct dp_connection {
    uint8_t local[16];
    uint8_t remote[16];
    uint64_t last_ns;
    uint64_t expires_ns;
    uint32_t zone;
    uint32_t rule;
    uint16_t local_port;
    uint16_t remote_port;
    uint8_t family;
    uint8_t protocol;
    uint8_t origin;
    uint8_t state;
    uint8_t disconnected;
    uint8_t unused[7];
};

/* UPDATE: its state is another, or a change has disconnected it, which is told soon after the change. */
enum dp_connection_event { DP_EVENT_NONE, DP_EVENT_NEW, DP_EVENT_UPDATE, DP_EVENT_DESTROY };

/*
 * Each test is left out when its field has the value that means any: -1, port 0, or family 0 for the addresses.
 * `since_ns` is when the last packet, or a cut, was at the earliest. `address` may be on either side; the default route
 * of the family (bits 0) covers all of it.
 */
struct dp_connection_filter {
    int64_t zone;
    int32_t origin;
    int32_t protocol;
    int32_t disconnected;
    uint32_t states;
    uint32_t family;
    struct dp_prefix address;
    struct dp_prefix local;
    struct dp_prefix remote;
    uint16_t local_port;
    uint16_t remote_port;
    uint64_t since_ns;
};
/* Live connections from *cursor on (0 to begin), at most n; advances the cursor and returns how many, 0 at the end. */
int dp_plane_connections(struct dp_plane *plane, const struct dp_connection_filter *filter, uint64_t *cursor,
                         struct dp_connection *connections, uint32_t n);
/* How many pass; `by_state` (DP_CONN_STATES numbers, or NULL) tells them apart. */
uint64_t dp_plane_count(struct dp_plane *plane, const struct dp_connection_filter *filter, uint64_t *by_state);
uint64_t dp_plane_flush(struct dp_plane *plane, const struct dp_connection_filter *filter);

/* What would become of a connection by an update: it stays, is disconnected, or goes with its instance. */
enum dp_fate { DP_FATE_STAYS, DP_FATE_DISCONNECTED, DP_FATE_GONE };
/* A connection, what the rules of an update would decide about its first packet (rule 0: none matches), and its fate.
 */
struct dp_reconsidered {
    struct dp_connection connection;
    uint32_t rule;
    uint8_t verdict;
    uint8_t fate;
    uint8_t unused[2];
};
/*
 * Connections, of those that no change has disconnected yet, that an update would not leave as they are: not
 * DP_FATE_STAYS, or denied by its rules and not by those in force, were they new. From *cursor on (0 to begin), at most
 * n; 0 at the end. Nothing changes.
 */
int dp_plane_reconsider(struct dp_plane *plane, const struct dp_policy_update *update, uint64_t *cursor,
                        struct dp_reconsidered *out, uint32_t n);

/* ---- the connection table saved and restored ---- */

/*
 * A connection with all that tracking knows of it; `age_ns` is the time since its last packet (or its cut).
 * `disconnected` is 0, 1, or DP_CUT_NOW for an inbound one that is to be cut when it is put back.
 */
struct dp_saved_connection {
    uint8_t local[16];
    uint8_t remote[16];
    uint64_t age_ns;
    uint32_t zone;
    uint32_t rule;
    uint16_t local_port;
    uint16_t remote_port;
    uint8_t family;
    uint8_t protocol;
    uint8_t origin;
    uint8_t state;
    uint8_t disconnected;
    uint8_t tcp_scale_flags[DP_SIDES];
    uint8_t unused;
    uint16_t tcp_max_window[DP_SIDES];
    uint32_t tcp_end[DP_SIDES];
    uint32_t tcp_max_end[DP_SIDES];
    uint32_t tcp_max_ack[DP_SIDES];
    uint32_t vlans; /* where they belong to its key */
    uint32_t unused2;
};
enum { DP_CUT_NOW = 2 };
/* What becomes of a connection that is to be put back. */
enum dp_restored {
    DP_RESTORED_TAKEN,
    DP_RESTORED_CUT,         /* taken, and cut by it */
    DP_RESTORED_UPDATED,     /* it was in, and is now as this says */
    DP_RESTORED_NO_INSTANCE, /* nobody has its zone */
    DP_RESTORED_NOT_VALID,   /* a family, origin or state that does not exist, or from before the clock began */
    DP_RESTORED_EXPIRED,
    DP_RESTORED_THERE, /* its key is in already, which stays as it is */
    DP_RESTORED_FULL,
    DP_RESTORED_OUTCOMES
};
/* What is done about a connection that is in already: it stays; or it is updated, unless its last packet is later than
 * that of this one, by more than DP_SAME_TIME_NS, or, in the third case, a change here has cut it and none there. */
enum dp_restore { DP_RESTORE_MISSING, DP_RESTORE_NEWER, DP_RESTORE_NEWER_UNLESS_CUT };
enum { DP_SAME_TIME_NS = 50000000 };
/* Connections that pass (all for NULL) from *cursor on (0 to begin), at most n; 0 at the end. */
int dp_plane_save(struct dp_plane *plane, const struct dp_connection_filter *filter, uint64_t *cursor,
                  struct dp_saved_connection *saved, uint32_t n);
/*
 * Puts connections back whose time is not over, as they were `passed_ns` ago; returns how many were taken or updated.
 * `how` is enum dp_restore. What became of each is added to `outcomes`, an array of DP_RESTORED_OUTCOMES, or NULL.
 */
int dp_plane_restore(struct dp_plane *plane, const struct dp_saved_connection *saved, uint32_t n, uint64_t passed_ns,
                     int how, uint64_t *outcomes);
/* Takes connections with the keys of these out of the table; returns how many were in. */
int dp_plane_forget(struct dp_plane *plane, const struct dp_saved_connection *saved, uint32_t n);

/* cffi: end */

_Static_assert(sizeof(struct dp_connection) == 72, "a connection as people see it is 72 bytes");
_Static_assert(sizeof(struct dp_reconsidered) == 80, "a reconsidered connection is a connection and 8 bytes");
_Static_assert(sizeof(struct dp_saved_connection) == 96, "a saved connection is 96 bytes, as in state files");

#endif
