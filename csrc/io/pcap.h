/* pcap.h: the first step of a pcap file: its header. */
#ifndef DP_IO_PCAP_H
#define DP_IO_PCAP_H

#include "capture_state.h"

dp_capture_step dp_pcap_header;

#endif
