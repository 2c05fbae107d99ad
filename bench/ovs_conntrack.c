/*
 * ovs_conntrack.c: Open vSwitch's userspace conntrack alone on a capture in memory, in bursts.
 *
 *   ovs_conntrack FILE BURST PASSES CONNECTIONS
 *
 * For each burst what its userspace datapath does before rules: frames are copied into packets, parsed (miniflow) and
 * tracked, each with commit, so that what may begin a connection does. Prints nanoseconds of processor time a packet of
 * each pass, the first of which makes the connections, and then the share of packets that were not invalid.
 *
 * FILE is pcap in microseconds, in this machine's byte order and of Ethernet. Built with the headers and the library of
 * Debian's openvswitch-source.
 */
#include <config.h>

#include "conntrack.h"
#include "dp-packet.h"
#include "flow.h"
#include "ovs-rcu.h"
#include "timeval.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { FILE_HEADER = 24, FRAME_HEADER = 16, FRAME_MAX = 2048, QUIESCE_EACH = 1024 };

struct file {
    const uint8_t *bytes;
    size_t size;
};

struct tracked {
    uint64_t packets;
    uint64_t valid;
};

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static struct file opened(const char *path)
{
    struct stat about;
    int fd = open(path, O_RDONLY);
    void *bytes;

    if (fd < 0 || fstat(fd, &about) < 0)
        ovs_fatal(errno, "%s", path);
    bytes = mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    if (bytes == MAP_FAILED)
        ovs_fatal(errno, "%s", path);
    close(fd);
    return (struct file){bytes, (size_t)about.st_size};
}

/* The connection tracker takes packets of one type of Ethernet at a time. */
static void track(struct conntrack *ct, struct dp_packet_batch *batch, ovs_be16 type)
{
    if (!dp_packet_batch_is_empty(batch))
        conntrack_execute(ct, batch, type, false, true, 0, NULL, NULL, 0, 0, NULL, NULL, time_msec(), 0);
}

static void track_burst(struct conntrack *ct, struct dp_packet *packets, size_t n, struct tracked *found)
{
    struct dp_packet_batch batch;
    ovs_be16 type = 0;

    dp_packet_batch_init(&batch);
    for (size_t i = 0; i < n; i++) {
        struct {
            struct miniflow flow;
            uint64_t values[FLOW_U64S];
        } key;
        ovs_be16 found_type;

        pkt_metadata_init(&packets[i].md, u32_to_odp(1));
        miniflow_extract(&packets[i], &key.flow);
        found_type = MINIFLOW_GET_BE16(&key.flow, dl_type);
        if (found_type != type) {
            track(ct, &batch, type);
            dp_packet_batch_init(&batch);
            type = found_type;
        }
        dp_packet_batch_add(&batch, &packets[i]);
    }
    track(ct, &batch, type);
    found->packets += n;
    for (size_t i = 0; i < n; i++)
        found->valid += !(packets[i].md.ct_state & CS_INVALID);
}

static double pass(struct conntrack *ct, const struct file *file, struct dp_packet *packets, size_t burst,
                   struct tracked *found)
{
    double began = now();
    size_t at = FILE_HEADER, n = 0, bursts = 0;

    while (at + FRAME_HEADER <= file->size) {
        uint32_t length;

        memcpy(&length, file->bytes + at + 8, sizeof length);
        at += FRAME_HEADER;
        if (length > file->size - at || length > FRAME_MAX)
            break;
        dp_packet_clear(&packets[n]);
        dp_packet_put(&packets[n++], file->bytes + at, length);
        at += length;
        if (n < burst)
            continue;
        track_burst(ct, packets, n, found);
        n = 0;
        if (++bursts % QUIESCE_EACH == 0)
            ovsrcu_quiesce();
    }
    track_burst(ct, packets, n, found);
    return now() - began;
}

int main(int argc, char **argv)
{
    struct dp_packet packets[NETDEV_MAX_BURST];
    struct tracked found = {0, 0};
    struct conntrack *ct;
    struct file file;
    size_t burst;

    if (argc != 5 || (burst = strtoul(argv[2], NULL, 10)) == 0 || burst > NETDEV_MAX_BURST)
        ovs_fatal(0, "usage: ovs_conntrack FILE BURST PASSES CONNECTIONS");
    file = opened(argv[1]);
    ct = conntrack_init();
    conntrack_set_maxconns(ct, (uint32_t)strtoul(argv[4], NULL, 10));
    for (size_t i = 0; i < burst; i++)
        dp_packet_init(&packets[i], FRAME_MAX);
    for (unsigned long p = strtoul(argv[3], NULL, 10); p; p--) {
        uint64_t before = found.packets;
        double seconds = pass(ct, &file, packets, burst, &found);

        printf("%.2f\n", seconds * 1e9 / (double)(found.packets - before));
        fflush(stdout);
    }
    printf("%.4f\n", (double)found.valid / (double)found.packets);
    fflush(stdout);
    _exit(0); /* taking a million connections out takes long */
}
