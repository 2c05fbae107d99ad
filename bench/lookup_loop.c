/* lookup_loop.c: the loop around a rule table that bench/classifier.py times. Questions are as rule_sets.py says. */
#include "classifier.h"

#include <time.h>

struct question {
    uint32_t address, selector;
};

double look_up(const struct dp_rule_table *table, const struct question *questions, uint32_t n, uint32_t *answers);

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Nanoseconds a look-up, of processor time; answers are places of rules from 1, or 0. */
double look_up(const struct dp_rule_table *table, const struct question *questions, uint32_t n, uint32_t *answers)
{
    double began = now();

    for (uint32_t i = 0; i < n; i++) {
        uint32_t address = __builtin_bswap32(questions[i].address);

        answers[i] = dp_rule_table_find(table, (const uint8_t *)&address, questions[i].selector) + 1;
    }
    return (now() - began) / n * 1e9;
}
