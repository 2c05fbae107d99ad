/*
 * pauses.c: how long packets wait while the firewall is asked and changed.
 *
 *   pauses CONNECTIONS RULES PACKET_CPU CONTROL_CPU
 *
 * One thread judges batches of packets, again and again, and between two of them does what the other thread, which
 * controls, wants of its shard: as a live worker does (csrc/io/worker.h), through the same driver (csrc/plane.h). For
 * each action it prints a line of tab-separated fields: its name, how long it took, the longest piece of work that it
 * had done between two batches (processor time), and the longest time between the ends of two batches, all in
 * microseconds, and how many such times were longer than 100 of them; "nothing" is the loop left to itself.
 *
 * The time between two batches is what the thread needed, page faults and all, and what it waited for; but not what the
 * kernel gave to another program on its processor: where the thread did not sleep it is its processor time.
 *
 * The policy has 4,096 instances, all with the same tables. Inbound connections are of UDP, all allowed by a rule.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* RUSAGE_THREAD */
#endif
#include "made_frame.h"
#include "plane.h"

#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

enum { SERVERS = 4096, BATCH = 32, AT_ONCE = 4096, IDLE_S = 2, LONG_GAP_NS = 100000 };
#define SECOND 1000000000ull

static const struct made_clients clients = {100u << 24, 29};

/* What the packet thread has, and what the control thread wants of it. */
struct loop {
    struct dp_engine *shard;
    uint64_t connections;
    dp_shard_work *_Atomic work;
    void *argument;
    sem_t done;
    _Atomic bool stops;
    _Atomic uint64_t longest_work;
    _Atomic uint64_t longest_gap;
    _Atomic uint64_t long_gaps;
    uint64_t random;
};

/* All that actions work on. */
struct scene {
    struct loop loop;
    struct dp_plane *plane;
    struct dp_plane_driver driver;
    struct dp_conntrack_config config;
    struct dp_endpoints *endpoints;
    struct dp_rule_table *rules;
    struct dp_zone_tables zones[SERVERS];
    uint32_t cut[SERVERS];
    uint64_t disconnected[SERVERS];
    uint32_t n_rules;
    struct dp_saved_connection *saved;
    uint32_t n_saved;
};

