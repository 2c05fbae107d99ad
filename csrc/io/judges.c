/*
 * judges.c: judges.h in code: threads, the ring of pieces, a stream.
 *
 * THE RING has PIECES places. What becomes of piece number k, counted through all streams:
 *
 *   laid      by who holds `reading` (piece.h); then `laid` is k + 1
 *   judged    by the thread of each shard, its own share, piece by piece; then that judge's `done` is k + 1
 *   finished  by who holds `reading`, when all have judged it: its denied flows are counted, in the order of the
 *             frames, and what it was brought from is given back; then `finished` is k + 1
 *
 * A thread that is less than AHEAD pieces from the last one laid lays the next, if it has laid that one too, or has
 * nothing else to do; if nobody else is about it, and there is a free place. Else it judges, else it waits. `ended`
 * says that no more may be laid: then only the caller goes on, once all that was laid is judged.
 */
#include "judges.h"

#include "events.h"
#include "frame_shard.h"
#include "piece.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    PIECES = 12,
    AHEAD = 6,
    /* So few frames are judged sooner than a thread is woken. */
    FEW = 128,
    /* The bound is shared out behind so many frames at least, and at most. */
    BALANCE_LEAST = 1024,
    BALANCE_MOST = 1 << 20,
    CACHE_LINE = DP_CACHE_ALIGN
};
_Static_assert(PIECES *DP_PIECE == DP_JUDGES_AHEAD, "all that the ring holds");
_Static_assert(DP_WAITING_MAX + DP_JUDGES_AHEAD + DP_PIECE <= DP_RESOLVED_MAX, "whether a fragment may wait does not "
                                                                               "depend on who judges");

struct judge {
    _Alignas(CACHE_LINE) struct dp_judges *judges;
    uint32_t number; /* of its shard */
    pthread_t thread;
    struct dp_piece *own[PIECES];
    _Alignas(CACHE_LINE) _Atomic uint64_t done;
    _Atomic bool waits; /* fragments of its shard do, or did in this stream */
};

/* A stream, as far as it was laid; touched by who holds `reading`. */
struct stream {
    const struct dp_bringer *bringer;
    struct dp_record *records;
    struct dp_flow *flows;
    struct dp_brought rest; /* brought and not laid yet */
    uint64_t given;         /* the token of what was brought before */
    bool all_alone;
    bool alone; /* the next one is */
    uint32_t n; /* frames laid */
    uint64_t number;
    uint64_t now;
};

struct dp_judges {
    struct dp_plane *plane;
    uint32_t started;               /* threads; the first shard is the caller's */
    int callers_cpu;                /* where it ran when they were */
    struct dp_piece *piece[PIECES]; /* each one of those of the judge who has laid it */
    /* of who holds `reading` */
    pthread_mutex_t reading;
    struct stream stream;
    uint64_t finished;
    uint64_t until_balance; /* frames */
    uint64_t consequences[DP_CAUSES];
    /* of all */
    _Alignas(CACHE_LINE) _Atomic uint64_t laid;
    _Atomic uint32_t reader; /* who has laid last */
    _Atomic bool ended;
    _Alignas(CACHE_LINE) struct dp_events events;
    _Atomic bool leaving;
    struct judge judge[];
};

/* ---- judging ---- */

static struct dp_piece *piece_of(const struct dp_judges *j, uint64_t number)
{
    return j->piece[number % PIECES];
}

/* The frames of a piece that a shard has. Behind it the shard is where the others are. */
static void judge_share(struct dp_judges *j, struct dp_piece *piece, uint32_t number)
{
    struct dp_engine *engine = j->plane->shard[number];

    dp_piece_judge(piece, engine, number);
    if (dp_fragments_waiting(engine->fragments) || engine->n_resolved)
        atomic_store_explicit(&j->judge[number].waits, true, memory_order_relaxed);
}

/* What all shards have judged; held is `reading`. */
static void finish(struct dp_judges *j, const struct dp_piece *piece)
{
    const struct stream *s = &j->stream;

    dp_piece_count_denied(piece, j->plane->shards, j->plane->shard[0]->denied, j->consequences);
    if (s->bringer->give_back)
        s->bringer->give_back(s->bringer->owner, piece->token);
}

