/* test_flow_match.c: dp_flows_match: a prefix and a port on either side, and a protocol, joined by "and". */
#include "../../csrc/dp_text.h"
#include "check.h"

enum { ICMP = 1, TCP = 6, UDP = 17, DCCP = 33, SCTP = 132, UDP_LITE = 136 };

/* clang-format off */
static const struct dp_flow flows[] = {
    {.family = 4, .protocol = TCP, .source = {10, 0, 0, 1}, .source_port = 40000,
     .destination = {172, 16, 0, 9}, .destination_port = 443},
    {.family = 4, .protocol = TCP, .source = {172, 16, 0, 9}, .source_port = 443,
     .destination = {10, 0, 0, 1}, .destination_port = 40000},
    {.family = 4, .protocol = UDP, .source = {10, 0, 1, 129}, .source_port = 53,
     .destination = {10, 0, 1, 2}, .destination_port = 65535},
    {.family = 4, .protocol = ICMP, .source = {10, 0, 0, 1}, .source_port = 443,
     .destination = {8, 8, 8, 8}, .destination_port = 443},
    {.family = 6, .protocol = SCTP, .source = {0x20, 1, 0xd, 0xb8, [15] = 1}, .source_port = 443,
     .destination = {0x20, 1, 0xd, 0xb8, [15] = 2}, .destination_port = 1},
    {.family = 6, .protocol = DCCP, .source = {10, 0, 0, 1}, .source_port = 0,
     .destination = {0x20, 1, 0xd, 0xb8, [15] = 3}, .destination_port = 7},
    {.family = 6, .protocol = UDP_LITE, .source = {0xfe, 0x80, [15] = 1}, .source_port = 9,
     .destination = {0x20, 1, 0xd, 0xb9}, .destination_port = 7},
    {.family = 0},
    {.family = 4, .arp = 1, .source = {9, 9, 9, 9}, .destination = {9, 9, 9, 1}},
};

/* `expected` are the positions that match, as digits. */
static const struct {
    const char *expected;
    struct dp_flow_filter filter;
} cases[] = {
    /* No test at all. */
    {"012345678", {.port = -1, .protocol = -1}},
    /* Addresses: either side, the family told apart, any number of bits, bits behind the prefix ignored. */
    {"013", {.port = -1, .protocol = -1, .family = 4, .address = {{10, 0, 0, 1}, 32}}},
    {"01", {.port = -1, .protocol = -1, .family = 4, .address = {{172, 16, 0, 9}, 32}}},
    {"", {.port = -1, .protocol = -1, .family = 4, .address = {{172, 16, 0, 8}, 32}}},
    {"01", {.port = -1, .protocol = -1, .family = 4, .address = {{172, 16, 0, 8}, 31}}},
    {"2", {.port = -1, .protocol = -1, .family = 4, .address = {{10, 0, 1, 128}, 25}}},
    {"0123", {.port = -1, .protocol = -1, .family = 4, .address = {{10, 255, 255, 255}, 8}}},
    {"01238", {.port = -1, .protocol = -1, .family = 4, .address = {{1, 2, 3, 4}, 0}}},
    {"456", {.port = -1, .protocol = -1, .family = 6, .address = {{0}, 0}}},
    {"4", {.port = -1, .protocol = -1, .family = 6, .address = {{0x20, 1, 0xd, 0xb8, [15] = 1}, 128}}},
    {"45", {.port = -1, .protocol = -1, .family = 6, .address = {{0x20, 1, 0xd, 0xb8, [15] = 2}, 127 - 63}}},
    {"456", {.port = -1, .protocol = -1, .family = 6, .address = {{0x20, 1, 0xd, 0xb8}, 31}}},
    {"5", {.port = -1, .protocol = -1, .family = 6, .address = {{0x20, 1, 0xd, 0xb8, [15] = 3}, 128}}},
    /* Ports: either side, and only of protocols that have ports. */
    {"014", {.port = 443, .protocol = -1}},
    {"01", {.port = 40000, .protocol = -1}},
    {"2", {.port = 65535, .protocol = -1}},
    {"56", {.port = 7, .protocol = -1}},
    {"5", {.port = 0, .protocol = -1}},
    /* Protocols; a frame without IP has none, and ARP's 0 is not that of IP. */
    {"01", {.port = -1, .protocol = TCP}},
    {"3", {.port = -1, .protocol = ICMP}},
    {"", {.port = -1, .protocol = 0}},
    {"", {.port = -1, .protocol = 255}},
    /* All of them: the address and the port may match on different sides. */
    {"01", {.port = 443, .protocol = TCP, .family = 4, .address = {{10, 0, 0, 1}, 32}}},
    {"", {.port = 443, .protocol = UDP, .family = 4, .address = {{10, 0, 0, 1}, 32}}},
    {"", {.port = 53, .protocol = UDP, .family = 6, .address = {{0}, 0}}},
};

static const struct dp_flow_filter wrong[] = {
    {.port = -2, .protocol = -1},
    {.port = 65536, .protocol = -1},
    {.port = -1, .protocol = -2},
    {.port = -1, .protocol = 256},
    {.port = -1, .protocol = -1, .family = 5},
    {.port = -1, .protocol = -1, .family = 4, .address = {{0}, 33}},
    {.port = -1, .protocol = -1, .family = 6, .address = {{0}, 129}},
};
/* clang-format on */

enum { FLOWS = sizeof flows / sizeof flows[0] };

int main(void)
{
    uint32_t indices[FLOWS];
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char found[FLOWS + 1] = "";
        int n = dp_flows_match(flows, FLOWS, &cases[i].filter, indices);
        for (int j = 0; j < n; j++)
            found[j] = (char)('0' + indices[j]);
        if (!CHECK_TEXT(found, cases[i].expected))
            fprintf(stderr, "  in case %u\n", i);
    }
    for (uint32_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        CHECK_EQUAL(dp_flows_match(flows, FLOWS, &wrong[i], indices), DP_E_ARGUMENT);
    CHECK_EQUAL(dp_flows_match(flows, 0, &cases[0].filter, NULL), 0);
    CHECK_EQUAL(dp_flows_match(NULL, 1, &cases[0].filter, indices), DP_E_ARGUMENT);
    return check_result("test_flow_match");
}
