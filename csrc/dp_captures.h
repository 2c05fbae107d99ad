/*
 * dp_captures.h: what Python sees of captures, and of their replay through planes.
 * What dp_api.h says of ownership, errors, units and threads holds here too.
 */
#ifndef DP_CAPTURES_H
#define DP_CAPTURES_H

#include "dp_plane.h"

/* cffi: begin */

/* ---- captures (io) ---- */

struct dp_capture;

/*
 * Opens a capture on a regular file: on descriptor `fd`, which stays the caller's and must outlive the handle, or, if
 * `path` is not NULL, on that path, opened anew for each reading (`fd` is looked at only here, to know the file). Fails
 * only for memory: a fault of the file is told by dp_capture_status once it is reached.
 */
int dp_capture_open(int fd, const char *path, struct dp_capture **capture);
/* Opens a capture that is fed. One that is repeatable may want its bytes from the first on once more. */
int dp_capture_open_fed(int repeatable, struct dp_capture **capture);
/* Offset of the byte that a capture wants to be fed next: 0 before the first, and when it begins anew. */
uint64_t dp_capture_wanted(const struct dp_capture *capture);
/*
 * Feeds a capture that dp_replay_starved names; `size` 0 says that no more bytes come. The bytes are copied. 0 or
 * DP_E_MEMORY.
 */
int dp_capture_feed(struct dp_capture *capture, const uint8_t *data, size_t size);
void dp_capture_free(struct dp_capture *capture);

/* Packets whose link type, as the file writes it, is not supported. */
struct dp_strange_link {
    uint64_t packets;
    uint32_t link_type;
    uint32_t unused;
};
enum { DP_STRANGE_LINKS = 8 };

enum dp_capture_format { DP_CAPTURE_UNKNOWN, DP_CAPTURE_PCAP, DP_CAPTURE_PCAPNG };

/*
 * `error` is 0 or a dp_error, found at byte `offset`; `detail` says what stood there. `packets` and `bytes` (on the
 * wire) count what has been read, which may be up to 256 frames ahead of what was judged. `size` is 0 where bytes are
 * fed; `link_type` is that of the first interface. `strange[0 .. n_strange)` are link types that are not supported, in
 * the order in which they came; when there are more, the last one's packets are those of all the rest.
 */
struct dp_capture_status {
    int error;
    int format;
    uint64_t offset;
    uint64_t size;
    uint64_t position;
    uint64_t packets;
    uint64_t bytes;
    uint32_t link_type;
    uint32_t sections;
    uint32_t interfaces;
    uint32_t n_strange;
    struct dp_strange_link strange[DP_STRANGE_LINKS];
    char detail[160];
};
void dp_capture_status(const struct dp_capture *capture, struct dp_capture_status *status);

struct dp_replay;

/* Merges distinct captures by time, ties in the order given; they stay the caller's and must outlive the replay. */
int dp_replay_new(struct dp_capture **captures, uint32_t n, struct dp_replay **replay);
void dp_replay_free(struct dp_replay *replay);
/*
 * Distinct planes judge what is read, each all of it, whatever the others say; to be called once. They stay the
 * caller's and must outlive the last dp_replay_run. 0, DP_E_ARGUMENT or DP_E_MEMORY.
 */
int dp_replay_judge_by(struct dp_replay *replay, struct dp_plane **planes, uint32_t n);
/*
 * An interface as a pcapng capture tells of it: its name, NULL where it has none, its number in its section, and the
 * body of the block that describes it, in the byte order of the machine or (`swapped`) the other one.
 */
struct dp_interface {
    const char *name;
    const uint8_t *body;
    uint32_t size;
    uint32_t number;
    uint32_t swapped;
};
/* The interfaces that struct dp_seen has named so far: how many, and the one of that number; names last as captures. */
uint32_t dp_replay_interfaces(const struct dp_replay *replay);
struct dp_interface dp_replay_interface(const struct dp_replay *replay, uint32_t number);

/*
 * A frame as it was captured, followed by its `captured` bytes and `options` bytes of pcapng's options, filled up to
 * `size` in all, a multiple of 8. `interface` as in struct dp_seen; `timestamp` is in the interface's units, where the
 * frame stood in a block that has one (`in_block`).
 */
struct dp_kept_frame {
    uint64_t time_ns;
    uint64_t timestamp;
    uint32_t size;
    uint32_t captured;
    uint32_t length;
    uint32_t options;
    uint32_t capture;
    uint32_t interface;
    uint32_t link_type;
    uint16_t in_block;
    uint16_t swapped;
};
/* A block of pcapng that is no frame's and no interface's (a section's head, names), followed by its body. */
struct dp_kept_block {
    uint32_t size; /* in all, a multiple of 8 */
    uint32_t type;
    uint32_t body;
    uint32_t swapped;
};
/* From now on frames and such blocks are kept until they are taken; to be called before anything is read. */
void dp_replay_keep(struct dp_replay *replay);
/* The frames of the next `n` records, one behind the other, until the next call of any function; `seen` was asked for.
 */
