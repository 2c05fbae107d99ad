/*
 * judges.c: judges.h in code: where a frame goes, the threads, a run.
 *
 * A ROUND is one piece of a run, laid out by the caller's thread in the lists of the shards. Threads wait for its
 * number under a lock, and the caller waits under the same one until the last of them has done.
 */
#include "judges.h"

#include "../bytes.h"
#include "../control_traffic.h"
#include "../link.h"
#include "../pipeline.h"
#include "../shard.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

enum {
    PIECE = 1024,
    /* So few frames are judged sooner than a thread is woken. */
    FEW = 128,
    NOT_PLAIN = DP_SHARDS_MAX
};

struct judge {
    struct dp_judges *judges;
    uint32_t number; /* of its shard */
    pthread_t thread;
    struct dp_selection selection;
    uint32_t which[PIECE];
};

struct dp_judges {
    struct dp_plane *plane;
    uint32_t started; /* threads; the first shard is the caller's */
    pthread_mutex_t lock;
    pthread_cond_t begun;
    pthread_cond_t done;
    uint64_t round;
    uint32_t busy;
    bool ending;
    /* the round's */
    const struct dp_frame *frames;
    struct dp_record *records;
    struct dp_flow *flows;
    uint64_t now_ns[PIECE];
    struct judge judge[];
};

/* ---- where a frame goes ---- */

static bool is_asked_of_dhcp(uint16_t port)
{
    return port == DP_DHCP_SERVER || port == DP_DHCP_CLIENT || port == DP_DHCPV6_SERVER || port == DP_DHCPV6_CLIENT;
}

/*
 * The shard of a plain frame of TCP or UDP over Ethernet, which are most, without all of it being read; NOT_PLAIN
 * for any other. It is that of the addresses even where the packet turns out to be malformed, which every shard says
 * alike.
 */
static uint32_t shard_of_plain(uint32_t shards, const struct dp_frame *frame)
{
    const uint8_t *p = frame->data + 14;
    union dp_address a = {{0}}, b = {{0}};
    uint32_t header;
    uint8_t protocol;

    if (frame->link != DP_LINK_ETHERNET || frame->captured < 14 + 40 + 4)
        return NOT_PLAIN;
    switch (dp_get16(p - 2)) {
    case DP_ETHERTYPE_IPV4:
        if (p[0] != 0x45)
            return NOT_PLAIN;
        memcpy(&a, p + 12, 4);
        memcpy(&b, p + 16, 4);
        protocol = p[9];
        header = 20;
        break;
    case DP_ETHERTYPE_IPV6:
        memcpy(&a, p + 8, 16);
        memcpy(&b, p + 24, 16);
        protocol = p[6];
        header = 40;
        break;
    default:
        return NOT_PLAIN;
    }
    if (protocol != DP_PROTO_TCP && (protocol != DP_PROTO_UDP || is_asked_of_dhcp(dp_get16(p + header + 2))))
        return NOT_PLAIN;
    return dp_shard_of(shards, header == 20 ? 4 : 6, &a, &b);
}

/* The shard of any frame, and whether no other may be judged beside it. */
static uint32_t shard_of(uint32_t shards, const struct dp_frame *frame, bool *alone)
{
    uint32_t plain = shard_of_plain(shards, frame);
    struct dp_packet packet;

    *alone = false;
    if (plain != NOT_PLAIN)
        return plain;
    dp_packet_parse(frame, &packet);
    *alone = packet.protocol == DP_PROTO_UDP && dp_may_be_control(&packet);
    return dp_may_be_control(&packet) && !*alone && !packet.fragment ? 0 : dp_shard_of_addresses(shards, &packet, 0);
}

struct dp_engine *dp_judges_alone(struct dp_judges *j, const struct dp_frame *frame)
{
    bool alone;

    return j->plane->shard[shard_of(j->plane->shards, frame, &alone)];
}

void dp_judges_follow(struct dp_judges *j, const struct dp_engine *engine)
{
    for (uint32_t i = 0; i < j->plane->shards; i++) {
        struct dp_engine *other = j->plane->shard[i];

        if (other == engine)
            continue;
        other->frames = engine->frames;
        dp_conntrack_advance(&other->conntrack, engine->conntrack.now);
        dp_fragments_expire(other->fragments, other->conntrack.now);
    }
}

/* ---- threads ---- */

static void judge_share(struct dp_judges *j, uint32_t number)
{
    dp_engine_process_selected(j->plane->shard[number], j->frames, &j->judge[number].selection, j->records, j->flows);
}

static void *run(void *argument)
{
    struct judge *judge = argument;
    struct dp_judges *j = judge->judges;

    pthread_mutex_lock(&j->lock);
    for (uint64_t seen = 0;;) {
        while (j->round == seen && !j->ending)
            pthread_cond_wait(&j->begun, &j->lock);
        if (j->ending)
            break;
        seen = j->round;
        pthread_mutex_unlock(&j->lock);
        judge_share(j, judge->number);
        pthread_mutex_lock(&j->lock);
        if (--j->busy == 0)
            pthread_cond_signal(&j->done);
    }
    pthread_mutex_unlock(&j->lock);
    return NULL;
}

