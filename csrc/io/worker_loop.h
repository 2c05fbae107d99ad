/* worker_loop.h: the thread in which a worker moves frames until it is told to stop (dp_worker_stop). */
#ifndef DP_IO_WORKER_LOOP_H
#define DP_IO_WORKER_LOOP_H

#include "worker.h"

/* 0 or DP_E_IO. */
int dp_worker_start(struct dp_worker *worker);

#endif
