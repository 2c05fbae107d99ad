/* test_offload.c: the promise of offload.h: no checksum is finished where a verdict has looked. */
#include "check.h"
#include "io/offload.h"
#include "io/port.h"

#include <linux/virtio_net.h>
#include <string.h>

enum { MACS = 12, ROOM = 256, LENGTH = 120 };

struct frame {
    uint8_t byte[DP_VNET_HEADER + ROOM];
};

/* A frame of 120 bytes with the EtherType and transport protocol, and the place of its transport header. */
static uint32_t make(struct frame *f, uint32_t tags, uint8_t family, uint8_t protocol)
{
    uint8_t *frame = f->byte + DP_VNET_HEADER, *p = frame + MACS;

    memset(f, 0, sizeof *f);
    for (uint32_t i = 0; i < tags; i++, p += 4)
        p[0] = 0x81;
    p[0] = family == 6 ? 0x86 : 0x08;
    p[1] = family == 6 ? 0xdd : 0;
    p += 2;
    if (family == 6)
        p[6] = protocol;
    else
        p[0] = 0x45, p[9] = protocol;
    p += family == 6 ? 40 : 20;
    p[12] = protocol == 6 ? 0x50 : 0;
    p[4] = protocol == 33 ? 4 : 0;
    return (uint32_t)(p - frame);
}

static bool sound(struct frame *f, uint32_t start, uint32_t offset, uint32_t length)
{
    struct virtio_net_hdr vnet = {
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = (uint16_t)start, .csum_offset = (uint16_t)offset};

    memcpy(f->byte, &vnet, sizeof vnet);
    return dp_offload_is_sound(f->byte, length);
}

static void test_its_own_checksum(void)
{
    static const struct {
        uint8_t family;
        uint8_t protocol;
        uint8_t field;
    } own[] = {{4, 6, 16},  {6, 6, 16}, {4, 17, 6}, {6, 17, 6}, {4, 136, 6},
               {4, 132, 8}, {4, 33, 6}, {4, 1, 2},  {6, 58, 2}};

    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        for (uint32_t tags = 0; tags <= 2; tags++) {
            struct frame f;
            uint32_t at = make(&f, tags, own[i].family, own[i].protocol);

            CHECK(sound(&f, at, own[i].field, LENGTH));
            /* No other field of the headers before what is carried, wherever it is counted from. */
            for (uint32_t place = 0; place < at + 8; place++) {
                if (place == at + own[i].field)
                    continue;
                CHECK(!sound(&f, place, 0, LENGTH));
                CHECK(!sound(&f, 0, place, LENGTH));
            }
            CHECK(!sound(&f, at - 2, own[i].field + 2u, LENGTH));
        }
    }
}

static void test_what_a_tunnel_carries(void)
{
    struct frame f;
    uint32_t at = make(&f, 0, 4, 17);

    CHECK(sound(&f, at + 8 + 8 + 14 + 20, 16, LENGTH)); /* TCP in VXLAN */
    CHECK(!sound(&f, at, 7, LENGTH));
    at = make(&f, 0, 4, 47);
    CHECK(sound(&f, at + 4 + 20, 16, LENGTH));
    CHECK(!sound(&f, 26, 2, LENGTH));
    at = make(&f, 0, 4, 6);
    f.byte[DP_VNET_HEADER + at + 12] = 0x80;
    CHECK(!sound(&f, at + 24, 2, LENGTH)); /* an option of its header */
    CHECK(sound(&f, at + 32, 0, LENGTH));
}

static void test_what_is_judged_inside(void)
{
    struct frame f;
    uint32_t at = make(&f, 0, 6, 58);

    CHECK(!sound(&f, at + 8, 2, LENGTH)); /* the target of neighbour discovery */
    at = make(&f, 0, 4, 1);
    CHECK(!sound(&f, at + 8 + 12, 2, LENGTH)); /* the addresses that an error quotes */
    at = make(&f, 0, 4, 17);
    f.byte[DP_VNET_HEADER + at + 3] = 67;
    CHECK(!sound(&f, at + 8, 0, LENGTH)); /* the operation of DHCP */
    CHECK(sound(&f, at, 6, LENGTH));
    at = make(&f, 0, 4, 112);
    CHECK(!sound(&f, at, 6, LENGTH));
}

static void test_what_has_no_transport_header(void)
{
    struct frame f;
    uint32_t at = make(&f, 0, 4, 17);

    f.byte[DP_VNET_HEADER + MACS + 1] = 6; /* ARP */
    CHECK(!sound(&f, at, 6, LENGTH));
    at = make(&f, 0, 4, 17);
    f.byte[DP_VNET_HEADER + 14 + 7] = 1; /* a later fragment */
    CHECK(!sound(&f, at, 6, LENGTH));
    at = make(&f, 0, 6, 44);
    CHECK(!sound(&f, at + 8, 6, LENGTH));
    at = make(&f, 0, 6, 0);
    f.byte[DP_VNET_HEADER + at] = 17; /* options from hop to hop before UDP */
    CHECK(sound(&f, at + 8, 6, LENGTH));
    CHECK(!sound(&f, at + 8, 0, LENGTH));
    make(&f, 3, 4, 17);
    CHECK(!sound(&f, 46, 6, LENGTH));
}

static void test_bounds(void)
{
    for (uint32_t length = 14; length < LENGTH; length++) {
        for (uint8_t family = 4; family <= 6; family += 2) {
            struct frame f;
            uint32_t at = make(&f, 0, family, 6);

            CHECK_EQUAL(sound(&f, at, 16, length), length >= at + 20);
        }
    }
    struct frame f;
    make(&f, 0, 4, 6);
    CHECK(!sound(&f, 65535, 65535, LENGTH));
    f.byte[0] = 0;
    CHECK(dp_offload_is_sound(f.byte, LENGTH));
}

int main(void)
{
    RUN(test_its_own_checksum);
    RUN(test_what_a_tunnel_carries);
    RUN(test_what_is_judged_inside);
    RUN(test_what_has_no_transport_header);
    RUN(test_bounds);
    return check_result("test_offload");
}