/* Signals are for the threads that know them. */
static int start(struct dp_judges *j)
{
    sigset_t all, before;
    int error = 0;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (j->started + 1 < j->plane->shards && !error) {
        struct judge *judge = &j->judge[j->started + 1];

        error = pthread_create(&judge->thread, NULL, run, judge);
        j->started += !error;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error ? DP_E_MEMORY : 0;
}

int dp_judges_new(struct dp_plane *plane, struct dp_judges **judges)
{
    struct dp_judges *j = calloc(1, sizeof *j + plane->shards * sizeof j->judge[0]);
    int error;

    *judges = NULL;
    if (!j)
        return DP_E_MEMORY;
    j->plane = plane;
    pthread_mutex_init(&j->lock, NULL);
    pthread_cond_init(&j->begun, NULL);
    pthread_cond_init(&j->done, NULL);
    for (uint32_t i = 0; i < plane->shards; i++) {
        struct judge *judge = &j->judge[i];

        judge->judges = j;
        judge->number = i;
        judge->selection = (struct dp_selection){.which = judge->which, .now_ns = j->now_ns};
        plane->shard[i]->first = plane->shard[0];
    }
    error = start(j);
    if (error)
        dp_judges_free(j);
    else
        *judges = j;
    return error;
}

void dp_judges_free(struct dp_judges *j)
{
    if (!j)
        return;
    pthread_mutex_lock(&j->lock);
    j->ending = true;
    pthread_cond_broadcast(&j->begun);
    pthread_mutex_unlock(&j->lock);
    for (uint32_t i = 1; i <= j->started; i++)
        pthread_join(j->judge[i].thread, NULL);
    pthread_cond_destroy(&j->begun);
    pthread_cond_destroy(&j->done);
    pthread_mutex_destroy(&j->lock);
    free(j);
}

/* ---- a run ---- */

/* Has what was laid out judged: by all threads, or by this one. */
static void judge_round(struct dp_judges *j, uint32_t n)
{
    uint32_t shards = j->plane->shards;

    if (n < FEW || j->judge[0].selection.n == n) {
        for (uint32_t i = 0; i < shards; i++)
            if (j->judge[i].selection.n)
                judge_share(j, i);
    } else {
        pthread_mutex_lock(&j->lock);
        j->busy = shards - 1;
        j->round++;
        pthread_cond_broadcast(&j->begun);
        pthread_mutex_unlock(&j->lock);
        judge_share(j, 0);
        pthread_mutex_lock(&j->lock);
        while (j->busy)
            pthread_cond_wait(&j->done, &j->lock);
        pthread_mutex_unlock(&j->lock);
    }
    for (uint32_t i = 0; i < shards; i++)
        j->judge[i].selection.n = 0;
}

static void lay(struct dp_judges *j, uint32_t shard, uint32_t at)
{
    struct judge *judge = &j->judge[shard];

    judge->which[judge->selection.n++] = at;
}

/* All shards are at the end of a piece of n frames. */
static void end_piece(struct dp_judges *j, uint64_t first, uint32_t n, uint64_t now)
{
    for (uint32_t i = 0; i < j->plane->shards; i++) {
        struct dp_engine *engine = j->plane->shard[i];

        engine->frames = first + n;
        dp_conntrack_advance(&engine->conntrack, now);
        dp_fragments_expire(engine->fragments, now);
    }
    dp_plane_balance(j->plane);
}

static void process_piece(struct dp_judges *j, uint32_t n)
{
    uint32_t shards = j->plane->shards, laid = 0;
    const struct dp_engine *first = j->plane->shard[0];
    bool all_alone = dp_endpoints_has_shared(first->policy->endpoints);
    uint64_t number = first->frames, now = first->conntrack.now;

    for (uint32_t i = 0; i < shards; i++)
        j->judge[i].selection.first = number;
    for (uint32_t i = 0; i < n; i++) {
        const struct dp_frame *frame = &j->frames[i];
        bool alone;
        uint32_t shard = shard_of(shards, frame, &alone);

        now = frame->time_ns > now ? frame->time_ns : now;
        j->now_ns[i] = now;
        alone = alone || all_alone;
        if (alone && laid) {
            judge_round(j, laid);
            laid = 0;
        }
        lay(j, shard, i);
        laid++;
        if (alone) {
            judge_round(j, 1);
            laid = 0;
        }
    }
    if (laid)
        judge_round(j, laid);
    for (uint32_t i = 0; i < n; i++)
        if (j->records[i].verdict == DP_DENY)
            dp_engine_count_denied(j->plane->shard[0], &j->frames[i], &j->records[i]);
    end_piece(j, number, n, now);
}

void dp_judges_process(struct dp_judges *j, const struct dp_frame *frames, uint32_t n, struct dp_record *records,
                       struct dp_flow *flows)
{
    for (uint32_t i = 0, piece; i < n; i += piece) {
        piece = n - i < PIECE ? n - i : PIECE;
        j->frames = frames + i;
        j->records = records + i;
        j->flows = flows ? flows + i : NULL;
        process_piece(j, piece);
    }
}
