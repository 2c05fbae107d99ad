/* discovery.c: discovery.h in code. */
#include "discovery.h"

#include "bytes.h"

#include <stddef.h>
#include <string.h>

/* What a host's options take in all: a link-layer address, a timestamp and a nonce. */
enum { HOST_OPTIONS_MAX = 64, MESSAGE_MAX = 1500 };

static bool is_unspecified(const uint8_t *address)
{
    static const uint8_t none[16];

    return memcmp(address, none, 16) == 0;
}

static bool is_solicited_node(const uint8_t *address)
{
    static const uint8_t prefix[13] = {0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff};

    return memcmp(address, prefix, sizeof prefix) == 0;
}

/* ---- options (RFC 4861, 4.6) ---- */

/* Link-layer addresses, SEND's timestamp and nonce (RFC 3971), and address registration (RFC 6775). */
static bool is_host_option(uint8_t type)
{
    return type == DP_ND_SOURCE_LINK || type == DP_ND_TARGET_LINK || type == 13 || type == 14 || type == 33;
}

/*
 * Prefix, redirected header, MTU, mobility's interval and home agent, SEND's signature and key, route, DNS servers,
 * flags, DNS search list, the contexts of low-power networks, captive portal, PREF64.
 */
static bool is_router_option(uint8_t type)
{
    return is_host_option(type) || (type >= 3 && type <= 5) || type == 7 || type == 8 || type == 11 || type == 12 ||
           (type >= 24 && type <= 26) || type == 31 || (type >= 34 && type <= 38);
}

/* Whether the options behind `skip` bytes fill the message, and all are such as belong there. */
static bool options_fit(const struct dp_icmpv6_message *m, uint32_t skip, bool router)
{
    bool known = !is_unspecified(m->source);

    if (m->length < skip || (!router && m->length - skip > HOST_OPTIONS_MAX))
        return false;
    for (uint32_t at = skip, size; at < m->length; at += size) {
        if (at + 2 > m->captured)
            return m->captured < m->length;
        size = m->at[at + 1] * 8u;
        if (size == 0 || size > m->length - at || !(router ? is_router_option : is_host_option)(m->at[at]))
            return false;
        if ((m->at[at] == DP_ND_SOURCE_LINK || m->at[at] == DP_ND_TARGET_LINK) && size != 8)
            return false;
        if (m->at[at] == DP_ND_SOURCE_LINK && !known)
            return false;
    }
    return true;
}

/* ---- neighbour discovery ---- */

static bool solicitation_fits(const struct dp_icmpv6_message *m)
{
    const uint8_t *target = m->at + 8, *destination = m->destination;

    if (m->length < 24 || !options_fit(m, 24, false))
        return false;
    if (m->captured < 24)
        return true;
    if (dp_ipv6_is_multicast(target) || (is_unspecified(m->source) && !is_solicited_node(destination)))
        return false;
    /* A neighbour that is asked alone is on the link, or asked for itself (RFC 4861, 7.2.2). */
    return dp_ipv6_is_multicast(destination) || dp_ipv6_is_link_local(destination) ||
           memcmp(destination, target, 16) == 0;
}

static bool advertisement_fits(const struct dp_icmpv6_message *m)
{
    bool solicited = m->at[4] & 0x40;

    if (m->length < 24 || !options_fit(m, 24, false) || (solicited && dp_ipv6_is_multicast(m->destination)))
        return false;
    return m->captured < 24 || !dp_ipv6_is_multicast(m->at + 8);
}

static bool redirect_fits(const struct dp_icmpv6_message *m)
{
    const uint8_t *target = m->at + 8, *about = m->at + 24;

    if (m->length < 40 || !dp_ipv6_is_link_local(m->source) || !options_fit(m, 40, true))
        return false;
    return m->captured < 40 ||
           (!dp_ipv6_is_multicast(about) && (dp_ipv6_is_link_local(target) || memcmp(target, about, 16) == 0));
}

static bool discovery_fits(const struct dp_icmpv6_message *m)
{
    const uint8_t *destination = m->destination;

    if (m->hop_limit != 255 || m->at[1] != 0)
        return false;
    switch (m->at[0]) {
    case DP_ND_ROUTER_SOLICITATION:
        return (dp_ipv6_is_multicast(destination) || dp_ipv6_is_link_local(destination)) && options_fit(m, 8, false);
    case DP_ND_ROUTER_ADVERTISEMENT:
        return dp_ipv6_is_link_local(m->source) && options_fit(m, 16, true);
    case DP_ND_NEIGHBOUR_SOLICITATION:
        return solicitation_fits(m);
    case DP_ND_NEIGHBOUR_ADVERTISEMENT:
        return advertisement_fits(m);
    default:
        return redirect_fits(m);
    }
}

/* ---- multicast listeners ---- */

/* RFC 3810, 5.2: records of groups with their sources, without auxiliary data (5.2.6), and nothing behind them. */
static bool records_fit(const struct dp_icmpv6_message *m)
{
    uint32_t at = 8;

    for (uint32_t left = dp_get16(m->at + 6); left > 0; left--) {
        uint32_t size;

        if (m->length - at < 20)
            return false;
        if (m->captured - at < 20)
            return true;
        size = 20 + dp_get16(m->at + at + 2) * 16u;
        if (m->at[at] < 1 || m->at[at] > 6 || m->at[at + 1] != 0 || !dp_ipv6_is_multicast(m->at + at + 4) ||
            size > m->length - at)
            return false;
        at += size;
        if (at > m->captured)
            return true;
    }
    return at == m->length;
}

static bool listener_fits(const struct dp_icmpv6_message *m)
{
    const uint8_t *source = m->source;

    if (m->hop_limit != 1 || m->at[1] != 0 || !dp_ipv6_is_multicast(m->destination) ||
        !(dp_ipv6_is_link_local(source) || is_unspecified(source)))
        return false;
    if (m->at[0] == DP_MLD2_REPORT)
        return records_fit(m);
    /* An address, and in version 2's query a count of sources and these (RFC 3810, 5.1). */
    if (m->length != 24) {
        if (m->at[0] != DP_MLD_QUERY || m->length < 28)
            return false;
        if (m->captured >= 28 && m->length != 28 + dp_get16(m->at + 26) * 16u)
            return false;
    }
    return m->captured < 24 || dp_ipv6_is_multicast(m->at + 8) ||
           (m->at[0] == DP_MLD_QUERY && is_unspecified(m->at + 8));
}

/* ---- both ---- */

bool dp_discovery_plain(const uint8_t *network, const uint8_t *transport)
{
    ptrdiff_t between = transport - (network + 40);

    return between == 0 || (between == 8 && network[6] == 0);
}

enum dp_discovery dp_discovery_read(const struct dp_icmpv6_message *m, const uint8_t *network)
{
    uint8_t type = m->at[0];
    bool listener = dp_is_multicast_listener(type);

    if (!listener && !dp_is_neighbour_discovery(type))
        return DP_DISCOVERY_NONE;
    if (m->length > MESSAGE_MAX || !dp_discovery_plain(network, m->at) ||
        !(listener ? listener_fits : discovery_fits)(m))
        return DP_DISCOVERY_BROKEN;
    return type == DP_ND_ROUTER_ADVERTISEMENT || type == DP_ND_REDIRECT ? DP_DISCOVERY_ROUTER : DP_DISCOVERY_HOST;
}
