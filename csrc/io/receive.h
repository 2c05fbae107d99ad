/* receive.h: frames of a worker's ports, and from other workers, into the burst at hand. */
#ifndef DP_IO_RECEIVE_H
#define DP_IO_RECEIVE_H

#include "worker.h"

/* A port's turn: what it has, up to a burst, is received and forwarded. */
void dp_receive(struct dp_worker *worker, uint32_t number);
/* The same with what other workers have handed over, a burst of each. */
void dp_receive_handed(struct dp_worker *worker);

#endif
