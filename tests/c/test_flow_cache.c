/* test_flow_cache.c: what the flow cache has, and when it rests (flow_cache.h). */
#include "check.h"
#include "flow_cache.h"

static const uint64_t set_of = (uint64_t)5 << (64 - DP_FLOW_CACHE_BITS);

static void test_has_what_was_put_in(void)
{
    struct dp_flow_cache *cache = dp_flow_cache_new();

    REQUIRE(cache != NULL);
    CHECK(dp_flow_cache_find(cache, set_of) == 0);
    dp_flow_cache_fill(cache, set_of | 1, 7);
    dp_flow_cache_fill(cache, set_of | 2, 8);
    CHECK(dp_flow_cache_find(cache, set_of | 1) == 7);
    CHECK(dp_flow_cache_find(cache, set_of | 2) == 8);
    CHECK(dp_flow_cache_find(cache, set_of | 3) == 0);
    dp_flow_cache_forget(cache, set_of | 1);
    CHECK(dp_flow_cache_find(cache, set_of | 1) == 0);
    dp_flow_cache_fill(cache, set_of | 1, 9);
    dp_flow_cache_clear(cache);
    CHECK(dp_flow_cache_find(cache, set_of | 1) == 0 && dp_flow_cache_find(cache, set_of | 2) == 0);
    dp_flow_cache_free(cache);
}

/* Two of one tag would be found as a number that is neither's. */
static void test_a_tag_is_in_once(void)
{
    struct dp_flow_cache *cache = dp_flow_cache_new();

    REQUIRE(cache != NULL);
    for (uint32_t entry = 1; entry < 10; entry++) {
        dp_flow_cache_fill(cache, set_of | 1, entry);
        dp_flow_cache_fill(cache, set_of | (entry & 3), 100 + entry);
        dp_flow_cache_fill(cache, set_of | 1, entry);
        CHECK(dp_flow_cache_find(cache, set_of | 1) == entry);
    }
    dp_flow_cache_forget(cache, set_of | 1);
    CHECK(dp_flow_cache_find(cache, set_of | 1) == 0);
    dp_flow_cache_free(cache);
}

static void test_the_oldest_gives_way(void)
{
    struct dp_flow_cache *cache = dp_flow_cache_new();

    REQUIRE(cache != NULL);
    for (uint32_t i = 1; i <= DP_FLOW_CACHE_WAYS + 1; i++)
        dp_flow_cache_fill(cache, set_of | i, i);
    CHECK(dp_flow_cache_find(cache, set_of | 1) == 0);
    for (uint32_t i = 2; i <= DP_FLOW_CACHE_WAYS + 1; i++)
        CHECK(dp_flow_cache_find(cache, set_of | i) == i);
    dp_flow_cache_free(cache);
}

/* Bursts until it is asked again. */
static uint32_t rests(struct dp_flow_cache *cache)
{
    uint32_t n = 0;

    while (dp_flow_cache_rests(cache))
        n++;
    return n;
}

static uint32_t rests_after_a_trial(struct dp_flow_cache *cache, uint32_t known)
{
    for (int i = 0; i < DP_FLOW_CACHE_TRIAL; i++)
        dp_flow_cache_count(cache, 32, known);
    return rests(cache);
}

static void test_rests_when_it_knows_too_few(void)
{
    struct dp_flow_cache *cache = dp_flow_cache_new();

    REQUIRE(cache != NULL);
    CHECK(rests_after_a_trial(cache, 24) == 0);
    CHECK(rests_after_a_trial(cache, 23) == DP_FLOW_CACHE_REST_LEAST);
    CHECK(rests_after_a_trial(cache, 0) == 2 * DP_FLOW_CACHE_REST_LEAST);
    CHECK(rests_after_a_trial(cache, 32) == 0);
    CHECK(rests_after_a_trial(cache, 0) == DP_FLOW_CACHE_REST_LEAST);
    for (int i = 0; i < 20; i++)
        rests_after_a_trial(cache, 0);
    CHECK(rests_after_a_trial(cache, 0) == DP_FLOW_CACHE_REST_MOST);
    dp_flow_cache_free(cache);
}

int main(void)
{
    RUN(test_has_what_was_put_in);
    RUN(test_a_tag_is_in_once);
    RUN(test_the_oldest_gives_way);
    RUN(test_rests_when_it_knows_too_few);
    return check_result("test_flow_cache");
}
