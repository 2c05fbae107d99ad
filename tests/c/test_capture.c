/* test_capture.c: captures in general and the pcap reader (SPEC 7: µs and ns, either byte order, faults by offset). */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include "capture_bytes.h"

#define MAGIC_MICRO UINT32_C(0xa1b2c3d4)
#define MAGIC_NANO UINT32_C(0xa1b23c4d)
#define MAGIC_LONG UINT32_C(0xa1b2cd34)
#define S UINT64_C(1000000000)

enum { HEADER = 24 };

static struct reading reading;

static void read_to_end_of(struct dp_capture *capture, struct dp_capture_status *status)
{
    do {
        dp_capture_fill(capture);
    } while (capture->tail);
    dp_capture_status(capture, status);
}

static void every_magic_number_in_either_byte_order(void)
{
    static const struct {
        uint32_t magic;
        uint32_t fraction_ns;
    } kinds[] = {{MAGIC_MICRO, 1000}, {MAGIC_NANO, 1}, {MAGIC_LONG, 1000}};
    for (int i = 0; i < 6; i++) {
        struct bytes bytes = {.swapped = i % 2};
        uint32_t magic = kinds[i / 2].magic;
        pcap_file(&bytes, magic, 4, 1);
        for (uint32_t packet = 0; packet < 2; packet++) {
            put32(&bytes, 1700000000);
            put32(&bytes, 999999);
            put32(&bytes, 60 + packet);
            put32(&bytes, 1500);
            if (magic == MAGIC_LONG)
                put64(&bytes, UINT64_MAX);
            put_pattern(&bytes, 60 + packet);
        }
        read_capture(&bytes, &reading);
        CHECK_NO_FAULT(&reading);
        CHECK_EQUAL(reading.n, 2);
        uint64_t time = 1700000000 * S + UINT64_C(999999) * kinds[i / 2].fraction_ns;
        CHECK_PACKET(&reading, 0, time, 60, 1500);
        CHECK_PACKET(&reading, 1, time, 61, 1500);
        CHECK_EQUAL(reading.status.format, DP_CAPTURE_PCAP);
        CHECK_EQUAL(reading.status.bytes, 3000);
    }
}

static void versions(void)
{
    struct bytes bytes = {0};
    for (uint16_t minor = 0; minor <= 5; minor++) {
        pcap_file(&bytes, MAGIC_MICRO, minor, 1);
        pcap_record(&bytes, 1, 0, 60, 90);
        /* Up to 2.2 the lengths stand the other way round. */
        if (minor <= 2) {
            set32(&bytes, HEADER + 8, 90);
            set32(&bytes, HEADER + 12, 60);
        }
        read_capture(&bytes, &reading);
        CHECK_NO_FAULT(&reading);
        CHECK_PACKET(&reading, 0, S, 60, 90);
    }
    /* In 2.3 either way is met. */
    pcap_file(&bytes, MAGIC_MICRO, 3, 1);
    pcap_record(&bytes, 1, 0, 60, 90);
    set32(&bytes, HEADER + 8, 90);
    set32(&bytes, HEADER + 12, 60);
    read_capture(&bytes, &reading);
    CHECK_PACKET(&reading, 0, S, 60, 90);

    static const uint16_t majors[] = {0, 1, 3, 543};
    for (int i = 0; i < 4; i++) {
        pcap_file(&bytes, MAGIC_MICRO, 4, 1);
        memcpy(bytes.data + 4, &majors[i], 2);
        pcap_record(&bytes, 1, 0, 60, 90);
        read_capture(&bytes, &reading);
        CHECK_EQUAL(reading.n, 0);
        CHECK_FAULT(&reading, DP_E_FORMAT, 4, "is not supported");
    }
}

