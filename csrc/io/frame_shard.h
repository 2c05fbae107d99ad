/*
 * frame_shard.h: where a frame of a replay goes: its shard (shard.h), read from its first bytes where it is plain.
 *
 * ALONE are frames that read or change what is not of one connection: no other is judged beside them.
 */
#ifndef DP_IO_FRAME_SHARD_H
#define DP_IO_FRAME_SHARD_H

#include "../dp_api.h"

#include <stdbool.h>

uint32_t dp_frame_shard(uint32_t shards, const struct dp_frame *frame);
/* Those of frames up to the first that has to be judged alone; returns how many. */
uint32_t dp_frame_shards(uint32_t shards, const struct dp_frame *frames, uint32_t n, uint8_t *shard);

#endif
