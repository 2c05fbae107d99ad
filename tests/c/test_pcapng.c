/* test_pcapng.c: the pcapng reader (SPEC 7), by the sections of draft-ietf-opsawg-pcapng. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include "capture_bytes.h"

#define S UINT64_C(1000000000)

__extension__ typedef unsigned __int128 wide;

static struct reading reading;

/* Each section has its own byte order and begins with no interface. */
static void sections_and_interfaces(void)
{
    struct bytes bytes = {0};
    put_section(&bytes, 1, 0);
    put_interface(&bytes, 1, 0, -1, 0);
    put_interface(&bytes, 101, 0, 9, 0);
    put_enhanced(&bytes, 0, 1000000, 61, 100);
    put_enhanced(&bytes, 1, 2000000001, 62, 100);
    bytes.swapped = true;
    put_section(&bytes, 1, 2);
    put_interface(&bytes, 276, 0, -1, 0);
    put_enhanced(&bytes, 0, 3000000, 63, 10);
    size_t at = put_enhanced(&bytes, 1, 3000000, 60, 60);
    read_capture(&bytes, &reading);
    CHECK_EQUAL(reading.n, 3);
    CHECK_PACKET(&reading, 0, S, 61, 100);
    CHECK_PACKET(&reading, 1, 2 * S + 1, 62, 100);
    CHECK_PACKET(&reading, 2, 3 * S, 63, 63);
    CHECK_EQUAL(reading.packets[0].link, DP_LINK_ETHERNET);
    CHECK_EQUAL(reading.packets[1].link, DP_LINK_RAW);
    CHECK_EQUAL(reading.packets[2].link, DP_LINK_SLL2);
    CHECK_EQUAL(reading.status.sections, 2);
    CHECK_EQUAL(reading.status.interfaces, 3);
    CHECK_EQUAL(reading.status.link_type, 1);
    CHECK_EQUAL(reading.status.format, DP_CAPTURE_PCAPNG);
    CHECK_FAULT(&reading, DP_E_FORMAT, at, "a packet names interface 1, but its section has described 1");
}

static void put_named(struct bytes *bytes, const char *name, const char *description)
{
    size_t at = block_begin(bytes, 1);
    put16(bytes, 1);
    put16(bytes, 0);
    put32(bytes, 0);
    put_option(bytes, 2, name, (uint16_t)strlen(name));
    put_option(bytes, 3, description, (uint16_t)strlen(description));
    put32(bytes, 0);
    block_end(bytes, at);
}

/* A section that dataplane wrote, or somebody else. */
static void put_section_of(struct bytes *bytes, const char *application)
{
    size_t at = block_begin(bytes, 0x0a0d0d0a);
    put32(bytes, 0x1a2b3c4d);
    put16(bytes, 1);
    put16(bytes, 0);
    put64(bytes, UINT64_MAX);
    put_option(bytes, 4, application, (uint16_t)strlen(application));
    block_end(bytes, at);
}

static void put_flagged(struct bytes *bytes, uint32_t interface, uint32_t flags, uint16_t length)
{
    size_t at = block_begin(bytes, 6);
    put32(bytes, interface);
    put64(bytes, 0);
    put32(bytes, 5);
    put32(bytes, 5);
    put_pattern(bytes, 5);
    put_raw(bytes, "\0\0\0", 3);
    put_option(bytes, 1, "a comment", 9);
    put16(bytes, 2);
    put16(bytes, length);
    put32(bytes, flags);
    put32(bytes, 0);
    block_end(bytes, at);
}

/*
 * Interfaces keep their numbers and names beyond their sections, the same in a later one is the same; epb_flags: which
 * way (bits 0 and 1), whether the checksum is to be looked at (bits 9 and 10). Options that cannot be are no fault.
 */