static void link_types(void)
{
    static const struct {
        uint32_t link_type;
        int link;
    } known[] = {{1, DP_LINK_ETHERNET},
                 {0x30000001, DP_LINK_ETHERNET},
                 {0xffff0001, DP_LINK_ETHERNET},
                 {12, DP_LINK_RAW},
                 {14, DP_LINK_RAW},
                 {101, DP_LINK_RAW},
                 {228, DP_LINK_RAW},
                 {229, DP_LINK_RAW},
                 {0, DP_LINK_NULL},
                 {108, DP_LINK_LOOP},
                 {113, DP_LINK_SLL},
                 {276, DP_LINK_SLL2},
                 {9, DP_LINK_PPP},
                 {50, DP_LINK_PPP},
                 {166, DP_LINK_PPP},
                 {204, DP_LINK_PPP},
                 {51, DP_LINK_PPPOE},
                 {104, DP_LINK_CISCO_HDLC},
                 {239, DP_LINK_NFLOG},
                 {149, DP_LINK_PKTAP},
                 {258, DP_LINK_PKTAP}};
    struct bytes bytes = {0};
    for (uint32_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        pcap_file(&bytes, MAGIC_MICRO, 4, known[i].link_type);
        pcap_record(&bytes, 1, 0, 60, 60);
        read_capture(&bytes, &reading);
        CHECK_NO_FAULT(&reading);
        CHECK_EQUAL(reading.packets[0].link, known[i].link);
        CHECK_EQUAL(reading.status.link_type, known[i].link_type & 0xffff);
    }
    /* Packets of any other are delivered, as no IP, and counted. */
    static const uint32_t unknown[] = {2, 105, 227, 230, 231, 277, 0xffff};
    for (uint32_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        pcap_file(&bytes, MAGIC_MICRO, 4, unknown[i]);
        for (uint32_t packets = 0; packets < 300; packets++)
            pcap_record(&bytes, 1, 0, 60, 60);
        read_capture(&bytes, &reading);
        CHECK_NO_FAULT(&reading);
        CHECK_EQUAL(reading.n, 300);
        CHECK_EQUAL(reading.packets[299].link, DP_LINKS);
        CHECK_EQUAL(reading.status.n_strange, 1);
        CHECK_EQUAL(reading.status.strange[0].link_type, unknown[i]);
        CHECK_EQUAL(reading.status.strange[0].packets, 300);
    }
}

static void absurd_captured_length(void)
{
    struct bytes bytes = {0};
    pcap_file(&bytes, MAGIC_MICRO, 4, 1);
    pcap_record(&bytes, 1, 0, 60, 60);
    size_t at = bytes.size;
    pcap_record(&bytes, 2, 0, 60, 60);
    set32(&bytes, at + 8, DP_FRAME_MAX + 1);
    read_capture(&bytes, &reading);
    CHECK_EQUAL(reading.n, 1);
    CHECK_FAULT(&reading, DP_E_FORMAT, at, "a packet record claims 16777217 captured bytes");
    CHECK_EQUAL(reading.status.position, at);

    pcap_file(&bytes, MAGIC_MICRO, 4, 1);
    pcap_record(&bytes, 1, 0, DP_FRAME_MAX, DP_FRAME_MAX);
    read_memory(bytes.data, bytes.size, &reading);
    CHECK_NO_FAULT(&reading);
    CHECK_PACKET(&reading, 0, S, DP_FRAME_MAX, DP_FRAME_MAX);
    clear(&bytes);
}

/* A capture cut anywhere delivers the whole records before the cut and tells the offset of the one that is not whole.
 */
