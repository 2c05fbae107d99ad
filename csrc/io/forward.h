/* forward.h: the burst at hand judged, and sent where it may pass. */
#ifndef DP_IO_FORWARD_H
#define DP_IO_FORWARD_H

#include "worker.h"

/* Judges the burst at hand and sends what may pass. */
void dp_forward_burst(struct dp_worker *worker);
/* Sends or drops fragments whose datagram has its answer. */
void dp_forward_resolved(struct dp_worker *worker);

#endif
