/*
 * acl.c: DPDK's librte_acl on a set of rules: build time, memory, and look-ups in bursts of 32.
 *
 *   acl RULES QUESTIONS ANSWERS CPU
 *
 * RULES and QUESTIONS are words of 32 bits as rule_sets.py describes them. Prints the seconds that building took, the
 * bytes that the built context holds, and for each of five passes nanoseconds a look-up; writes to ANSWERS for each
 * question the place of the first rule that matches, from 1, or 0.
 *
 * A key is what librte_acl wants of an IPv4 packet: the protocol's byte, then groups of four bytes in network order.
 */
#include <rte_acl.h>
#include <rte_eal.h>
#include <rte_malloc.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { BURST = 32, PASSES = 5, ANY_PROTOCOL = 256 };
enum { PROTOCOL, SOURCE, PORT, UNUSED, FIELDS };

struct key {
    uint8_t protocol;
    uint8_t pad[3];
    uint32_t source;
    uint16_t port;
    uint16_t unused;
};

struct rule {
    uint32_t address, bits, protocol, low, high;
};

struct question {
    uint32_t address, selector;
};

RTE_ACL_RULE_DEF(acl_rule, FIELDS);

static const struct rte_acl_field_def fields[FIELDS] = {
    {RTE_ACL_FIELD_TYPE_BITMASK, 1, PROTOCOL, 0, offsetof(struct key, protocol)},
    {RTE_ACL_FIELD_TYPE_MASK, 4, SOURCE, 1, offsetof(struct key, source)},
    {RTE_ACL_FIELD_TYPE_RANGE, 2, PORT, 2, offsetof(struct key, port)},
    {RTE_ACL_FIELD_TYPE_RANGE, 2, UNUSED, 2, offsetof(struct key, unused)},
};

static double now(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void need(int condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "acl: %s failed\n", what);
    exit(1);
}

static void *read_all(const char *path, size_t item, size_t *n)
{
    FILE *file = fopen(path, "rb");
    void *all;
    long size;

    need(file && fseek(file, 0, SEEK_END) == 0 && (size = ftell(file)) > 0, path);
    rewind(file);
    all = malloc((size_t)size);
    *n = (size_t)size / item;
    need(all && fread(all, item, *n, file) == *n, path);
    fclose(file);
    return all;
}

static struct rte_acl_ctx *build(const struct rule *rules, size_t n, double *seconds)
{
    struct rte_acl_param parameters = {
        .name = "bench", .rule_size = RTE_ACL_RULE_SZ(FIELDS), .max_rule_num = (uint32_t)n};
    struct rte_acl_config config = {.num_categories = 1, .num_fields = FIELDS};
    struct rte_acl_ctx *context = rte_acl_create(&parameters);
    struct acl_rule *all = calloc(n, sizeof *all);
    double began = now(CLOCK_MONOTONIC);

    need(context && all, "memory");
    memcpy(config.defs, fields, sizeof fields);
    for (size_t i = 0; i < n; i++) {
        const struct rule *r = &rules[i];

        all[i].data =
            (struct rte_acl_rule_data){.category_mask = 1, .priority = (int32_t)(n - i), .userdata = (uint32_t)i + 1};
        all[i].field[PROTOCOL].value.u8 = r->protocol == ANY_PROTOCOL ? 0 : (uint8_t)r->protocol;
        all[i].field[PROTOCOL].mask_range.u8 = r->protocol == ANY_PROTOCOL ? 0 : 0xff;
        all[i].field[SOURCE].value.u32 = r->address;
        all[i].field[SOURCE].mask_range.u32 = r->bits;
        all[i].field[PORT].value.u16 = (uint16_t)r->low;
        all[i].field[PORT].mask_range.u16 = (uint16_t)r->high;
        all[i].field[UNUSED].mask_range.u16 = 0xffff;
    }
    need(rte_acl_add_rules(context, (const struct rte_acl_rule *)all, (uint32_t)n) == 0, "adding rules");
    need(rte_acl_build(context, &config) == 0, "building");
    *seconds = now(CLOCK_MONOTONIC) - began;
    free(all);
    return context;
}

/* Nanoseconds a look-up, of processor time. */
static double look_up(const struct rte_acl_ctx *context, const struct key *keys, size_t n, uint32_t *answers)
{
    const uint8_t *burst[BURST];
    double began = now(CLOCK_THREAD_CPUTIME_ID);

    for (size_t i = 0; i < n; i += BURST) {
        uint32_t some = n - i < BURST ? (uint32_t)(n - i) : BURST;

        for (uint32_t k = 0; k < some; k++)
            burst[k] = (const uint8_t *)&keys[i + k];
        rte_acl_classify(context, burst, answers + i, some, 1);
    }
    return (now(CLOCK_THREAD_CPUTIME_ID) - began) / (double)n * 1e9;
}

static void begin(char *cpu)
{
    /* By itself it uses vectors of 256 bits at most. */
    static char widest[] = "--force-max-simd-bitwidth=512";
    char *arguments[] = {"acl", "--no-huge", "--no-pci", "--no-telemetry", "--no-shconf", "--log-level=1", "-m", "6144",
                         "-l",  cpu,         widest};

    need(rte_eal_init(sizeof arguments / sizeof *arguments, arguments) >= 0, "starting DPDK");
}

int main(int argc, char **argv)
{
    size_t n_rules, n;
    struct rule *rules;
    struct question *questions;
    struct rte_malloc_socket_stats before, after;
    struct rte_acl_ctx *context;
    uint32_t *answers;
    struct key *keys;
    double seconds;
    FILE *out;

    if (argc != 5) {
        fprintf(stderr, "usage: acl RULES QUESTIONS ANSWERS CPU\n");
        return 2;
    }
    begin(argv[4]);
    rules = read_all(argv[1], sizeof *rules, &n_rules);
    questions = read_all(argv[2], sizeof *questions, &n);
    keys = calloc(n, sizeof *keys);
    answers = calloc(n, sizeof *answers);
    need(keys && answers, "memory");
    for (size_t i = 0; i < n; i++)
        keys[i] = (struct key){.protocol = (uint8_t)(questions[i].selector >> 16),
                               .source = htonl(questions[i].address),
                               .port = htons((uint16_t)questions[i].selector)};
    rte_malloc_get_socket_stats(0, &before);
    context = build(rules, n_rules, &seconds);
    rte_malloc_get_socket_stats(0, &after);
    printf("build %.6f\nbytes %zu\n", seconds, after.heap_allocsz_bytes - before.heap_allocsz_bytes);
    for (int pass = 0; pass < PASSES; pass++)
        printf("look-up %.3f\n", look_up(context, keys, n, answers));
    out = fopen(argv[3], "wb");
    need(out && fwrite(answers, sizeof *answers, n, out) == n && fclose(out) == 0, argv[3]);
    return 0;
}