static void truncation_at_every_byte(void)
{
    struct bytes bytes = {0};
    size_t ends[4] = {HEADER};
    pcap_file(&bytes, MAGIC_MICRO, 4, 1);
    for (uint32_t i = 0; i < 3; i++) {
        pcap_record(&bytes, i, 0, 20 * i, 60);
        ends[i + 1] = bytes.size;
    }
    for (size_t size = 0; size <= bytes.size; size++) {
        struct bytes cut = {0};
        uint32_t whole = 0;
        put_raw(&cut, bytes.data, size);
        read_capture(&cut, &reading);
        while (whole < 3 && ends[whole + 1] <= size)
            whole++;
        CHECK_EQUAL(reading.n, size < HEADER ? 0 : whole);
        if (size == 0)
            CHECK_FAULT(&reading, DP_E_TRUNCATED, 0, "the file is empty");
        else if (size < HEADER)
            CHECK_FAULT(&reading, DP_E_TRUNCATED, 0, "the file header is cut short");
        else if (size == ends[whole])
            CHECK_NO_FAULT(&reading);
        else
            CHECK_FAULT(&reading, DP_E_TRUNCATED, ends[whole], "the packet record is cut short");
    }
    clear(&bytes);
}

static void other_formats(void)
{
    static const struct {
        const char *first;
        const char *words;
    } files[] = {{"\x1f\x8b\x08\x01garbage", "bytes 1f 8b 08 01, which is neither pcap nor pcapng"},
                 {"# policy", "bytes 23 20 70 6f, which is neither pcap nor pcapng"}};
    for (int i = 0; i < 2; i++) {
        struct bytes bytes = {0};
        put_raw(&bytes, files[i].first, strlen(files[i].first));
        read_capture(&bytes, &reading);
        CHECK_EQUAL(reading.n, 0);
        CHECK_FAULT(&reading, DP_E_FORMAT, 0, files[i].words);
        CHECK_EQUAL(reading.status.format, DP_CAPTURE_UNKNOWN);
    }
}

static void times_and_lengths_at_their_bounds(void)
{
    struct bytes bytes = {0};
    pcap_file(&bytes, MAGIC_MICRO, 4, 1);
    pcap_record(&bytes, 5, 1000000, 60, 60);
    pcap_record(&bytes, 0x80000000, 0, 60, 60);
    pcap_record(&bytes, UINT32_MAX, UINT32_MAX, 60, 59);
    pcap_record(&bytes, 0, 0, 0, UINT32_MAX);
    read_capture(&bytes, &reading);
    CHECK_NO_FAULT(&reading);
    CHECK_PACKET(&reading, 0, 6 * S, 60, 60);
    CHECK_PACKET(&reading, 1, 2147483648 * S, 60, 60);
    CHECK_PACKET(&reading, 2, 4294967295 * S + 4294967295000, 60, 60);
    CHECK_PACKET(&reading, 3, 0, 0, UINT32_MAX);
}

/* More than one queue, more than one buffer, and records larger than the buffer. */
static void long_captures(void)
{
    struct bytes bytes = {0};
    pcap_file(&bytes, MAGIC_NANO, 4, 1);
    for (uint32_t i = 0; i < 3000; i++)
        pcap_record(&bytes, i, i, i % 1001 == 1000 ? 700000 : i % 1500, 700000);
    read_capture(&bytes, &reading);
    CHECK_NO_FAULT(&reading);
    CHECK_EQUAL(reading.n, 3000);
    for (uint32_t i = 0; i < 3000; i++)
        CHECK_PACKET(&reading, i, i * S + i, i % 1001 == 1000 ? 700000 : i % 1500, 700000);
}

