/*
 * dp_tables.h: what Python sees of the tables that a policy is compiled to: rules, and who holds which address.
 *
 * What dp_api.h says of ownership, errors, units and threads holds here too.
 */
#ifndef DP_TABLES_H
#define DP_TABLES_H

#include "dp_api.h"

/* cffi: begin */

/* ---- rule tables (SPEC 3): immutable once made ---- */

/* A prefix of `bits` bits; the bits behind them are zero. */
struct dp_prefix {
    uint8_t address[16];
    uint32_t bits;
};

/* A set of addresses that rules name as their remote: `count` prefixes from `first` on. */
struct dp_remote {
    uint32_t first;
    uint32_t count;
};

/*
 * Protocol and ports as one number: protocol << 16 | destination port, or protocol << 16 | type << 8 | code for
 * ICMP and ICMPv6, or protocol << 16 for the rest. A range holds both its ends.
 */
struct dp_selector {
    uint32_t low;
    uint32_t high;
};

enum { DP_REMOTE_ANY = -1 };

/* One rule, in the order in which rules are tried: the first that matches decides. */
struct dp_rule {
    uint32_t number;
    int32_t remote;
    uint32_t first_selector;
    uint32_t selectors;
    uint32_t action;
};

struct dp_rule_table;

int dp_rule_table_new(uint32_t family, const struct dp_rule *rules, uint32_t n_rules, const struct dp_remote *remotes,
                      uint32_t n_remotes, const struct dp_prefix *prefixes, uint32_t n_prefixes,
                      const struct dp_selector *selectors, uint32_t n_selectors, struct dp_rule_table **table);
/*
 * Rules that are others than those that a table was made from, with all that these refer to. Of the table's rules those
 * at the positions `removed` no longer count; each one of `added`, in their order, is tried right before the table's
 * rule at the position in `before`, which is n_rules for one behind all.
 */
struct dp_rule_changes {
    const struct dp_rule *rules;
    const struct dp_remote *remotes;
    const struct dp_prefix *prefixes;
    const struct dp_selector *selectors;
    uint32_t n_rules;
    uint32_t n_remotes;
    uint32_t n_prefixes;
    uint32_t n_selectors;
    const uint32_t *removed;
    const struct dp_rule *added;
    const uint32_t *before;
    uint32_t n_removed;
    uint32_t n_added;
};

/*
 * The table of now as a patch on one made by dp_rule_table_new, or on what a patch is on that has fewer of its rules
 * removed: it has a reference to that one, and decides as if it was made anew. DP_E_LIMIT where it better is.
 */
int dp_rule_table_patch(const struct dp_rule_table *before, const struct dp_rule_changes *changes,
                        struct dp_rule_table **table);
/* Where the first of `n` numbers is that is this one; `n` for none. */
uint32_t dp_rule_position(const uint32_t *numbers, uint32_t n, uint32_t number);
void dp_rule_table_free(struct dp_rule_table *table);
/* Bytes that the table occupies. */
uint64_t dp_rule_table_size(const struct dp_rule_table *table);
/* The rule number that decides, 0 when none matches; `action` is set to DP_ALLOW or DP_DENY. */
uint32_t dp_rule_table_lookup(const struct dp_rule_table *table, const uint8_t *remote, uint32_t selector,
                              uint32_t *action);
/* The positions among the table's rules that decide `n` questions, 32 at most, DP_NO_MATCH for none. */
void dp_rule_table_find_many(const struct dp_rule_table *table, const uint8_t *const *remotes,
                             const uint32_t *selectors, uint32_t n, uint32_t *found);

/* ---- who holds which address (SPEC 7, first point) ---- */

/* An address or prefix that an instance holds; `virtual_ip` is 1 for an allowed address pair. */
struct dp_holding {
    struct dp_prefix prefix;
    uint32_t family;
    uint32_t zone;
    uint32_t virtual_ip;
};

/*
 * A MAC of an instance (balancer = 0) or of a load balancer (its number, from 1; `has_port`: an interface of its own).
 * `family`: 0 for that of an interface; else it is a virtual MAC, which goes with the virtual IPs of `pair` alone.
 */
struct dp_mac {
    uint8_t mac[6];
    uint8_t has_port;
    uint8_t family;
    uint32_t zone;
    uint32_t balancer;
    struct dp_prefix pair;
};

/*
 * Load balancer `balancer` (from 1) has this address; or this backend, with transfer_client_ip (SPEC 3.5). `has_port`:
 * it has an interface of its own, and where ports are known it is nowhere else.
 */
struct dp_balancer_address {
    uint8_t address[16];
    uint32_t family;
    uint32_t balancer;
    uint32_t has_port;
};
struct dp_backend {
    uint32_t balancer;
    uint32_t zone;
};

struct dp_endpoints;

int dp_endpoints_new(const struct dp_holding *holdings, uint32_t n_holdings, const struct dp_mac *macs, uint32_t n_macs,
                     const struct dp_balancer_address *balancers, uint32_t n_balancers,
                     const struct dp_backend *backends, uint32_t n_backends, struct dp_endpoints **endpoints);
void dp_endpoints_free(struct dp_endpoints *endpoints);

/* cffi: end */

#endif
