/*
 * flow_log.h: the packets of an engine gathered by flow: a record for each connection, and for each denied flow that
 * never became one (SPEC 8.2). What the functions do is said in dp_api.h.
 *
 * A CONNECTION is known by what the checks of its packets say: zone, origin and the frame that opened it. So there is
 * no second tracking of connections. How it ended is told by the connection table (dp_conntrack_observe) while frames
 * are judged, which is before their records come, since records may wait for a fragment: an END is noted with the
 * number of the frame and counts just before that frame's record.
 *
 * A DENIED FLOW is known by zone, addresses, protocol and ports (of ICMP by type and code, a reply's being its
 * request's), whichever way its packets go. When a connection opens
 * with these, the flow has become one: its packets are the connection's.
 *
 * BOUNDED. Live connections are as many as the table has. Of the rest, ended connections (by the time of their end) and
 * denied flows (by their last packet) stand in one queue; when it is longer than `most` the first of it are given out.
 * Up to there, the order of all is that of their first packets. What is given out depends on frames alone, not on how
 * they come in batches.
 *
 * Memory: 160 bytes a flow and 4 to 8 of the index; pools double as they fill. Hashes are keyed by the engine's secret.
 */
#ifndef DP_FLOW_LOG_H
#define DP_FLOW_LOG_H

#include "engine.h"

#endif