const uint8_t *dp_replay_kept_frames(struct dp_replay *replay, uint32_t n, uint64_t *size);
/* The blocks of a capture that were read since this was asked last. */
const uint8_t *dp_replay_kept_blocks(struct dp_replay *replay, uint32_t capture, uint64_t *size);

/* An interface of the policy, and what stands behind it; no name: the number is nobody's. */
struct dp_named_port {
    const char *name;
    struct dp_port port;
};
/*
 * From now on, plane `which` judges frames that were captured at ports as live there (SPEC 7, "At a port"): at
 * interfaces of these names, or with `at`, the position of an instance's port, all at that one. DP_E_ARGUMENT where
 * there are more than DP_PORTS_MAX. Ports keep their positions from call to call, and what the switch has learned of
 * them.
 */
int dp_replay_set_ports(struct dp_replay *replay, uint32_t which, const struct dp_named_port *ports, uint32_t n,
                        int32_t at);
/*
 * From now on only frames whose own time is in from_ns .. to_ns (to_ns not among them) are merged and judged, as if the
 * captures had no others; struct dp_seen counts all. To be called before the first dp_replay_run.
 */
void dp_replay_between(struct dp_replay *replay, uint64_t from_ns, uint64_t to_ns);
/* An address or prefix, and what stands in its place: `bits` of `before` become those of `after`, the others stay. */
struct dp_mapping {
    uint8_t before[16];
    uint8_t after[16];
    uint32_t family; /* 4 or 6 */
    uint32_t bits;
};
/*
 * From now on frames are judged, and told, with other addresses; those that are kept stay as they were captured.
 * `mappings` come in the order of their `bits`, each prefix once. 0, DP_E_ARGUMENT or DP_E_MEMORY.
 */
int dp_replay_map(struct dp_replay *replay, const struct dp_mapping *mappings, uint32_t n);
/* Time of the next packet; 1 if there is one, 0 at the end of all captures, 2 if a capture has to be fed first. */
int dp_replay_next_time(struct dp_replay *replay, uint64_t *time_ns);
/*
 * Reads up to `n` packets whose time is before `until_ns` (a time that runs backwards counts as the latest before it),
 * and has each plane judge them: records[i] are those of planes[i], all of the same packets. Returns how many; fewer
 * than `n` means that `until_ns` or the end is reached, or that a capture has to be fed. `flows` and `seen` may be
 * NULL. A plane of several shards is judged on by as many threads, with the same records. Frames that opened
 * connections are counted from the first one of the replay; what was opened before has 0.
 */
int dp_replay_run(struct dp_replay *replay, uint64_t until_ns, struct dp_record **records, struct dp_flow *flows,
                  struct dp_seen *seen, uint32_t n);

/* Whether the call before stopped because a capture has to be fed: its position among the captures, or -1. */
int64_t dp_replay_starved(const struct dp_replay *replay);
/* Reads nothing any more: what was read and not judged yet is passed over, and dp_replay_run gives out what it holds.
 */
void dp_replay_stop(struct dp_replay *replay);

/*
 * What a reading of captures says of their being judged in parts (io/part.h). Frames; those whose time runs backwards;
 * that touch no instance; that are fragments, of whatever datagram; that ask for DHCP from nobody's address; whose
 * address several instances may have; and that were captured at an interface with a name.
 */
struct dp_census {
    uint64_t frames;
    uint64_t backwards;
    uint64_t untouched;
    uint64_t fragments;
    uint64_t questions;
    uint64_t shared;
    uint64_t named;
    uint64_t latest_ns;
};
/*
 * Reads frames, which nobody judges, by the policy of a plane: packets[z] are counted of zone z, and leader[z], which
 * is z at first, leads, link by link, to the same zone for all whose packets meet. Returns 1 if there is more to read,
 * 0 at the end, 2 if a capture has to be fed.
 */
int dp_replay_census(struct dp_replay *replay, struct dp_plane *plane, uint32_t *leader, uint64_t *packets,
                     uint32_t n_zones, struct dp_census *census);
/*
 * From now on only frames of one part are judged, that of zone z being part_of[z]; what touches no instance is of part
 * 0. Frames, and who opened connections, are counted among these. To be called before the first dp_replay_run. 0,
 * DP_E_ARGUMENT where addresses are mapped or no plane judges, or DP_E_MEMORY.
 */
int dp_replay_judge_part(struct dp_replay *replay, const uint32_t *part_of, uint32_t n_zones, uint32_t mine);
/* The numbers, from 1 among all frames, of the next `n` records that dp_replay_run has given. */
void dp_replay_numbers(struct dp_replay *replay, uint64_t *numbers, uint32_t n);
/* The latest time of a frame that was read, of whichever part. */
uint64_t dp_replay_latest(const struct dp_replay *replay);
/* How many frames had their verdict only after a later one had come: fragments before their datagram's first. */
uint64_t dp_replay_waited(const struct dp_replay *replay);

/* cffi: end */

#endif
