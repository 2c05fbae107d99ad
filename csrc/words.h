/*
 * words.h: the words that people read for the enumerations of the dp_*.h (SPEC 7).
 *
 *   ownership  All words are constants of the program.
 */
#ifndef DP_WORDS_H
#define DP_WORDS_H

#include "dp_findings.h"

/* A word with its length, in one place of fixed size so that it can be copied whole. */
struct dp_word {
    char text[23];
    uint8_t length;
};

/* All words of one enumeration, by value; `kind` must exist. */
const struct dp_word *dp_word_table(enum dp_word_kind kind);

#endif
