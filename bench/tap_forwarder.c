/*
 * tap_forwarder.c: what comes out of one TAP goes into another, both ways, in one thread, with offloads and without any
 * rules: the limit of a firewall that stands between two TAPs and looks at nothing.
 *
 *   tap_forwarder TAP1 TAP2 CPU
 *
 * Makes the TAPs where it is started; they may be moved to other namespaces. Runs until it is ended.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { FRAME_BYTES = 70000, BURST = 64 };

static int open_tap(const char *name)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);

    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0 ||
        ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6) < 0) {
        perror(name);
        exit(1);
    }
    return fd;
}

/* Up to a burst of frames; what the other side does not take is lost, as on any wire. */
static void forward(int from, int to)
{
    static char frame[FRAME_BYTES];

    for (int i = 0; i < BURST; i++) {
        ssize_t n = read(from, frame, sizeof frame);

        if (n <= 0 || write(to, frame, (size_t)n) < 0)
            return;
    }
}

int main(int argc, char **argv)
{
    struct pollfd taps[2];
    cpu_set_t cpus;

    if (argc != 4) {
        fprintf(stderr, "usage: tap_forwarder TAP1 TAP2 CPU\n");
        return 2;
    }
    CPU_ZERO(&cpus);
    CPU_SET((unsigned)atoi(argv[3]), &cpus);
    if (sched_setaffinity(0, sizeof cpus, &cpus) < 0) {
        perror("tap_forwarder");
        return 1;
    }
    for (int i = 0; i < 2; i++)
        taps[i] = (struct pollfd){.fd = open_tap(argv[1 + i]), .events = POLLIN};
    for (;;) {
        poll(taps, 2, -1);
        for (int i = 0; i < 2; i++)
            if (taps[i].revents)
                forward(taps[i].fd, taps[!i].fd);
    }
}