/* A file that somebody changes while it is read is a fault with its place, never a signal. */
static void files_changed_while_read(void)
{
    static const struct {
        int64_t size;
        const char *words;
    } changes[] = {{0, "cut short while it was read"},
                   {5000000, "cut short while it was read"},
                   {24 + 200 * 30016, "cut short while it was read"},
                   {-1, "changed while it was read"}};
    for (int i = 0; i < 8; i++) {
        struct bytes bytes = {0};
        struct dp_capture *capture;
        char path[64];
        pcap_file(&bytes, MAGIC_MICRO, 4, 1);
        for (uint32_t k = 0; k < 400; k++)
            pcap_record(&bytes, k, 0, 30000, 30000);
        int fd = make_file(bytes.data, bytes.size);
        (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        CHECK_EQUAL(dp_capture_open(fd, i % 2 ? path : NULL, &capture), 0);
        dp_capture_fill(capture);
        CHECK(capture->tail > 0 && capture->tail < 100);
        (void)usleep(20000);
        if (changes[i / 2].size < 0)
            CHECK_EQUAL(pwrite(fd, bytes.data, 100, 30000), 100);
        else
            CHECK_EQUAL(ftruncate(fd, changes[i / 2].size), 0);
        read_to_end_of(capture, &reading.status);
        CHECK(reading.status.error != 0);
        CHECK(strstr(reading.status.detail, changes[i / 2].words) != NULL);
        CHECK(reading.status.offset <= bytes.size);
        dp_capture_free(capture);
        close(fd);
        clear(&bytes);
    }
}

/* One that only grows is still being written: what is there is read, and that is no fault. */
static void file_that_grows(void)
{
    struct bytes bytes = {0};
    struct dp_capture *capture;
    pcap_file(&bytes, MAGIC_MICRO, 4, 1);
    for (uint32_t k = 0; k < 400; k++)
        pcap_record(&bytes, k, 0, 3000, 3000);
    int fd = make_file(bytes.data, bytes.size / 400 * 200);
    CHECK_EQUAL(dp_capture_open(fd, NULL, &capture), 0);
    dp_capture_fill(capture);
    (void)usleep(20000);
    CHECK_EQUAL(pwrite(fd, bytes.data, bytes.size, 0), (int64_t)bytes.size);
    read_to_end_of(capture, &reading.status);
    CHECK_NO_FAULT(&reading);
    CHECK_EQUAL(reading.status.packets, 400);
    dp_capture_free(capture);
    close(fd);
    clear(&bytes);
}

/* Back to the beginning, everything is found again. */
static void rewinding(void)
{
    struct bytes bytes = {0};
    struct dp_capture *capture;
    pcap_file(&bytes, MAGIC_MICRO, 4, 1);
    for (uint32_t k = 0; k < 600; k++)
        pcap_record(&bytes, k, 0, 100, 100);
    struct food food = {bytes.data, bytes.size, 1000};
    CHECK_EQUAL(dp_capture_open_fed(0, &capture), 0);
    CHECK(!dp_capture_rewind(capture));
    dp_capture_free(capture);
    CHECK_EQUAL(dp_capture_open_fed(1, &capture), 0);
    feed(capture, &food);
    dp_capture_fill(capture);
    CHECK(capture->tail > 0);
    CHECK(dp_capture_rewind(capture));
    CHECK_EQUAL(dp_capture_wanted(capture), 0);
    read_to_end(capture, &food, &reading);
    CHECK_NO_FAULT(&reading);
    CHECK_EQUAL(reading.n, 600);
    clear(&bytes);
}

static void reading_errors(void)
{
    read_fd(open("/", O_RDONLY), NULL, &reading);
    CHECK_FAULT(&reading, DP_E_IO, 0, "reading failed: Is a directory");
    struct dp_capture *capture;
    CHECK_EQUAL(dp_capture_open(-1, NULL, &capture), 0);
    read_to_end(capture, NULL, &reading);
    CHECK_FAULT(&reading, DP_E_IO, 0, "reading failed: Bad file descriptor");
}

int main(void)
{
    RUN(every_magic_number_in_either_byte_order);
    RUN(versions);
    RUN(link_types);
    RUN(absurd_captured_length);
    RUN(truncation_at_every_byte);
    RUN(other_formats);
    RUN(times_and_lengths_at_their_bounds);
    RUN(long_captures);
    RUN(files_changed_while_read);
    RUN(file_that_grows);
    RUN(rewinding);
    RUN(reading_errors);
    return check_result("test_capture");
}
