/*
 * fast_first.h: first packets of connections on their short way (fast_path.h).
 *
 * A large table of rules is asked about all of a burst together (classifier.h), where several look-ups wait for memory
 * at once. The rules are the same when the burst is judged: a policy is swapped between bursts.
 */
#ifndef DP_FAST_FIRST_H
#define DP_FAST_FIRST_H

#include "fast_read.h"
#include "judge.h"

/* Asks large tables about those frames in `set` (not empty), which no connection was found for, that may begin one. */
void dp_fast_ask(const struct dp_engine *engine, struct dp_fast *fast, uint32_t set);
/* Answers and counts a packet of one check that no connection is known for; false when one is. */
bool dp_fast_judge_first(struct dp_engine *engine, const struct dp_fast *fast, struct dp_denied_flows *denied,
                         struct dp_record *record);

#endif
