/*
 * test_real_captures.c: every capture of a folder through the whole engine, under the sanitizers: nothing crashes,
 * nothing hangs, what is broken is named (SPEC 7, exit status 3).
 *
 * The folder is named by the variable CAPTURES (default ../shared/captures); without it there is nothing to do. One
 * instance holds every address, so each packet is checked in both directions.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include "check.h"
#include "dp_captures.h"
#include "dp_connections.h"
#include "settings.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum { BATCH = 512 };

static struct dp_plane *new_plane(void)
{
    static const uint64_t seed[2] = {1, 2};
    struct dp_conntrack_config config = settings_in_which_all_goes_on();
    struct dp_selector any = {0, 0xffffff};
    struct dp_rule rule = {1, DP_REMOTE_ANY, 0, 1, DP_ALLOW};
    struct dp_holding holdings[2] = {{{{0}, 0}, 4, 0, 1}, {{{0}, 0}, 6, 0, 1}};
    struct dp_rule_table *table[2];
    struct dp_endpoints *endpoints;
    struct dp_zone_tables zone = {0};
    struct dp_plane *plane = NULL;

    if (dp_plane_new(&config, seed, 1, &plane) < 0 ||
        dp_endpoints_new(holdings, 2, NULL, 0, NULL, 0, NULL, 0, &endpoints) < 0 ||
        dp_rule_table_new(4, &rule, 1, NULL, 0, NULL, 0, &any, 1, &table[0]) < 0 ||
        dp_rule_table_new(6, &rule, 1, NULL, 0, NULL, 0, &any, 1, &table[1]) < 0)
        abort();
    for (int d = 0; d < 2; d++)
        for (int f = 0; f < 2; f++)
            zone.table[d][f] = table[f];
    struct dp_policy_update update = {.zones = &zone, .n_zones = 1, .endpoints = endpoints, .config = &config};
    if (dp_plane_update(plane, &update) < 0)
        abort();
    dp_endpoints_free(endpoints);
    dp_rule_table_free(table[0]);
    dp_rule_table_free(table[1]);
    return plane;
}

static void flush(struct dp_plane *plane)
{
    struct dp_connection_filter all = {.zone = -1, .origin = -1, .protocol = -1, .disconnected = -1};

    dp_plane_flush(plane, &all);
    CHECK_EQUAL(dp_plane_count(plane, &all, NULL), 0);
}

static void replay(const char *directory, const char *name)
{
    static struct dp_record records[BATCH];
    static struct dp_flow flows[BATCH];
    char path[4096];
    struct dp_capture *capture;
    struct dp_record *of[] = {records};
    struct dp_replay *merged;
    struct dp_capture_status status;
    struct dp_plane *plane = new_plane();
    struct dp_counters counters;
    uint64_t packets = 0;
    int fd, n;

    snprintf(path, sizeof path, "%s/%s", directory, name);
    fd = open(path, O_RDONLY);
    if (!CHECK(fd >= 0) || dp_capture_open(fd, NULL, &capture) < 0 || dp_replay_new(&capture, 1, &merged) < 0 ||
        dp_replay_judge_by(merged, &plane, 1) < 0)
        return;
    while ((n = dp_replay_run(merged, UINT64_MAX, of, flows, NULL, BATCH)) > 0) {
        for (int i = 0; i < n; i++)
            CHECK(records[i].verdict < DP_VERDICTS && records[i].checks <= 2);
        packets += (uint64_t)n;
    }
    CHECK_EQUAL(n, 0);
    dp_capture_status(capture, &status);
    dp_plane_counters(plane, &counters);
    if (!CHECK_EQUAL(status.packets, packets) || !CHECK(counters.entries <= 300) ||
        !CHECK(status.error == 0 || status.detail[0]))
        fprintf(stderr, "  in %s\n", name);
    flush(plane);
    dp_replay_free(merged);
    dp_capture_free(capture);
    dp_plane_free(plane);
    close(fd);
}

int main(void)
{
    const char *directory = getenv("CAPTURES");
    DIR *listing;
    struct dirent *entry;
    int files = 0;

    if (!directory)
        directory = "../shared/captures";
    listing = opendir(directory);
    if (!listing) {
        printf("test_real_captures: %s is not there, nothing replayed\n", directory);
        return 0;
    }
    while ((entry = readdir(listing))) {
        if (entry->d_name[0] == '.' || strstr(entry->d_name, ".tsv"))
            continue;
        replay(directory, entry->d_name);
        files++;
    }
    closedir(listing);
    printf("test_real_captures: %d captures replayed\n", files);
    CHECK(files > 0);
    return check_result("test_real_captures");
}
