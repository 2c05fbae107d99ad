/* pcapng.h: the step of a pcapng file: its blocks. */
#ifndef DP_IO_PCAPNG_H
#define DP_IO_PCAPNG_H

#include "capture_state.h"

dp_capture_step dp_pcapng_blocks;

#endif