/* Finishes pieces up to the first that some shard has not judged. */
static void finish_judged(struct dp_judges *j)
{
    uint64_t judged = atomic_load_explicit(&j->laid, memory_order_relaxed);

    for (uint32_t i = 0; i < j->plane->shards; i++) {
        uint64_t done = atomic_load_explicit(&j->judge[i].done, memory_order_acquire);

        judged = done < judged ? done : judged;
    }
    for (; j->finished < judged; j->finished++)
        finish(j, piece_of(j, j->finished));
}

/* ---- laying; held is `reading` ---- */

/* The piece of `me` that is the next to be laid. */
static struct dp_piece *place(struct dp_judges *j, uint32_t me)
{
    uint64_t at = atomic_load_explicit(&j->laid, memory_order_relaxed) % PIECES;

    atomic_store_explicit(&j->reader, me, memory_order_relaxed);
    return j->piece[at] = j->judge[me].own[at];
}

/* Puts the next `n` frames of the stream into a piece. */
static void put(struct dp_piece *piece, struct stream *s, uint32_t shards, uint32_t mine, const uint8_t *shard,
                uint32_t n)
{
    dp_piece_lay(piece, s->rest.frames, shard, n, shards, mine, s->now);
    s->rest.frames += n;
    s->rest.n -= n;
    piece->number = s->number;
    piece->token = s->rest.n ? s->given : s->rest.token;
    piece->records = s->records + s->n;
    piece->flows = s->flows ? s->flows + s->n : NULL;
    s->now = piece->now;
    s->number += n;
    s->n += n;
}

/* Lays the frames that come next, as many as may be judged beside each other, in the place of the next piece, which is
 * returned; one without frames at the end of the stream, and where the next frame is to be judged alone. */
static struct dp_piece *lay(struct dp_judges *j, uint32_t me, uint32_t most)
{
    struct dp_piece *piece = place(j, me);
    uint32_t shards = j->plane->shards, end, k;
    struct stream *s = &j->stream;
    uint8_t shard[DP_PIECE];

    if (!s->rest.n) {
        s->given = s->rest.token;
        s->rest = s->bringer->next(s->bringer->owner, me);
    }
    end = s->rest.n < most ? s->rest.n : most;
    k = s->all_alone ? 0 : dp_frame_shards(shards, s->rest.frames, end, shard);
    s->alone = k < end;
    put(piece, s, shards, me, shard, k);
    j->until_balance -= k;
    return piece;
}

static uint32_t most_of(const struct dp_judges *j)
{
    return j->until_balance < DP_PIECE ? (uint32_t)j->until_balance : DP_PIECE;
}

/* Lays one piece more, or finds that no more is to be laid now. */
static void lay_next(struct dp_judges *j, uint32_t me)
{
    uint32_t most = most_of(j);

    if (most && lay(j, me, most)->n)
        atomic_fetch_add_explicit(&j->laid, 1, memory_order_release);
    else
        atomic_store_explicit(&j->ended, true, memory_order_release);
    dp_events_tell(&j->events);
}

/* Lays a piece if this is the time for it, and nobody else does. */
static bool may_lay(struct dp_judges *j, uint32_t me, uint64_t mine)
{
    uint64_t ahead = atomic_load_explicit(&j->laid, memory_order_relaxed) - mine;
    bool laid = false;

    if (atomic_load_explicit(&j->ended, memory_order_acquire) || ahead >= AHEAD ||
        (ahead && atomic_load_explicit(&j->reader, memory_order_relaxed) != me) ||
        pthread_mutex_trylock(&j->reading) != 0)
        return false;
    if (!atomic_load_explicit(&j->ended, memory_order_acquire)) {
        finish_judged(j);
        laid = atomic_load_explicit(&j->laid, memory_order_relaxed) - j->finished < PIECES;
        if (laid)
            lay_next(j, me);
    }
    pthread_mutex_unlock(&j->reading);
    return laid;
}

/* ---- threads ---- */

