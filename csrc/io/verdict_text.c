/*
 * verdict_text.c: verdict records as JSON lines or CSV rows (SPEC 7, --verdicts).
 *
 *   JSON  {"packet": 1, "time": 1700000000.000001, "verdict": "allow", "checks": [{"instance": "ecs-a", ...}]}
 *   CSV   packet,time,verdict, then instance,direction,verdict,state,reason,rule,security_group,connection twice: once
 *         for each check, empty where there is none. The header row is the caller's.
 *
 * A time is seconds with 6 digits behind the point, or 9 where microseconds do not tell it all. Lines end with one
 * newline. Names come quoted from the caller and are copied as they are.
 *
 * Guarantees
 *   1. Nothing is written at or behind out + size, and only whole lines count in *used.
 *   2. A record is refused (DP_E_ARGUMENT when it is the first, otherwise the call stops before it) if it holds a
 *      value that no enumeration has, or a zone or rule without a name.
 *   3. No library call formats anything: the cost of a line is the copying of its pieces.
 */
#include "../dp_api.h"
#include "../words.h"

#include <limits.h>
#include <stdbool.h>
#include <string.h>

/* The room that is left for a line. `full` once a piece did not fit; the line is then worthless. */
struct line {
    char *at;
    char *end;
    bool full;
};