static void names_and_flags(void)
{
    static const struct {
        uint32_t interface, told, flags, number;
        uint16_t length;
    } cases[] = {{0, 1, DP_FRAME_RECEIVED, 1, 4},
                 {1, 2 | 1 << 9, DP_FRAME_SENT | DP_FRAME_CHECKSUM_OFFLOADED, 2, 4},
                 {1, 1 << 10, DP_FRAME_CHECKSUM_OFFLOADED, 2, 4},
                 {0, 3, 0, 1, 4},
                 {0, 1, 0, 1, 5},
                 {0, 1, 0, 1, 60000}};
    for (int swapped = 0; swapped < 2; swapped++) {
        struct bytes bytes = {.swapped = swapped};
        struct dp_capture *capture;
        put_section_of(&bytes, "dataplane 1");
        put_named(&bytes, "tap-a", "instance a");
        put_named(&bytes, "eth0", "uplink");
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
            put_flagged(&bytes, cases[i].interface, cases[i].told, cases[i].length);
        put_section_of(&bytes, "others");
        put_named(&bytes, "tap-a", "instance a");
        put_named(&bytes, "eth0", "uplink");
        put_flagged(&bytes, 0, 1, 4);
        put_flagged(&bytes, 1, 1, 4);
        CHECK_EQUAL(dp_capture_open_memory(bytes.data, bytes.size, &capture), 0);
        dp_capture_fill(capture);
        CHECK_EQUAL(capture->tail, 8);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            CHECK_EQUAL(capture->queue[i].flags, cases[i].flags | DP_FRAME_IN_BLOCK);
            CHECK_EQUAL(capture->queue[i].interface, cases[i].number);
        }
        CHECK_EQUAL(capture->queue[6].interface, 1);
        CHECK_EQUAL(capture->queue[7].interface, 3);
        CHECK_EQUAL(capture->n_interfaces, 3);
        CHECK_EQUAL(strcmp(capture->interface[0].name, "tap-a"), 0);
        CHECK_EQUAL(capture->interface[1].uplink, true);
        CHECK_EQUAL(capture->interface[2].uplink, false);
        CHECK_EQUAL(capture->status.error, 0);
        dp_capture_free(capture);
        clear(&bytes);
    }
}

/* if_tsresol: each value, counted step by step in the other way than the reader does. */
static void every_resolution(void)
{
    static const uint64_t counts[] = {0, 1, 999, 1700000000123456, 1700000000123456789, INT64_MAX};
    for (int resolution = 0; resolution < 256; resolution++) {
        struct bytes bytes = {.swapped = resolution % 3 == 0};
        put_section(&bytes, 1, 0);
        put_interface(&bytes, 1, 0, resolution, 0);
        for (int i = 0; i < 6; i++)
            put_enhanced(&bytes, 0, counts[i], 60, 60);
        read_memory(bytes.data, bytes.size, &reading);
        clear(&bytes);
        CHECK_NO_FAULT(&reading);
        for (int i = 0; i < 6; i++) {
            wide expected = (wide)counts[i] * S;
            for (int step = 0; step < (resolution & 0x7f); step++)
                expected /= resolution & 0x80 ? 2 : 10;
            CHECK_PACKET(&reading, (uint32_t)i, expected > INT64_MAX ? INT64_MAX : (uint64_t)expected, 60, 60);
        }
    }
}

/* if_tsoffset is signed seconds; times saturate to 0 .. INT64_MAX. */
static void offsets_and_saturation(void)
{
    static const struct {
        int resolution;
        int64_t offset;
        uint64_t count;
        uint64_t time_ns;
    } cases[] = {
        {6, 10, 1000000, 11 * S},
        {6, -10, 1000000, 0},
        {6, -10, 11500000, 1500000000},
        {9, INT64_MAX, UINT64_MAX, INT64_MAX},
        {9, INT64_MIN, 1, 0},
        {0, INT64_MIN, UINT64_MAX / 2, 0},
        {0, -1000, 1001, S},
        {0x80, 0, UINT64_MAX / 2, INT64_MAX},
        /* 2^-32 s: counts with the highest bit set are times after January 2038. */
        {0xa0, 0, UINT64_C(0x80000000) << 32, 2147483648 * S},
        /* One microsecond before 1970, and one second, with an offset. */
        {6, 0, UINT64_MAX, 0},
        {6, 10, 0 - UINT64_C(1000000), 9 * S},
        {127, 0, UINT64_MAX, 0},
        {255, 0, UINT64_MAX, 0},
    };
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bytes bytes = {.swapped = i % 2};
        put_section(&bytes, 1, 0);
        put_interface(&bytes, 1, 0, cases[i].resolution, cases[i].offset);
        put_enhanced(&bytes, 0, cases[i].count, 60, 60);
        read_memory(bytes.data, bytes.size, &reading);
        clear(&bytes);
        CHECK_NO_FAULT(&reading);
        if (!CHECK_EQUAL(reading.packets[0].time_ns, cases[i].time_ns))
            fprintf(stderr, "  in case %u\n", i);
    }
}

static size_t put_simple(struct bytes *bytes, uint32_t length, uint32_t held)
{
    size_t at = block_begin(bytes, 3);
    put32(bytes, length);
    put_pattern(bytes, held);
    return block_end(bytes, at);
}

