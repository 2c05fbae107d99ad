/*
 * test_endpoint_maps.c: which blocks of addresses a virtual IP prefix may be in (SPEC 7, first point), for prefixes of
 * every length: no address inside one may be passed over, and few of those outside are looked for.
 */
#include "check.h"
#include "endpoint_maps.h"
#include "endpoints.h"

enum { INSIDE = 200, OUTSIDE = 10000 };

static uint64_t random_state = 88172645463325252u;

static uint8_t a_byte(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint8_t)(random_state >> 24);
}

/* Any address that has the first `bits` of the prefix. */
static void inside(uint8_t *address, const struct dp_prefix *prefix)
{
    for (uint32_t i = 0; i < 16; i++) {
        uint32_t kept = i * 8 >= prefix->bits ? 0 : prefix->bits - i * 8;
        uint8_t mask = kept >= 8 ? 0xff : (uint8_t)(0xff00 >> kept);

        address[i] = (prefix->address[i] & mask) | (a_byte() & (uint8_t)~mask);
    }
}

static bool is_near(const struct dp_endpoints *endpoints, uint32_t family, const uint8_t *address)
{
    return dp_is_near_prefix(dp_endpoints_single(endpoints), family, dp_block_of(address, family));
}

static void test_prefix(uint32_t family, uint32_t bits)
{
    struct dp_holding holding = {.family = family, .zone = 3, .virtual_ip = 1};
    struct dp_endpoints *endpoints;
    uint32_t near = 0;

    for (uint32_t i = 0; i < 16; i++)
        holding.prefix.address[i] = a_byte();
    holding.prefix.bits = 128;
    for (uint32_t b = bits; b < 128; b++)
        holding.prefix.address[b / 8] &= (uint8_t)~(0x80 >> b % 8);
    holding.prefix.bits = bits;
    REQUIRE(dp_endpoints_new(&holding, 1, NULL, 0, NULL, 0, NULL, 0, &endpoints) == 0);
    CHECK(dp_endpoints_single(endpoints)->has_prefixes[family == 6]);
    CHECK(!dp_endpoints_single(endpoints)->has_prefixes[family == 4]);
    for (uint32_t i = 0; i < INSIDE; i++) {
        uint8_t address[16];

        inside(address, &holding.prefix);
        if (!CHECK(is_near(endpoints, family, address)))
            break;
    }
    for (uint32_t i = 0; i < OUTSIDE; i++) {
        const struct dp_prefix any = {{0}, 0};
        uint8_t address[16];

        inside(address, &any);
        near += is_near(endpoints, family, address);
    }
    if (bits >= (family == 4 ? 20 : 60))
        CHECK(near < OUTSIDE / 100);
    dp_endpoints_free(endpoints);
}

static void test_no_address_of_a_prefix_is_passed_over(void)
{
    for (uint32_t bits = 0; bits < 32; bits++)
        test_prefix(4, bits);
    for (uint32_t bits = 0; bits < 128; bits++)
        test_prefix(6, bits);
}

static void test_without_prefixes_none_is_looked_for(void)
{
    const struct dp_holding holding = {{{10, 0, 0, 1}, 32}, 4, 0, 0};
    struct dp_endpoints *endpoints;

    REQUIRE(dp_endpoints_new(&holding, 1, NULL, 0, NULL, 0, NULL, 0, &endpoints) == 0);
    CHECK(!dp_endpoints_single(endpoints)->has_prefixes[0] && !dp_endpoints_single(endpoints)->has_prefixes[1]);
    dp_endpoints_free(endpoints);
}

int main(void)
{
    RUN(test_no_address_of_a_prefix_is_passed_over);
    RUN(test_without_prefixes_none_is_looked_for);
    return check_result("test_endpoint_maps");
}
