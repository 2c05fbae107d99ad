/*
 * fast_path.h: the short way of an ordinary packet, which is what nearly all are.
 *
 * It takes a whole Ethernet frame (with up to two VLAN tags) of IPv4 without options or IPv6 without extension headers,
 * no fragment, that carries a TCP segment, UDP but for DHCP, or an ICMP echo, between addresses of which each belongs
 * to one instance or to none, from a sender who may come by its port, with right checksums where those are asked for.
 * It passes when the connection of its check is live, has met all changes, and is valid there; a packet between two
 * instances here only when both connections stay in their state by it. Of one instance's, the rules decide about what
 * no connection is known for. For all else these functions say no and have changed nothing but what the long way would
 * have first, and pipeline.c takes that.
 *
 * GUARANTEE. Records, flows, counters and entries come out as by the long way, to the byte (tests/c/test_fast_path.c,
 * tests/c/test_fast_path_connections.c, tests/fuzz/fuzz_fast_path.c hold both against each other).
 *
 * BURSTS. dp_fast_read reads all frames of a burst and asks for the index slots of their connections, dp_fast_fetch
 * takes the entries' numbers there and asks for the entries, dp_fast_judge judges in order. By then an entry may have
 * gone, which is seen by its key and state: no two live entries have one key.
 */
#ifndef DP_FAST_PATH_H
#define DP_FAST_PATH_H

#include "fast_read.h"
#include "judge.h"

/* Asks for the entries of the frames in `set`, none of which the flow cache knew. */
void dp_fast_fetch(const struct dp_engine *engine, struct dp_fast *fast, uint32_t set);
/*
 * Judges and counts frames from the first one on, up to one that is not in `set` or has to go the long way. Returns how
 * many it has judged, whose records are written then.
 */
uint32_t dp_fast_judge(struct dp_engine *engine, const struct dp_frame *frames, struct dp_fast *fast, uint32_t set,
                       struct dp_fast_asked asked, struct dp_record *records);
/* The same of frames of a selection, whose first is `from`. */
uint32_t dp_fast_judge_selected(struct dp_engine *engine, const struct dp_frame *frames,
                                const struct dp_selection *some, uint32_t from, struct dp_fast *fast, uint32_t set,
                                struct dp_fast_asked asked, struct dp_record *records);

#endif
