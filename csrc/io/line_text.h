/*
 * line_text.h: the pieces that lines of text are made of, JSON and CSV alike. Nothing is written at or behind the end
 * of the room for a line, and no library call formats anything.
 */
#ifndef DP_LINE_TEXT_H
#define DP_LINE_TEXT_H

#include "../dp_text.h"
#include "../wire.h"
#include "../words.h"
#include "address_text.h"

#include <stdbool.h>
#include <string.h>

/* The room that is left for a line. `full` once a piece did not fit; the line is then worthless. */
struct line {
    char *at;
    char *end;
    bool full;
};

/*
 * A piece of up to `most` bytes is written where it belongs if there is room for the longest one, and beside it
 * otherwise: nothing is measured before it is written.
 */
static inline char *begin(const struct line *line, char *beside, size_t most)
{
    return (size_t)(line->end - line->at) >= most ? line->at : beside;
}

/* Copies of fixed size cost less than a call for the few bytes of most names. */
static inline void copy(char *to, const char *text, size_t length)
{
    if (length > 32) {
        memcpy(to, text, length);
    } else if (length >= 16) {
        memcpy(to, text, 16);
        memcpy(to + length - 16, text + length - 16, 16);
    } else if (length >= 8) {
        memcpy(to, text, 8);
        memcpy(to + length - 8, text + length - 8, 8);
    } else if (length >= 4) {
        memcpy(to, text, 4);
        memcpy(to + length - 4, text + length - 4, 4);
    } else {
        for (size_t i = 0; i < length; i++)
            to[i] = text[i];
    }
}

static inline void put(struct line *line, const char *text, size_t length)
{
    if ((size_t)(line->end - line->at) < length) {
        line->full = true;
        return;
    }
    if (__builtin_constant_p(length))
        memcpy(line->at, text, length);
    else
        copy(line->at, text, length);
    line->at += length;
}

/* Takes a piece that was written from what `begin` returned to before `end`. */
static inline void finish(struct line *line, const char *begun, char *end)
{
    if (begun == line->at)
        line->at = end;
    else
        put(line, begun, (size_t)(end - begun));
}

#define PUT(line, literal) put((line), (literal), sizeof(literal) - 1)

static inline void put_word(struct line *line, const struct dp_word *word)
{
    /* A copy of fixed size costs less than one of the word's length, where there is room for it. */
    if ((size_t)(line->end - line->at) >= sizeof word->text) {
        memcpy(line->at, word->text, sizeof word->text);
        line->at += word->length;
    } else {
        put(line, word->text, word->length);
    }
}

static const char two_digits[] = "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
                                 "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
                                 "8081828384858687888990919293949596979899";

enum { DECIMAL_MAX = 20 };

static inline uint32_t digits_of(uint64_t value)
{
    uint32_t digits = 1;

    for (; value >= 10000; value /= 10000)
        digits += 4;
    return digits + (value >= 10) + (value >= 100) + (value >= 1000);
}

/* Writes the last `digits` digits of `value`; returns what is behind them. */
static inline char *decimal(char *at, uint64_t value, uint32_t digits)
{
    char *end = at + digits;

    for (; digits >= 2; digits -= 2) {
        memcpy(at + digits - 2, &two_digits[value % 100 * 2], 2);
        value /= 100;
    }
    if (digits)
        *at = (char)('0' + value % 10);
    return end;
}

static inline void put_decimal(struct line *line, uint64_t value)
{
    char beside[DECIMAL_MAX], *begun = begin(line, beside, sizeof beside);

    finish(line, begun, decimal(begun, value, digits_of(value)));
}

static inline void put_time(struct line *line, uint64_t time_ns)
{
    enum { NANOSECONDS = 1000000000 };
    char beside[DECIMAL_MAX + 1], *begun = begin(line, beside, sizeof beside), *end;
    uint64_t seconds = time_ns / NANOSECONDS;
    uint32_t fraction = (uint32_t)(time_ns % NANOSECONDS);

    end = decimal(begun, seconds, digits_of(seconds));
    *end++ = '.';
    end = fraction % 1000 ? decimal(end, fraction, 9) : decimal(end, fraction / 1000, 6);
    finish(line, begun, end);
}
_Static_assert(UINT64_MAX / 1000000000 < 100000000000, "seconds have up to 11 digits");

static inline void put_name(struct line *line, const struct dp_names *names, const uint32_t *offset, uint32_t i)
{
    put(line, names->text + offset[i], offset[i + 1] - offset[i]);
}

static inline bool named(const uint32_t *offset, uint32_t i, uint32_t n)
{
    return i < n && offset[i] <= offset[i + 1];
}

static inline void put_address(struct line *line, const struct dp_flow *flow, const uint8_t *address)
{
    char beside[DP_ADDRESS_TEXT_MAX], *begun = begin(line, beside, sizeof beside);

    finish(line, begun, flow->family == 4 ? dp_ipv4_text(begun, address) : dp_ipv6_text(begun, address));
}

static inline void put_protocol(struct line *line, const struct dp_flow *flow, const struct dp_names *names)
{
    put_name(line, names, names->protocol_offset, flow->arp ? DP_NAMED_ARP : flow->protocol);
}

/* Whether ports were read. An ICMP query's identifier is no port. */
static inline bool has_ports(const struct dp_flow *flow)
{
    return flow->transport && dp_has_ports(flow->protocol);
}

static inline void put_json_number(struct line *line, bool known, uint64_t value)
{
    if (known)
        put_decimal(line, value);
    else
        PUT(line, "null");
}

static inline void put_csv_number(struct line *line, bool known, uint64_t value)
{
    PUT(line, ",");
    if (known)
        put_decimal(line, value);
}

#endif