/* A simple packet belongs to the first interface, is cut at its snap length, and has the time of the packet before. */
static void simple_packets(void)
{
    struct bytes bytes = {0};
    put_section(&bytes, 1, 0);
    put_interface(&bytes, 1, 96, -1, 0);
    put_interface(&bytes, 0, 0, -1, 0);
    put_simple(&bytes, 60, 60);
    put_enhanced(&bytes, 1, 7000000, 62, 62);
    put_simple(&bytes, 1514, 96);
    put_simple(&bytes, 0, 0);
    size_t at = put_simple(&bytes, 90, 80);
    read_capture(&bytes, &reading);
    CHECK_PACKET(&reading, 0, 0, 60, 60);
    CHECK_PACKET(&reading, 1, 7 * S, 62, 62);
    CHECK_PACKET(&reading, 2, 7 * S, 96, 1514);
    CHECK_PACKET(&reading, 3, 7 * S, 0, 0);
    CHECK_EQUAL(reading.packets[2].link, DP_LINK_ETHERNET);
    CHECK_EQUAL(reading.n, 4);
    CHECK_FAULT(&reading, DP_E_FORMAT, at, "a packet claims 90 captured bytes, but its block has room for 80");

    /* A snap length of 0 is none. */
    put_section(&bytes, 1, 0);
    put_interface(&bytes, 1, 0, -1, 0);
    put_simple(&bytes, 5000, 5000);
    read_capture(&bytes, &reading);
    CHECK_PACKET(&reading, 0, 0, 5000, 5000);

    put_section(&bytes, 1, 0);
    at = put_simple(&bytes, 60, 60);
    read_capture(&bytes, &reading);
    CHECK_FAULT(&reading, DP_E_FORMAT, at, "names interface 0, but its section has described 0");
}

/* The obsolete packet block has 16 bits of interface and 16 bits of drops. */
static void obsolete_packets(void)
{
    for (int swapped = 0; swapped < 2; swapped++) {
        struct bytes bytes = {.swapped = swapped};
        put_section(&bytes, 1, 0);
        put_interface(&bytes, 1, 0, -1, 0);
        put_interface(&bytes, 113, 0, -1, 0);
        size_t at = block_begin(&bytes, 2);
        put16(&bytes, 1);
        put16(&bytes, 0xffff);
        put32(&bytes, 1);
        put32(&bytes, 5);
        put32(&bytes, 61);
        put32(&bytes, 1500);
        put_pattern(&bytes, 61);
        put_option(&bytes, 2, "\1\2\3\4", 4);
        block_end(&bytes, at);
        read_capture(&bytes, &reading);
        CHECK_NO_FAULT(&reading);
        CHECK_PACKET(&reading, 0, 4294967301000, 61, 1500);
        CHECK_EQUAL(reading.packets[0].link, DP_LINK_SLL);
    }
}

/* Name resolution, statistics, journal, secrets, custom blocks and unknown ones, before and after packets. */
static void other_blocks_are_skipped(void)
{
    static const uint32_t types[] = {0, 4, 5, 7, 9, 10, 0xbad, 0x40000bad, 0x80000001, UINT32_MAX};
    struct bytes bytes = {0};
    put_section(&bytes, 1, 0);
    put_interface(&bytes, 1, 0, -1, 0);
    for (uint32_t i = 0; i < 10; i++) {
        size_t at = block_begin(&bytes, types[i]);
        put_pattern(&bytes, i * 4);
        block_end(&bytes, at);
        put_enhanced(&bytes, 0, i, 60 + i, 60 + i);
    }
    read_capture(&bytes, &reading);
    CHECK_NO_FAULT(&reading);
    CHECK_EQUAL(reading.n, 10);
    CHECK_PACKET(&reading, 9, 9000, 69, 69);
}