/* Lays a piece or judges the next; false when there is neither. */
static bool take_part(struct dp_judges *j, struct judge *judge)
{
    uint64_t mine = atomic_load_explicit(&judge->done, memory_order_relaxed);

    if (may_lay(j, judge->number, mine))
        return true;
    if (mine == atomic_load_explicit(&j->laid, memory_order_acquire))
        return false;
    judge_share(j, piece_of(j, mine), judge->number);
    atomic_store_explicit(&judge->done, mine + 1, memory_order_release);
    dp_events_tell(&j->events);
    return true;
}

/*
 * Moves the calling thread to a processor of its own, from where the kernel may move it on. Left to itself it begins
 * where the caller runs, and on a machine that does other things too it may stay there for seconds.
 */
static void spread(uint32_t number, int callers)
{
    cpu_set_t all, one;
    int cpu = callers;

    if (sched_getaffinity(0, sizeof all, &all) != 0 || CPU_COUNT(&all) < 2 || cpu < 0)
        return;
    for (uint32_t i = 0; i < number; i++)
        do
            cpu = (cpu + 1) % CPU_SETSIZE;
        while (!CPU_ISSET(cpu, &all));
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    if (sched_setaffinity(0, sizeof one, &one) == 0)
        (void)sched_setaffinity(0, sizeof all, &all);
}

static void *run(void *argument)
{
    struct judge *judge = argument;
    struct dp_judges *j = judge->judges;

    spread(judge->number, j->callers_cpu);

    for (;;) {
        uint64_t seen = atomic_load(&j->events.count);

        if (atomic_load(&j->leaving))
            return NULL;
        if (!take_part(j, judge))
            dp_events_await(&j->events, seen);
    }
}

