/* lookup_loop.c: the loop around a rule table that bench/classifier.py times. Questions are as rule_sets.py says. */
#include "classifier.h"

#include <time.h>

struct question {
    uint32_t address, selector;
};

/* dp_rule_table_find_many, which the extension has. */
typedef void find_many(const struct dp_rule_table *table, const uint8_t *const *remotes, const uint32_t *selectors,
                       uint32_t n, uint32_t *found);

double look_up(find_many *find, const struct dp_rule_table *table, const struct question *questions, uint32_t n,
               uint32_t burst, uint32_t *answers);

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Nanoseconds a look-up, of processor time; answers are positions of rules. Addresses are in network order. */
double look_up(find_many *find, const struct dp_rule_table *table, const struct question *questions, uint32_t n,
               uint32_t burst, uint32_t *answers)
{
    const uint8_t *address[DP_LOOKUPS_MAX];
    uint32_t selector[DP_LOOKUPS_MAX];
    double began = now();

    for (uint32_t i = 0; i < n; i += burst) {
        uint32_t some = n - i < burst ? n - i : burst;

        for (uint32_t k = 0; k < some; k++) {
            address[k] = (const uint8_t *)&questions[i + k].address;
            selector[k] = questions[i + k].selector;
        }
        if (burst == 1)
            answers[i] = dp_rule_table_find(table, address[0], selector[0]);
        else
            find(table, address, selector, some, answers + i);
    }
    return (now() - began) / n * 1e9;
}