static uint64_t read_clock(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static uint64_t monotonic(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

static void need(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "pauses: %s failed\n", what);
    exit(1);
}

static void pin(const char *cpu)
{
    cpu_set_t cpus;

    CPU_ZERO(&cpus);
    CPU_SET((unsigned)atoi(cpu), &cpus);
    need(pthread_setaffinity_np(pthread_self(), sizeof cpus, &cpus) == 0, "staying on a processor");
}

/* ---- the thread of the packets ---- */

static void judge(struct loop *loop, const uint64_t *connections)
{
    static uint8_t bytes[BATCH][MADE_FRAME_MAX];
    static struct dp_frame frames[BATCH];
    static struct dp_record records[BATCH];

    for (uint32_t i = 0; i < BATCH; i++) {
        dp_made_frame(&clients, bytes[i], 60, connections[i], 0);
        frames[i] = (struct dp_frame){monotonic(), bytes[i], 60, 60, DP_LINK_ETHERNET, 0, 0, 0};
    }
    need(dp_engine_process(loop->shard, frames, BATCH, records, NULL) == 0, "judging");
}

static void judge_some(struct loop *loop)
{
    uint64_t picked[BATCH];

    for (uint32_t i = 0; i < BATCH; i++) {
        loop->random = loop->random * 6364136223846793005ull + 1442695040888963407ull;
        picked[i] = (loop->random >> 33) % loop->connections;
    }
    judge(loop, picked);
}

static void open_all(struct loop *loop)
{
    uint64_t next[BATCH];

    for (uint64_t i = 0; i < loop->connections; i += BATCH) {
        for (uint64_t k = 0; k < BATCH; k++)
            next[k] = i + k < loop->connections ? i + k : 0;
        judge(loop, next);
    }
}

/* Where a thread is: the time, the processor time that it had, and how often it slept. */
struct moment {
    uint64_t now;
    uint64_t worked;
    long sleeps;
};

static struct moment moment(void)
{
    struct rusage usage;

    need(getrusage(RUSAGE_THREAD, &usage) == 0, "asking for the thread's usage");
    return (struct moment){monotonic(), read_clock(CLOCK_THREAD_CPUTIME_ID), usage.ru_nvcsw};
}

static void *run_loop(void *argument)
{
    struct loop *loop = argument;
    struct moment before = moment();

    while (!loop->stops) {
        dp_shard_work *work = loop->work;
        struct moment ended;
        uint64_t gap;

        judge_some(loop);
        if (work) {
            uint64_t began = read_clock(CLOCK_THREAD_CPUTIME_ID), took;

            work(loop->shard, loop->argument);
            took = read_clock(CLOCK_THREAD_CPUTIME_ID) - began;
            if (took > loop->longest_work)
                loop->longest_work = took;
            loop->work = NULL;
            sem_post(&loop->done);
        }
        ended = moment();
        gap = ended.sleeps == before.sleeps ? ended.worked - before.worked : ended.now - before.now;
        if (gap > loop->longest_gap)
            loop->longest_gap = gap;
        if (gap > LONG_GAP_NS)
            loop->long_gaps++;
        before = ended;
    }
    return NULL;
}

static void have_done(void *owner, uint32_t number, dp_shard_work *work, void *argument)
{
    struct loop *loop = owner;

    (void)number;
    loop->argument = argument;
    loop->work = work;
    need(sem_wait(&loop->done) == 0, "waiting");
}

/* ---- what is asked and changed ---- */

static const struct dp_connection_filter any = {.zone = -1, .origin = -1, .protocol = -1, .disconnected = -1};

static void nothing(struct scene *s)
{
    struct timespec pause = {IDLE_S, 0};

    (void)s;
    nanosleep(&pause, NULL);
}

static void list(struct scene *s)
{
    static struct dp_connection found[AT_ONCE];
    uint64_t cursor = 0, n = 0;
    int some;

    memset(found, 1, sizeof found);
    while ((some = dp_plane_connections(s->plane, &any, &cursor, found, AT_ONCE)) > 0)
        n += (uint64_t)some;
    need(n == s->loop.connections, "listing all connections");
}

static void count(struct scene *s)
{
    need(dp_plane_count(s->plane, &any, NULL) == s->loop.connections, "counting all connections");
}

static void save(struct scene *s)
{
    uint64_t cursor = 0;
    int some;

    s->n_saved = 0;
    while ((some = dp_plane_save(s->plane, NULL, &cursor, s->saved + s->n_saved, AT_ONCE)) > 0)
        s->n_saved += (uint32_t)some;
    need(s->n_saved == s->loop.connections, "saving all connections");
}

static void counters(struct scene *s)
{
    struct dp_counters found;
    struct dp_rule_counter *rules = calloc(s->n_rules + 1, sizeof *rules);

    need(rules, "memory");
    dp_plane_counters(s->plane, &found);
    dp_plane_rule_counters(s->plane, rules, s->n_rules + 1);
    free(rules);
}

static struct dp_policy_update update_of(struct scene *s, uint32_t n_cut)
{
    return (struct dp_policy_update){.zones = s->zones,
                                     .n_zones = SERVERS,
                                     .endpoints = s->endpoints,
                                     .config = &s->config,
                                     .cut = s->cut,
                                     .n_cut = n_cut,
                                     .disconnected = s->disconnected};
}

/* As when the policy's file is read again and says the same. */
static void reload(struct scene *s)
{
    struct dp_policy_update update = update_of(s, 0);

    need(dp_plane_update(s->plane, &update) == 0, "updating");
}

/* As when a rule of their group changes. */
static void cut_all(struct scene *s)
{
    struct dp_policy_update update = update_of(s, SERVERS);
    uint64_t cut = 0;

    need(dp_plane_update(s->plane, &update) == 0, "updating");
    for (uint32_t i = 0; i < SERVERS; i++)
        cut += s->disconnected[i];
    /* One was revoked before. */
    need(cut + 1 == s->loop.connections, "cutting all connections");
}

static void rehearse(struct scene *s)
{
    struct dp_policy_update update = update_of(s, SERVERS);

    need(dp_plane_rehearse(s->plane, &update) == 0, "rehearsing");
}

/* An address leaves the remote group of the rule that all connections are under. */
static void with_revocation(struct scene *s, int (*made)(struct dp_plane *, struct dp_policy_update *))
{
    struct dp_rule_address left = {.address = {100, 0, 0, 0}, .family = 4, .rule = s->n_rules};
    struct dp_policy_update update = update_of(s, 0);

    update.revocations = &left;
    update.n_revocations = 1;
    need(made(s->plane, &update) == 0, "an update with a revocation");
}

static void rehearse_revocation(struct scene *s)
{
    with_revocation(s, dp_plane_rehearse);
}

static void revoke(struct scene *s)
{
    with_revocation(s, dp_plane_update);
}

static void retire(struct scene *s)
{
    uint8_t *rules = calloc(s->n_rules + 1, 1), *zones = calloc(SERVERS, 1);
    struct dp_retired retired = {.rules = rules, .n_rules = s->n_rules + 1, .zones = zones, .n_zones = SERVERS};

    need(rules && zones, "memory");
    dp_plane_retire(s->plane, &retired);
    free(rules);
    free(zones);
}

/* What was measured so far. */
static void forget(struct loop *loop)
{
    loop->longest_work = loop->longest_gap = loop->long_gaps = 0;
}

static void flush(struct scene *s)
{
    dp_plane_flush(s->plane, &any);
}

static void restore(struct scene *s)
{
    flush(s);
    forget(&s->loop);
    need(dp_plane_restore(s->plane, s->saved, s->n_saved, 0, DP_RESTORE_MISSING, NULL) > 0, "restoring");
}

/* In this order: what is cut is flushed last, and the table is as full at the end as at the begin. */
static const struct action {
    const char *name;
    void (*done)(struct scene *);
} actions[] = {{"nothing", nothing},
               {"list", list},
               {"count", count},
               {"save", save},
               {"counters", counters},
               {"rehearse", rehearse},
               {"rehearse, an address leaves a remote group", rehearse_revocation},
               {"reload", reload},
               {"an address leaves a remote group", revoke},
               {"numbers are taken back", retire},
               {"cut all", cut_all},
               {"flush", flush},
               {"restore", restore}};

static void measure(struct scene *s, const struct action *action)
{
    uint64_t began = monotonic(), took;

    forget(&s->loop);
    action->done(s);
    took = monotonic() - began;
    printf("%s\t%.1f\t%.1f\t%.1f\t%" PRIu64 "\n", action->name, (double)took / 1e3, (double)s->loop.longest_work / 1e3,
           (double)s->loop.longest_gap / 1e3, s->loop.long_gaps);
    fflush(stdout);
}

/* ---- the policy ---- */

/* A last rule allows everything; those before it are about ports of UDP and networks in 100.0.0.0/7 and match nothing.
 */
static struct dp_rule_table *rules_of(uint32_t n)
{
    struct dp_rule *rules = calloc(n, sizeof *rules);
    struct dp_remote *remotes = calloc(n, sizeof *remotes);
    struct dp_prefix *prefixes = calloc(n, sizeof *prefixes);
    struct dp_selector *selectors = calloc(n, sizeof *selectors);
    struct dp_rule_table *table = NULL;

    need(rules && remotes && prefixes && selectors, "memory");
    for (uint32_t i = 0; i < n; i++) {
        bool last = i + 1 == n;
        uint32_t port = 17 << 16 | (20000 + i % 40000);

        rules[i] = (struct dp_rule){i + 1, last ? DP_REMOTE_ANY : (int32_t)i, i, 1, DP_ALLOW};
        remotes[i] = (struct dp_remote){i, 1};
        prefixes[i] = (struct dp_prefix){{(uint8_t)(100 + i % 32), (uint8_t)(i / 32), (uint8_t)(i / 8192)}, 24};
        selectors[i] = last ? (struct dp_selector){0, 0xffffff} : (struct dp_selector){port, port};
    }
    need(dp_rule_table_new(4, rules, n, remotes, n, prefixes, n, selectors, n, &table) == 0, "compiling");
    free(rules);
    free(remotes);
    free(prefixes);
    free(selectors);
    return table;
}

static void put_in_force(struct scene *s)
{
    static struct dp_holding holdings[SERVERS];

    for (uint32_t i = 0; i < SERVERS; i++) {
        holdings[i] = (struct dp_holding){{{172, 16, (uint8_t)(i >> 8), (uint8_t)i}, 32}, 4, i, 0};
        s->cut[i] = i;
        s->zones[i].zone = i;
        s->zones[i].table[DP_INGRESS][0] = s->rules;
    }
    need(dp_endpoints_new(holdings, SERVERS, NULL, 0, NULL, 0, NULL, 0, &s->endpoints) == 0, "making endpoints");
    reload(s);
}

static void begin(struct scene *s, uint64_t connections, uint32_t n_rules)
{
    static const uint64_t seed[2] = {1, 2};

    s->config.max_entries = (uint32_t)connections + (uint32_t)connections / 4;
    for (int state = 0; state < DP_CONN_STATES; state++)
        s->config.timeout_ns[state] = 3600 * SECOND;
    s->n_rules = n_rules;
    s->rules = rules_of(n_rules);
    s->saved = malloc((connections + AT_ONCE) * sizeof *s->saved);
    need(s->saved, "memory");
    /* The one who asks has touched what he gives to be written to. */
    memset(s->saved, 1, (connections + AT_ONCE) * sizeof *s->saved);
    need(dp_plane_new(&s->config, seed, 1, &s->plane) == 0, "making the plane");
    put_in_force(s);
    s->loop.shard = dp_plane_shard(s->plane, 0);
    /* As a live worker does. */
    need(dp_engine_populate(s->loop.shard, s->config.max_entries) == 0, "taking memory");
    s->loop.connections = connections;
    s->loop.random = 1;
    need(sem_init(&s->loop.done, 0, 0) == 0, "a semaphore");
    open_all(&s->loop);
    s->driver = (struct dp_plane_driver){.owner = &s->loop, .run = have_done, .now = monotonic};
    dp_plane_drive(s->plane, &s->driver);
}

static void *run_pinned(void *argument)
{
    void **both = argument;

    pin(both[1]);
    return run_loop(both[0]);
}

int main(int argc, char **argv)
{
    static struct scene s;
    void *both[2] = {&s.loop, NULL};
    pthread_t packets;

    if (argc != 5) {
        fprintf(stderr, "usage: pauses CONNECTIONS RULES PACKET_CPU CONTROL_CPU\n");
        return 2;
    }
    begin(&s, strtoull(argv[1], NULL, 10), (uint32_t)strtoul(argv[2], NULL, 10));
    both[1] = argv[3];
    pin(argv[4]);
    need(pthread_create(&packets, NULL, run_pinned, both) == 0, "starting a thread");
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++)
        measure(&s, &actions[i]);
    s.loop.stops = true;
    pthread_join(packets, NULL);
    dp_plane_drive(s.plane, NULL);
    dp_plane_free(s.plane);
    dp_endpoints_free(s.endpoints);
    dp_rule_table_free(s.rules);
    free(s.saved);
    return 0;
}