/* Signals are for the threads that know them. */
static int start(struct dp_judges *j)
{
    sigset_t all, before;
    int error = 0;

    j->callers_cpu = sched_getcpu();
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

static bool has_memory(struct dp_judges *j)
{
    struct dp_engine *first = j->plane->shard[0];
    bool all = true;

    for (uint32_t i = 0; i < PIECES * j->plane->shards; i++) {
        struct dp_piece **own = &j->judge[i / PIECES].own[i % PIECES];

        *own = aligned_alloc(CACHE_LINE, sizeof **own);
        all = all && *own;
    }
    if (!first->denied_waiting)
        first->denied_waiting = dp_denied_new();
    return all && first->denied_waiting;
}

int dp_judges_new(struct dp_plane *plane, struct dp_judges **judges)
{
    size_t size = sizeof(struct dp_judges) + plane->shards * sizeof(struct judge);
    struct dp_judges *j = aligned_alloc(CACHE_LINE, (size + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE);
    int error;

    *judges = NULL;
    if (!j)
        return DP_E_MEMORY;
    memset(j, 0, size);
    j->plane = plane;
    atomic_init(&j->ended, true);
    pthread_mutex_init(&j->reading, NULL);
    dp_events_init(&j->events);
    for (uint32_t i = 0; i < plane->shards; i++) {
        j->judge[i].judges = j;
        j->judge[i].number = i;
        plane->shard[i]->first = plane->shard[0];
    }
    error = has_memory(j) ? start(j) : DP_E_MEMORY;
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
    atomic_store(&j->leaving, true);
    dp_events_tell(&j->events);
    for (uint32_t i = 1; i <= j->started; i++)
        pthread_join(j->judge[i].thread, NULL);
    dp_events_release(&j->events);
    pthread_mutex_destroy(&j->reading);
    for (uint32_t i = 0; i < PIECES * j->plane->shards; i++)
        free(j->judge[i / PIECES].own[i % PIECES]);
    free(j);
}

/* ---- a stream, by its caller ---- */

/* How many frames cannot fill any shard's part: each makes two entries at most. */
static uint64_t frames_without_balance(const struct dp_plane *plane)
{
    uint64_t frames = BALANCE_MOST;

    for (uint32_t i = 0; i < plane->shards; i++) {
        const struct dp_conntrack *ct = &plane->shard[i]->conntrack;
        uint64_t room = ct->limit > ct->table.count ? (ct->limit - ct->table.count) / 2 : 0;

        frames = room < frames ? room : frames;
    }
    return frames > BALANCE_LEAST ? frames : BALANCE_LEAST;
}

/* While all others rest. */
static void judge_here(struct dp_judges *j, struct dp_piece *piece)
{
    for (uint32_t i = 0; i < j->plane->shards; i++)
        judge_share(j, piece, i);
    finish(j, piece);
}

/* The next one was brought, and is judged while all others rest. */
static void judge_alone(struct dp_judges *j)
{
    uint8_t shard = (uint8_t)dp_frame_shard(j->plane->shards, j->stream.rest.frames);
    struct dp_piece *piece = place(j, 0);

    put(piece, &j->stream, j->plane->shards, shard, &shard, 1);
    j->until_balance--;
    judge_here(j, piece);
}

/* All that can be judged beside each other, from a piece on that is laid already, by all threads. */
static void judge_together(struct dp_judges *j)
{
    atomic_fetch_add_explicit(&j->laid, 1, memory_order_release);
    atomic_store_explicit(&j->ended, false, memory_order_release);
    pthread_mutex_unlock(&j->reading);
    dp_events_tell(&j->events);
    for (;;) {
        uint64_t seen = atomic_load(&j->events.count);

        if (take_part(j, &j->judge[0]))
            continue;
        if (atomic_load_explicit(&j->ended, memory_order_acquire)) {
            pthread_mutex_lock(&j->reading);
            finish_judged(j);
            if (j->finished == atomic_load_explicit(&j->laid, memory_order_relaxed))
                return;
            pthread_mutex_unlock(&j->reading);
        }
        dp_events_await(&j->events, seen);
    }
}

uint32_t dp_judges_stream(struct dp_judges *j, const struct dp_bringer *bringer, struct dp_record *records,
                          struct dp_flow *flows)
{
    struct dp_plane *plane = j->plane;
    struct stream *s = &j->stream;

    pthread_mutex_lock(&j->reading);
    for (uint32_t i = 0; i < plane->shards; i++)
        atomic_store_explicit(&j->judge[i].waits, false, memory_order_relaxed);
    *s = (struct stream){.bringer = bringer,
                         .records = records,
                         .flows = flows,
                         .all_alone = dp_endpoints_has_shared(plane->shard[0]->policy->endpoints),
                         .number = plane->shard[0]->frames,
                         .now = plane->shard[0]->conntrack.now};
    for (;;) {
        struct dp_piece *piece;

        if (j->until_balance == 0) {
            dp_plane_balance(plane);
            j->until_balance = frames_without_balance(plane);
        }
        piece = lay(j, 0, most_of(j));
        if (piece->n >= FEW)
            judge_together(j);
        else if (piece->n)
            judge_here(j, piece);
        else if (s->alone)
            judge_alone(j);
        else
            break;
    }
    for (uint32_t cause = 0; cause < DP_CAUSES; cause++)
        plane->shard[0]->counters.consequences[cause] += j->consequences[cause];
    memset(j->consequences, 0, sizeof j->consequences);
    pthread_mutex_unlock(&j->reading);
    return s->n;
}

bool dp_judges_wait(const struct dp_judges *j)
{
    for (uint32_t i = 0; i < j->plane->shards; i++)
        if (atomic_load_explicit(&j->judge[i].waits, memory_order_relaxed))
            return true;
    return false;
}

static struct dp_brought all_at_once(void *owner, uint32_t thread)
{
    struct dp_brought *all = owner, brought = *all;

    (void)thread;

    all->n = 0;
    return brought;
}

void dp_judges_process(struct dp_judges *j, const struct dp_frame *frames, uint32_t n, struct dp_record *records,
                       struct dp_flow *flows)
{
    struct dp_brought all = {.frames = frames, .n = n};
    const struct dp_bringer bringer = {.owner = &all, .next = all_at_once};

    dp_judges_stream(j, &bringer, records, flows);
}

/* ---- one frame, by somebody else ---- */

struct dp_engine *dp_judges_alone(struct dp_judges *j, const struct dp_frame *frame)
{
    return j->plane->shard[dp_frame_shard(j->plane->shards, frame)];
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
