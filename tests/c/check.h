/*
 * check.h: what a C test needs: a check that says where and what, and an exit status.
 *
 * A test is a function of its own; main() has each of them RUN and returns check_result(). A failed check is told on
 * standard error and the test goes on, so that one run shows every fault. What a test cannot go on without is REQUIREd:
 * where it is not so the program ends, red. A test, or a program, that has checked nothing has failed.
 */
#ifndef DP_TEST_CHECK_H
#define DP_TEST_CHECK_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int check_failures;
static uint64_t checks_made;

static inline bool check_true(bool holds, const char *file, int line, const char *what)
{
    checks_made++;
    if (!holds) {
        fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, what);
        check_failures++;
    }
    return holds;
}

static inline bool check_equal(int64_t actual, int64_t expected, const char *file, int line, const char *what)
{
    checks_made++;
    if (actual != expected) {
        fprintf(stderr, "%s:%d: %s is %" PRId64 ", expected %" PRId64 "\n", file, line, what, actual, expected);
        check_failures++;
    }
    return actual == expected;
}

static inline bool check_text(const char *actual, const char *expected, const char *file, int line, const char *what)
{
    bool same = actual && strcmp(actual, expected) == 0;

    checks_made++;
    if (!same) {
        fprintf(stderr, "%s:%d: %s is\n  %s\nexpected\n  %s\n", file, line, what, actual ? actual : "(none)", expected);
        check_failures++;
    }
    return same;
}

static inline void check_required(bool holds, const char *file, int line, const char *what)
{
    if (!check_true(holds, file, line, what))
        exit(1);
}

static inline void check_run(void (*test)(void), const char *name)
{
    uint64_t before = checks_made;

    test();
    if (checks_made == before) {
        fprintf(stderr, "%s has checked nothing\n", name);
        check_failures++;
    }
}

#define CHECK(condition) check_true((condition), __FILE__, __LINE__, #condition)
#define CHECK_EQUAL(actual, expected) check_equal((int64_t)(actual), (int64_t)(expected), __FILE__, __LINE__, #actual)
#define CHECK_TEXT(actual, expected) check_text((actual), (expected), __FILE__, __LINE__, #actual)
#define REQUIRE(condition) check_required((condition), __FILE__, __LINE__, #condition)
#define RUN(test) check_run(test, #test)

static inline int check_result(const char *name)
{
    if (!checks_made) {
        fprintf(stderr, "%s has checked nothing\n", name);
        check_failures++;
    }
    if (check_failures)
        fprintf(stderr, "%s: %d checks failed\n", name, check_failures);
    return check_failures != 0;
}

#endif