static inline void put(struct line *line, const char *text, size_t length)
{
    if ((size_t)(line->end - line->at) < length) {
        line->full = true;
        return;
    }
    memcpy(line->at, text, length);
    line->at += length;
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

/* Writes `value` so that it ends before `end`, with zeros in front up to `width` digits; returns where it begins. */
static inline char *decimal(char *end, uint64_t value, uint32_t width)
{
    char *at = end;
    while (value >= 10) {
        at -= 2;
        memcpy(at, &two_digits[value % 100 * 2], 2);
        value /= 100;
    }
    if (value || at == end)
        *--at = (char)('0' + value);
    while (end - at < (ptrdiff_t)width)
        *--at = '0';
    return at;
}

static inline void put_decimal(struct line *line, uint64_t value, uint32_t width)
{
    char digits[DECIMAL_MAX];
    char *first = decimal(digits + sizeof digits, value, width);
    put(line, first, (size_t)(digits + sizeof digits - first));
}

static inline void put_time(struct line *line, uint64_t time_ns)
{
    uint64_t fraction = time_ns % 1000000000;
    put_decimal(line, time_ns / 1000000000, 1);
    PUT(line, ".");
    if (fraction % 1000)
        put_decimal(line, fraction, 9);
    else
        put_decimal(line, fraction / 1000, 6);
}

static inline void put_name(struct line *line, const struct dp_names *names, const uint32_t *offset, uint32_t i)
{
    put(line, names->text + offset[i], offset[i + 1] - offset[i]);
}

static bool named(const uint32_t *offset, uint32_t i, uint32_t n)
{
    return i < n && offset[i] <= offset[i + 1];
}

static bool record_valid(const struct dp_record *record, const struct dp_names *names)
{
    if (record->verdict >= DP_VERDICTS || record->checks > 2)
        return false;
    for (uint32_t i = 0; i < record->checks; i++) {
        const struct dp_check *check = &record->check[i];
        if (check->direction >= DP_DIRECTIONS || check->verdict >= DP_VERDICTS || check->state >= DP_STATES ||
            check->reason >= DP_REASONS || check->origin >= DP_ORIGINS)
            return false;
        if (!named(names->zone_offset, check->zone, names->n_zones))
            return false;
        if (check->rule && (!named(names->rule_offset, check->rule, names->n_rules) ||
                            !named(names->group_offset, check->rule, names->n_rules)))
            return false;
    }
    return true;
}

static void put_json_check(struct line *line, const struct dp_check *check, const struct dp_names *names)
{
    PUT(line, "{\"instance\": ");
    put_name(line, names, names->zone_offset, check->zone);
    PUT(line, ", \"direction\": \"");
    put_word(line, &dp_word_table(DP_WORD_DIRECTION)[check->direction]);
    PUT(line, "\", \"verdict\": \"");
    put_word(line, &dp_word_table(DP_WORD_VERDICT)[check->verdict]);
    PUT(line, "\", \"state\": \"");
    put_word(line, &dp_word_table(DP_WORD_STATE)[check->state]);
    PUT(line, "\", \"reason\": \"");
    put_word(line, &dp_word_table(DP_WORD_REASON)[check->reason]);
    PUT(line, "\", \"rule\": ");
    if (check->rule) {
        put_name(line, names, names->rule_offset, check->rule);
        PUT(line, ", \"security_group\": ");
        put_name(line, names, names->group_offset, check->rule);
        PUT(line, ", \"connection\": ");
    } else {
        PUT(line, "null, \"security_group\": null, \"connection\": ");
    }
    if (check->origin == DP_ORIGIN_NONE) {
        PUT(line, "null}");
    } else {
        PUT(line, "\"");
        put_word(line, &dp_word_table(DP_WORD_ORIGIN)[check->origin]);
        PUT(line, "\"}");
    }
}

static void put_json(struct line *line, const struct dp_record *record, const struct dp_names *names, uint64_t packet)
{
    PUT(line, "{\"packet\": ");
    put_decimal(line, packet, 1);
    PUT(line, ", \"time\": ");
    put_time(line, record->time_ns);
    PUT(line, ", \"verdict\": \"");
    put_word(line, &dp_word_table(DP_WORD_VERDICT)[record->verdict]);
    PUT(line, "\", \"checks\": [");
    for (uint32_t i = 0; i < record->checks; i++) {
        if (i)
            PUT(line, ", ");
        put_json_check(line, &record->check[i], names);
    }
    PUT(line, "]}\n");
}

static void put_csv_check(struct line *line, const struct dp_check *check, const struct dp_names *names)
{
    PUT(line, ",");
    put_name(line, names, names->zone_offset, check->zone);
    PUT(line, ",");
    put_word(line, &dp_word_table(DP_WORD_DIRECTION)[check->direction]);
    PUT(line, ",");
    put_word(line, &dp_word_table(DP_WORD_VERDICT)[check->verdict]);
    PUT(line, ",");
    put_word(line, &dp_word_table(DP_WORD_STATE)[check->state]);
    PUT(line, ",");
    put_word(line, &dp_word_table(DP_WORD_REASON)[check->reason]);
    PUT(line, ",");
    if (check->rule)
        put_name(line, names, names->rule_offset, check->rule);
    PUT(line, ",");
    if (check->rule)
        put_name(line, names, names->group_offset, check->rule);
    PUT(line, ",");
    if (check->origin != DP_ORIGIN_NONE)
        put_word(line, &dp_word_table(DP_WORD_ORIGIN)[check->origin]);
}

static void put_csv(struct line *line, const struct dp_record *record, const struct dp_names *names, uint64_t packet)
{
    put_decimal(line, packet, 1);
    PUT(line, ",");
    put_time(line, record->time_ns);
    PUT(line, ",");
    put_word(line, &dp_word_table(DP_WORD_VERDICT)[record->verdict]);
    for (uint32_t i = 0; i < 2; i++) {
        if (i < record->checks)
            put_csv_check(line, &record->check[i], names);
        else
            PUT(line, ",,,,,,,,");
    }
    PUT(line, "\n");
}

int dp_records_text(const struct dp_record *records, uint32_t n, int format, const struct dp_names *names,
                    uint64_t *packet, char *out, uint64_t size, uint64_t *used)
{
    if (!names || !packet || !used || n > INT_MAX || (n && (!records || !out)) ||
        (format != DP_TEXT_JSON && format != DP_TEXT_CSV))
        return DP_E_ARGUMENT;
    *used = 0;
    if (n == 0)
        return 0;
    struct line line = {.at = out, .end = out + size};
    char *begin = out;
    uint32_t written = 0;
    for (; written < n; written++) {
        if (!record_valid(&records[written], names)) {
            if (written == 0)
                return DP_E_ARGUMENT;
            break;
        }
        if (format == DP_TEXT_JSON)
            put_json(&line, &records[written], names, *packet + written);
        else
            put_csv(&line, &records[written], names, *packet + written);
        if (line.full)
            break;
        begin = line.at;
    }
    *packet += written;
    *used = (uint64_t)(begin - out);
    return (int)written;
}