static void interface_with(struct bytes *bytes, uint16_t code, uint16_t claimed, uint16_t held)
{
    put_section(bytes, 1, 0);
    size_t at = block_begin(bytes, 1);
    put32(bytes, 1);
    put32(bytes, 0);
    put_option(bytes, 2, "eth0", 4);
    put16(bytes, code);
    put16(bytes, claimed);
    put_raw(bytes, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", held);
    block_end(bytes, at);
    put_enhanced(bytes, 0, 1000000, 60, 60);
}

static void options_are_checked(void)
{
    /* A section header of 28 bytes, the interface's fixed part and the option before: the option stands at 52. */
    enum { OPTION_AT = 28 + 16 + 8 };
    struct bytes bytes = {0};
    interface_with(&bytes, 3, 0xffff, 8);
    read_capture(&bytes, &reading);
    CHECK_FAULT(&reading, DP_E_FORMAT, OPTION_AT, "option 3 claims 65535 bytes, but its block has 8 left");
    interface_with(&bytes, 3, 9, 8);
    read_capture(&bytes, &reading);
    CHECK_FAULT(&reading, DP_E_FORMAT, OPTION_AT, "option 3 claims 9 bytes, but its block has 8 left");
    interface_with(&bytes, 9, 2, 4);
    read_capture(&bytes, &reading);
    CHECK_FAULT(&reading, DP_E_FORMAT, OPTION_AT, "option 9 has 2 bytes instead of 1");
    interface_with(&bytes, 14, 4, 4);
    read_capture(&bytes, &reading);
    CHECK_FAULT(&reading, DP_E_FORMAT, OPTION_AT, "option 14 has 4 bytes instead of 8");
    /* The list may end with the block, and what follows the end of options is not read. */
    interface_with(&bytes, 3, 8, 8);
    read_capture(&bytes, &reading);
    CHECK_NO_FAULT(&reading);
    CHECK_EQUAL(reading.n, 1);
    interface_with(&bytes, 0, 0xffff, 8);
    read_capture(&bytes, &reading);
    CHECK_NO_FAULT(&reading);
    CHECK_EQUAL(reading.n, 1);

    size_t at = block_begin(&bytes, 0x0a0d0d0a);
    put32(&bytes, 0x1a2b3c4d);
    put16(&bytes, 1);
    put16(&bytes, 0);
    put64(&bytes, UINT64_MAX);
    put16(&bytes, 4);
    put16(&bytes, 12336);
    put64(&bytes, 0);
    block_end(&bytes, at);
    read_capture(&bytes, &reading);
    CHECK_FAULT(&reading, DP_E_FORMAT, 24, "option 4 claims 12336 bytes, but its block has 8 left");
}

/* A file with a damaged second packet: the first is delivered, the fault is at the second's block. */
static void damaged_block(uint32_t length, uint32_t closing, const char *words)
{
    struct bytes bytes = {0};
    put_section(&bytes, 1, 0);
    put_interface(&bytes, 1, 0, -1, 0);
    put_enhanced(&bytes, 0, 0, 60, 60);
    size_t at = put_enhanced(&bytes, 0, 0, 60, 60);
    set32(&bytes, at + 4, length);
    set32(&bytes, bytes.size - 4, closing);
    read_capture(&bytes, &reading);
    CHECK_EQUAL(reading.n, 1);
    CHECK_FAULT(&reading, DP_E_FORMAT, at, words);
}

static void block_lengths(void)
{
    damaged_block(92, 88, "a block begins with length 92 but ends with 88");
    damaged_block(88, 92, "a block begins with length 88 but ends with ");
    damaged_block(91, 91, "a block of type 6 claims 91 bytes (a multiple of 4 from 32 to 16842752 is allowed)");
    damaged_block(28, 92, "claims 28 bytes");
    damaged_block(0, 0, "claims 0 bytes");
    damaged_block(16842756, 92, "claims 16842756 bytes");
    damaged_block(UINT32_MAX - 3, 92, "claims 4294967292 bytes");
}

static void captured_beyond_block(void)
{
    static const uint32_t claims[] = {61, 1500, UINT32_MAX};
    for (int i = 0; i < 3; i++) {
        struct bytes bytes = {0};
        put_section(&bytes, 1, 0);
        put_interface(&bytes, 1, 0, -1, 0);
        size_t at = put_enhanced(&bytes, 0, 0, 60, 60);
        set32(&bytes, at + 20, claims[i]);
        read_capture(&bytes, &reading);
        CHECK_FAULT(&reading, DP_E_FORMAT, at, "captured bytes, but its block has room for 60");
    }
}

/* Packets of an unknown link type are delivered as such, counted by type, and do no harm to the others. */
static void unknown_link_types(void)
{
    struct bytes bytes = {0};
    put_section(&bytes, 1, 0);
    put_interface(&bytes, 1, 0, -1, 0);
    for (uint32_t i = 0; i < 10; i++)
        put_interface(&bytes, 300 + i, 0, -1, 0);
    put_interface(&bytes, 300, 0, -1, 0);
    for (uint32_t i = 0; i < 12; i++)
        put_enhanced(&bytes, i, 0, 60, 60);
    put_enhanced(&bytes, 0, 0, 60, 60);
    read_capture(&bytes, &reading);
    CHECK_NO_FAULT(&reading);
    CHECK_EQUAL(reading.n, 13);
    CHECK_EQUAL(reading.packets[0].link, DP_LINK_ETHERNET);
    CHECK_EQUAL(reading.packets[1].link, DP_LINKS);
    CHECK_EQUAL(reading.packets[12].link, DP_LINK_ETHERNET);
    CHECK_EQUAL(reading.status.n_strange, DP_STRANGE_LINKS);
    CHECK_EQUAL(reading.status.strange[0].link_type, 300);
    CHECK_EQUAL(reading.status.strange[0].packets, 2);
    CHECK_EQUAL(reading.status.strange[7].packets, 3);
}

static void section_headers(void)
{
    struct bytes bytes = {0};
    put_section(&bytes, 1, 0);
    put_section(&bytes, 2, 0);
    read_capture(&bytes, &reading);
    CHECK_FAULT(&reading, DP_E_FORMAT, 28 + 12, "pcapng version 2.0 is not supported");
    put_section(&bytes, 1, 1);
    read_capture(&bytes, &reading);
    CHECK_FAULT(&reading, DP_E_FORMAT, 12, "pcapng version 1.1 is not supported");
    put_section(&bytes, 1, 0);
    size_t at = put_section(&bytes, 1, 0);
    set32(&bytes, at + 8, 0x11223344);
    read_capture(&bytes, &reading);
    CHECK_FAULT(&reading, DP_E_FORMAT, at + 8, "a section has no byte-order magic number: 44 33 22 11");
}

/* More packets than one queue holds, over several sections, with options in the section headers. */
static void long_capture(void)
{
    struct bytes bytes = {0};
    for (uint32_t section = 0; section < 3; section++) {
        bytes.swapped = section == 1;
        size_t at = block_begin(&bytes, 0x0a0d0d0a);
        put32(&bytes, 0x1a2b3c4d);
        put16(&bytes, 1);
        put16(&bytes, 0);
        put64(&bytes, UINT64_MAX);
        put_option(&bytes, 4, "dumpcap", 7);
        put32(&bytes, 0);
        block_end(&bytes, at);
        put_interface(&bytes, 1, 0, 9, 0);
        for (uint32_t i = 0; i < 700; i++)
            put_enhanced(&bytes, 0, section * 700 + i, i, i);
    }
    read_capture(&bytes, &reading);
    CHECK_NO_FAULT(&reading);
    CHECK_EQUAL(reading.n, 2100);
    for (uint32_t i = 0; i < 2100; i++)
        CHECK_PACKET(&reading, i, i, i % 700, i % 700);
}

static void too_many_interfaces(void)
{
    struct bytes bytes = {0};
    size_t at = 0;
    put_section(&bytes, 1, 0);
    for (int i = 0; i <= 65536; i++)
        at = put_interface(&bytes, 1, 0, -1, 0);
    put_enhanced(&bytes, 0, 0, 60, 60);
    read_memory(bytes.data, bytes.size, &reading);
    clear(&bytes);
    CHECK_FAULT(&reading, DP_E_LIMIT, at, "a section has more than 65536 interfaces");
    CHECK_EQUAL(reading.n, 0);
}

static void truncation_at_every_byte(void)
{
    struct bytes bytes = {0};
    size_t ends[6] = {0};
    put_section(&bytes, 1, 0);
    ends[1] = bytes.size;
    put_interface(&bytes, 1, 0, 9, 5);
    ends[2] = bytes.size;
    put_enhanced(&bytes, 0, 0, 13, 60);
    ends[3] = bytes.size;
    put_simple(&bytes, 6, 6);
    ends[4] = bytes.size;
    bytes.swapped = true;
    put_section(&bytes, 1, 0);
    ends[5] = bytes.size;
    for (size_t size = 4; size <= bytes.size; size++) {
        struct bytes cut = {0};
        int whole = 0;
        put_raw(&cut, bytes.data, size);
        read_capture(&cut, &reading);
        while (whole < 5 && ends[whole + 1] <= size)
            whole++;
        CHECK_EQUAL(reading.n, whole >= 4 ? 2 : whole == 3);
        if (size == ends[whole])
            CHECK_NO_FAULT(&reading);
        else
            CHECK_FAULT(&reading, DP_E_TRUNCATED, ends[whole], "the block is cut short");
    }
    clear(&bytes);
}

int main(void)
{
    RUN(sections_and_interfaces);
    RUN(names_and_flags);
    RUN(every_resolution);
    RUN(offsets_and_saturation);
    RUN(simple_packets);
    RUN(obsolete_packets);
    RUN(other_blocks_are_skipped);
    RUN(options_are_checked);
    RUN(block_lengths);
    RUN(captured_beyond_block);
    RUN(unknown_link_types);
    RUN(section_headers);
    RUN(long_capture);
    RUN(too_many_interfaces);
    RUN(truncation_at_every_byte);
    return check_result("test_pcapng");
}
