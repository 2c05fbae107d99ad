/*
 * community_id.c: the Community ID of a flow: SHA-1 (FIPS 180-4) of its seed, ordered addresses, protocol and ports, in
 * Base64 (RFC 4648). All of that fits into one block of SHA-1.
 */
#include "dp_findings.h"
#include "packet.h"

#include <string.h>

enum { BLOCK = 64, DIGEST = 20 };

static uint32_t rotated(uint32_t word, int bits)
{
    return word << bits | word >> (32 - bits);
}

/* SHA-1 of `length` bytes, of which there are at most 55, in a block that is zero behind them. */
static void sha1(uint8_t *block, uint32_t length, uint8_t *digest)
{
    uint32_t state[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], w[80];

    block[length] = 0x80;
    block[BLOCK - 2] = (uint8_t)(length * 8 >> 8);
    block[BLOCK - 1] = (uint8_t)(length * 8);
    for (int i = 0; i < 80; i++) {
        uint32_t f, k, next;

        if (i < 16)
            w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 | (uint32_t)block[4 * i + 2] << 8 |
                   block[4 * i + 3];
        else
            w[i] = rotated(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        if (i < 20)
            f = (b & c) | (~b & d), k = 0x5a827999;
        else if (i < 40)
            f = b ^ c ^ d, k = 0x6ed9eba1;
        else if (i < 60)
            f = (b & c) | (b & d) | (c & d), k = 0x8f1bbcdc;
        else
            f = b ^ c ^ d, k = 0xca62c1d6;
        next = rotated(a, 5) + f + e + k + w[i];
        e = d;
        d = c;
        c = rotated(b, 30);
        b = a;
        a = next;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
    for (int i = 0; i < DIGEST; i++)
        digest[i] = (uint8_t)(state[i / 4] >> (24 - 8 * (i % 4)));
}

static void base64(const uint8_t *digest, char *out)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (int i = 0; i < DIGEST; i += 3) {
        uint32_t bits = (uint32_t)digest[i] << 16 | (uint32_t)digest[i + 1] << 8 | (i + 2 < DIGEST ? digest[i + 2] : 0);

        for (int k = 0; k < 4; k++)
            *out++ = letters[bits >> (18 - 6 * k) & 63];
    }
    out[-1] = '=';
}

/* The type that answers an ICMP type or asks for it, as the specification pairs them; -1 for none. */
static int counterpart(uint8_t protocol, uint8_t type)
{
    static const uint8_t icmp[][2] = {{8, 0}, {10, 9}, {13, 14}, {15, 16}, {17, 18}};
    static const uint8_t icmpv6[][2] = {{128, 129}, {130, 131}, {133, 134}, {135, 136}, {139, 140}, {144, 145}};
    const uint8_t (*pairs)[2] = protocol == DP_PROTO_ICMP ? icmp : icmpv6;
    size_t n = protocol == DP_PROTO_ICMP ? sizeof icmp / sizeof icmp[0] : sizeof icmpv6 / sizeof icmpv6[0];

    for (size_t i = 0; i < n; i++)
        for (int side = 0; side < 2; side++)
            if (pairs[i][side] == type)
                return pairs[i][!side];
    return -1;
}

static void community_id(const struct dp_flow *flow, char *out)
{
    uint32_t size = flow->family == 4 ? 4 : 16, length = 2;
    uint16_t port[2] = {flow->source_port, flow->destination_port};
    bool ports = flow->protocol == DP_PROTO_TCP || flow->protocol == DP_PROTO_UDP || flow->protocol == DP_PROTO_SCTP;
    uint8_t block[BLOCK] = {0}, digest[DIGEST];
    bool turned, one_way = false;
    int order, answer;

    if (!flow->family || flow->arp)
        return;
    ports = ports && (port[0] || port[1]);
    if (flow->icmp) {
        answer = counterpart(flow->protocol, flow->icmp_type);
        one_way = answer < 0;
        port[0] = flow->icmp_type;
        port[1] = (uint16_t)(one_way ? flow->icmp_code : answer);
        ports = true;
    }
    order = memcmp(flow->source, flow->destination, size);
    turned = !one_way && (order > 0 || (order == 0 && ports && port[0] > port[1]));
    for (int side = 0; side < 2; side++, length += size)
        memcpy(block + length, (side == 0) != turned ? flow->source : flow->destination, size);
    block[length++] = flow->protocol;
    length++;
    for (int side = 0; side < 2 && ports; side++) {
        block[length++] = (uint8_t)(port[side ^ turned] >> 8);
        block[length++] = (uint8_t)port[side ^ turned];
    }
    sha1(block, length, digest);
    memcpy(out, "1:", 2);
    base64(digest, out + 2);
}

void dp_community_ids(const struct dp_flow_record *records, uint32_t n, char *out)
{
    memset(out, 0, (size_t)n * DP_COMMUNITY_ID_SIZE);
    for (uint32_t i = 0; i < n; i++)
        community_id(&records[i].flow, out + (size_t)i * DP_COMMUNITY_ID_SIZE);
}
