/*
 * top_talkers.h: the addresses that most packets come from or go to, in bounded memory.
 *
 * The sketch of denied_flows.h, over addresses: who is among the busiest is not missed, and its true count is between
 * packets - overcount and packets. It answers one question, what a capture is about of which no packet touches an
 * instance, and is done with as soon as one does.
 */
#ifndef DP_TOP_TALKERS_H
#define DP_TOP_TALKERS_H

#include "dp_findings.h"

#endif
