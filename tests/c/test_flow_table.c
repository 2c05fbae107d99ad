/*
 * test_flow_table.c: the connection table's index against an array: what was inserted is found, what was removed is
 * not, through growth, deletion by shifting back, both families, and a larger room; and that memory can be had before.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* mincore */
#endif
#include "check.h"
#include "flow_table.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { KEYS = 6000, STEPS = 200000 };

static uint64_t random_state = 88172645463325252u;

static uint32_t below(uint32_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 33) % n;
}

static struct dp_flow_key key_of(uint32_t n)
{
    struct dp_flow_key key = {.family = n % 3 ? 4 : 6, .zone_protocol = (n % 7) << 8 | 6};

    key.local.word[0] = 0x0a000001;
    key.remote.word[0] = n / 64;
    if (key.family == 6) {
        key.remote.word[3] = n / 4;
        key.vlans = n % 4 ? DP_KEY_IPV4 | n % 4 : 0;
    }
    key.local_port = 443;
    key.remote_port = (uint16_t)(n % 64);
    return key;
}

static void test_against_an_array(void)
{
    static uint32_t entry[KEYS];
    static const uint64_t seed[2] = {1, 2};
    struct dp_flow_table table;
    uint32_t count = 0, refused = 0, room = KEYS / 2;

    if (!CHECK_EQUAL(dp_flow_table_init(&table, room, seed), 0))
        return;
    for (int step = 0; step < STEPS; step++) {
        uint32_t n = below(KEYS);
        struct dp_flow_key key = key_of(n);
        uint32_t hash = dp_flow_hash(&table.secret, &key);

        if (!CHECK_EQUAL(dp_flow_table_find(&table, &key, hash), entry[n]))
            return;
        if (entry[n]) {
            dp_flow_table_remove(&table, entry[n]);
            entry[n] = 0;
            count--;
        } else {
            /* Between a look-up in vain and its entry, others come and go. */
            uint32_t other = below(KEYS), end;
            struct dp_flow_key its_key = key_of(other);
            uint32_t its_hash = dp_flow_hash(&table.secret, &its_key);
            struct dp_vacancy vacancy = {.rearranged = table.rearranged, .hash = hash};

            if (!CHECK(dp_flow_table_first(&table, hash, &end) || end == table.vacancy.at))
                return;
            vacancy.at = end;
            if (other != n && entry[other]) {
                dp_flow_table_remove(&table, entry[other]);
                entry[other] = 0;
                count--;
                CHECK(!dp_flow_table_is_vacant(&table, &vacancy));
            } else if (other != n && count < room) {
                entry[other] = dp_flow_table_insert(&table, &its_key, its_hash);
                count++;
            }
            entry[n] = dp_flow_table_insert(&table, &key, hash);
            refused += entry[n] == 0;
            count += entry[n] != 0;
            if (!CHECK(entry[n] || count == room))
                return;
        }
        if (!CHECK_EQUAL(table.count, count))
            return;
        if (step == STEPS / 2) {
            CHECK(refused > 0);
            room = KEYS;
            CHECK_EQUAL(dp_flow_table_resize(&table, room), 0);
        }
    }
    for (uint32_t n = 0; n < KEYS; n++) {
        struct dp_flow_key key = key_of(n);

        if (!CHECK_EQUAL(dp_flow_table_find(&table, &key, dp_flow_hash(&table.secret, &key)), entry[n]))
            break;
    }
    dp_flow_table_release(&table);
}

/* SPEC 4.9: another seed, another hash. */
static void test_the_hash_is_keyed(void)
{
    static const uint64_t seeds[2][2] = {{1, 2}, {1, 3}};
    struct dp_hash_secret secrets[2];
    uint32_t same = 0;

    dp_hash_secret_init(&secrets[0], seeds[0]);
    dp_hash_secret_init(&secrets[1], seeds[1]);
    for (uint32_t n = 0; n < KEYS; n++) {
        struct dp_flow_key key = key_of(n);

        same += dp_flow_hash(&secrets[0], &key) == dp_flow_hash(&secrets[1], &key);
    }
    CHECK(same < 3);
}

/* Pages of an array that are not in memory. */
static size_t absent(const void *array, size_t bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)array & ~(page - 1);
    size_t n = ((uintptr_t)array + bytes - begin + page - 1) / page, found = 0;
    unsigned char *here = calloc(n, 1);

    if (!CHECK(here != NULL) || !CHECK_EQUAL(mincore((void *)begin, n * page, here), 0))
        n = 0;
    for (size_t i = 0; i < n; i++)
        found += !(here[i] & 1);
    free(here);
    return found;
}

/* Nothing is touched, or laid anew, for an entry that there is room for; what was in before is still found. */
static void test_populated(void)
{
    static const uint64_t seed[2] = {1, 2};
    struct dp_flow_table table;
    uint32_t room = 100000, early = 10;
    const uint32_t *slots;

    if (!CHECK_EQUAL(dp_flow_table_init(&table, 1u << 30, seed), 0))
        return;
    /* A bound that is far away is not paid for. */
    CHECK_EQUAL(dp_flow_table_populate(&table, 1), 0);
    CHECK(dp_flow_table_bytes(&table) < room);
    dp_flow_table_release(&table);
    if (!CHECK_EQUAL(dp_flow_table_init(&table, room, seed), 0))
        return;
    for (uint32_t n = 0; n < early; n++) {
        struct dp_flow_key key = key_of(n);

        CHECK_EQUAL(dp_flow_table_insert(&table, &key, dp_flow_hash(&table.secret, &key)), n + 1);
    }
    CHECK(dp_flow_table_bytes(&table) < room);
    if (!CHECK_EQUAL(dp_flow_table_populate(&table, 2 * room), 0))
        return;
    slots = table.slots;
    CHECK_EQUAL(absent(table.entries, (room + 1) * sizeof *table.entries), 0);
    CHECK_EQUAL(absent(table.hashes, (room + 1) * sizeof *table.hashes), 0);
    CHECK_EQUAL(absent(table.slots, ((size_t)table.slot_mask + 1) * sizeof *table.slots), 0);
    CHECK(dp_flow_table_bytes(&table) >= room * (sizeof *table.entries + sizeof *table.hashes + sizeof *table.slots));
    for (uint32_t n = early; n <= room; n++) {
        struct dp_flow_key key = key_of(n);

        if (!CHECK_EQUAL(dp_flow_table_insert(&table, &key, dp_flow_hash(&table.secret, &key)), n < room ? n + 1 : 0))
            break;
    }
    CHECK(table.slots == slots);
    for (uint32_t n = 0; n < early; n++) {
        struct dp_flow_key key = key_of(n);

        CHECK_EQUAL(dp_flow_table_find(&table, &key, dp_flow_hash(&table.secret, &key)), n + 1);
    }
    dp_flow_table_release(&table);
}

int main(void)
{
    RUN(test_against_an_array);
    RUN(test_populated);
    RUN(test_the_hash_is_keyed);
    return check_result("test_flow_table");
}
