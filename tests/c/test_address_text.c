/* test_address_text.c: addresses as text, beside inet_ntop. */
#include "../../csrc/io/address_text.h"
#include "check.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

/* The text with a zero behind it; the room is exactly what the header asks for. */
static const char *text_of(const uint8_t *address, int family)
{
    static char kept[DP_ADDRESS_TEXT_MAX + 1];
    char *room = malloc(DP_ADDRESS_TEXT_MAX);
    char *end = family == AF_INET ? dp_ipv4_text(room, address) : dp_ipv6_text(room, address);

    memcpy(kept, room, (size_t)(end - room));
    kept[end - room] = 0;
    free(room);
    return kept;
}

static void compare(const uint8_t *address, int family)
{
    char expected[INET6_ADDRSTRLEN];

    inet_ntop(family, address, expected, sizeof expected);
    CHECK_TEXT(text_of(address, family), expected);
}

static void every_byte_at_every_place(void)
{
    for (uint32_t place = 0; place < 4; place++) {
        for (uint32_t byte = 0; byte < 256; byte++) {
            uint8_t address[4] = {10, 20, 30, 40};

            address[place] = (uint8_t)byte;
            compare(address, AF_INET);
        }
    }
}

static void every_word(void)
{
    for (uint32_t word = 0; word <= 0xffff; word++) {
        uint8_t address[16] = {0x20, 0x01, (uint8_t)(word >> 8), (uint8_t)word, [15] = 1};

        compare(address, AF_INET6);
    }
}

/* RFC 5952: each pattern of zero words, with words of each length between them. */
static void every_pattern_of_zeros(void)
{
    static const uint16_t words[] = {0x1, 0x20, 0x300, 0x4000, 0xffff, 0xa0b, 0xc, 0xde};

    for (uint32_t pattern = 0; pattern < 256; pattern++) {
        uint8_t address[16] = {0};

        for (uint32_t i = 0; i < 8; i++) {
            if (pattern >> i & 1) {
                address[2 * i] = (uint8_t)(words[i] >> 8);
                address[2 * i + 1] = (uint8_t)words[i];
            }
        }
        /* inet_ntop writes ::/96 as IPv4 (RFC 4291, 2.5.5.1, deprecated), which RFC 5952 does not. */
        if (pattern & 0x3f)
            compare(address, AF_INET6);
    }
}

static void what_holds_ipv4(void)
{
    static const uint8_t mapped[16] = {[10] = 0xff, [11] = 0xff, [12] = 255, [13] = 255, [14] = 255, [15] = 255};
    static const uint8_t compatible[16] = {[12] = 1, [13] = 2, [14] = 3, [15] = 4};
    static const uint8_t nothing[16], loopback[16] = {[15] = 1};

    CHECK_TEXT(text_of(mapped, AF_INET6), "::ffff:255.255.255.255");
    CHECK_TEXT(text_of(compatible, AF_INET6), "::102:304");
    CHECK_TEXT(text_of(nothing, AF_INET6), "::");
    CHECK_TEXT(text_of(loopback, AF_INET6), "::1");
}

int main(void)
{
    RUN(every_byte_at_every_place);
    RUN(every_word);
    RUN(every_pattern_of_zeros);
    RUN(what_holds_ipv4);
    return check_result("test_address_text");
}
