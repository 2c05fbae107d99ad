/* address_text.c: addresses as text. An IPv4 address costs four copies of fixed size, whatever is in it. */
#include "address_text.h"

#include <string.h>

/* A byte in decimal with a dot behind it; `length` counts the dot. */
struct octet {
    char text[4];
    uint8_t length;
};

/* clang-format off */
#define ONE(c)      {{c, '.'}, 2}
#define TWO(b, c)   {{b, c, '.'}, 3}
#define THREE(a, b, c) {{a, b, c, '.'}, 4}
#define TEN(b)      TWO(b, '0'), TWO(b, '1'), TWO(b, '2'), TWO(b, '3'), TWO(b, '4'), \
                    TWO(b, '5'), TWO(b, '6'), TWO(b, '7'), TWO(b, '8'), TWO(b, '9')
#define FIVE_OF(a, b) THREE(a, b, '0'), THREE(a, b, '1'), THREE(a, b, '2'), THREE(a, b, '3'), THREE(a, b, '4')
#define TEN_OF(a, b) FIVE_OF(a, b), THREE(a, b, '5'), THREE(a, b, '6'), THREE(a, b, '7'), THREE(a, b, '8'), \
                    THREE(a, b, '9')
static const struct octet octets[256] = {
    ONE('0'), ONE('1'), ONE('2'), ONE('3'), ONE('4'), ONE('5'), ONE('6'), ONE('7'), ONE('8'), ONE('9'),
    TEN('1'), TEN('2'), TEN('3'), TEN('4'), TEN('5'), TEN('6'), TEN('7'), TEN('8'), TEN('9'),
    TEN_OF('1', '0'), TEN_OF('1', '1'), TEN_OF('1', '2'), TEN_OF('1', '3'), TEN_OF('1', '4'),
    TEN_OF('1', '5'), TEN_OF('1', '6'), TEN_OF('1', '7'), TEN_OF('1', '8'), TEN_OF('1', '9'),
    TEN_OF('2', '0'), TEN_OF('2', '1'), TEN_OF('2', '2'), TEN_OF('2', '3'), TEN_OF('2', '4'),
    FIVE_OF('2', '5'), THREE('2', '5', '5'),
};
/* clang-format on */

char *dp_ipv4_text(char *at, const uint8_t address[4])
{
    for (int i = 0; i < 4; i++) {
        memcpy(at, octets[address[i]].text, sizeof octets[0].text);
        at += octets[address[i]].length;
    }
    return at - 1;
}

static char *hex(char *at, uint32_t value)
{
    static const char digits[] = "0123456789abcdef";

    if (value > 0xfff)
        *at++ = digits[value >> 12];
    if (value > 0xff)
        *at++ = digits[value >> 8 & 15];
    if (value > 0xf)
        *at++ = digits[value >> 4 & 15];
    *at++ = digits[value & 15];
    return at;
}

char *dp_ipv6_text(char *at, const uint8_t address[16])
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    uint32_t word[8];
    int first = 8, run = 1;

    if (memcmp(address, mapped, sizeof mapped) == 0) {
        memcpy(at, "::ffff:", 7);
        return dp_ipv4_text(at + 7, address + 12);
    }
    for (int i = 0; i < 8; i++)
        word[i] = (uint32_t)address[2 * i] << 8 | address[2 * i + 1];
    /* The first longest run of two zeros or more is left out. */
    for (int i = 0, length; i < 8; i += length + 1) {
        for (length = 0; i + length < 8 && word[i + length] == 0; length++)
            ;
        if (length > run) {
            first = i;
            run = length;
        }
    }
    for (int i = 0; i < 8; i++) {
        if (i == first) {
            *at++ = ':';
            *at++ = ':';
            i += run - 1;
        } else {
            if (i && i != first + run)
                *at++ = ':';
            at = hex(at, word[i]);
        }
    }
    return at;
}
