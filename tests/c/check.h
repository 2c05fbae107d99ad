/*
 * check.h: what a C test needs: a check that says where and what, and an exit status.
 *
 * A test is a function of its own; main() calls them all and returns check_result(). A failed check is told on standard
 * error and the test goes on, so that one run shows every fault.
 */
#ifndef DP_TEST_CHECK_H
#define DP_TEST_CHECK_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static int check_failures;

static inline bool check_true(bool holds, const char *file, int line, const char *what)
{
    if (!holds) {
        fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, what);
        check_failures++;
    }
    return holds;
}

static inline bool check_equal(int64_t actual, int64_t expected, const char *file, int line, const char *what)
{
    if (actual != expected) {
        fprintf(stderr, "%s:%d: %s is %" PRId64 ", expected %" PRId64 "\n", file, line, what, actual, expected);
        check_failures++;
    }
    return actual == expected;
}

static inline bool check_text(const char *actual, const char *expected, const char *file, int line, const char *what)
{
    bool same = actual && strcmp(actual, expected) == 0;
    if (!same) {
        fprintf(stderr, "%s:%d: %s is\n  %s\nexpected\n  %s\n", file, line, what, actual ? actual : "(none)", expected);
        check_failures++;
    }
    return same;
}

#define CHECK(condition) check_true((condition), __FILE__, __LINE__, #condition)
#define CHECK_EQUAL(actual, expected) check_equal((int64_t)(actual), (int64_t)(expected), __FILE__, __LINE__, #actual)
#define CHECK_TEXT(actual, expected) check_text((actual), (expected), __FILE__, __LINE__, #actual)

static inline int check_result(const char *name)
{
    if (check_failures)
        fprintf(stderr, "%s: %d checks failed\n", name, check_failures);
    return check_failures != 0;
}

#endif
