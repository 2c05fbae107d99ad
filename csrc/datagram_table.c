/*
 * datagram_table.c: datagram_table.h in code. A datagram is in three places at once: the chain of its hash, the queue
 * of all by age (for expiry; all live equally long), and, for giving way, the shares of datagrams, or once it is whole
 * the queue of those (oldest first). While any of it waits it is also in the shares of what waits.
 *
 * Packets that wait stand in a pool of their own, chained from their datagram in the order in which they came.
 */
#include "datagram_table.h"

#include "memory.h"

#include <string.h>

_Static_assert(sizeof(struct dp_fragment_key) / 4 <= DP_HASH_WORDS, "a multiplier for each word of the key");
_Static_assert((int)DP_DATAGRAMS <= (int)DP_SHARE_ITEMS, "shares have room for every datagram");

struct dp_fragments *dp_fragments_new(dp_fragment_answered *answered, void *owner, const struct dp_hash_secret *secret)
{
    struct dp_fragments *f = dp_reserve(sizeof *f);

    if (!f)
        return NULL;
    f->answered = answered;
    f->owner = owner;
    f->secret = *secret;
    f->places = DP_WAITING_MAX;
    f->datagrams = dp_shares_new();
    f->waits = dp_shares_new();
    if (!f->datagrams || !f->waits) {
        dp_fragments_free(f);
        return NULL;
    }
    return f;
}

void dp_fragments_free(struct dp_fragments *f)
{
    if (!f)
        return;
    dp_shares_free(f->datagrams);
    dp_shares_free(f->waits);
    dp_unreserve(f, sizeof *f);
}

void dp_fragments_bound(struct dp_fragments *f, uint32_t places)
{
    f->places = places < DP_WAITING_MAX ? places : DP_WAITING_MAX;
}

uint32_t dp_fragments_waiting(const struct dp_fragments *f)
{
    return f->n_waiting;
}

void dp_fragments_count(const struct dp_fragments *f, struct dp_counters *counters)
{
    counters->fragments_waiting = f->n_waiting;
    counters->datagrams_evicted = f->datagrams_evicted;
    counters->fragments_evicted = f->evicted;
    counters->fragments_expired = f->expired;
    counters->fragments_refused = f->refused;
}

/* ---- keys and queues ---- */

/* Multilinear over the key's 32-bit words, strongly universal (as dp_flow_hash): nobody can choose a long chain. */
static uint32_t slot_of(const struct dp_fragments *f, const struct dp_fragment_key *key)
{
    uint32_t word[sizeof *key / 4];
    uint64_t h = f->secret.addend;

    memcpy(word, key, sizeof word);
    for (size_t i = 0; i < sizeof word / 4; i++)
        h += f->secret.multiplier[i] * word[i];
    return (uint32_t)(h >> 32) % DP_DATAGRAM_SLOTS;
}

/* The port that a fragment came by; where there is none, the instance that sent it, or all the world outside. */
static uint16_t side_of(const struct dp_fragment_key *key)
{
    enum { OUTSIDE = DP_SHARE_SIDES - 1 };
    uint32_t known = key->port != DP_NO_PORT ? key->port : key->zone[DP_EGRESS];

    return (uint16_t)(known == UINT32_MAX ? OUTSIDE : known % OUTSIDE);
}

/* The source is the network that a fragment says it comes from: /24 or /56. */
static struct dp_share share_of(const struct dp_fragment_key *key)
{
    uint32_t h = key->family;

    for (int i = 0; i < (key->family == 4 ? 3 : 7); i++)
        h = (h ^ key->source.byte[i]) * 0x01000193u;
    return (struct dp_share){.side = side_of(key),
                             .destination = (uint8_t)(key->zone[DP_INGRESS] % DP_SHARE_DESTINATIONS),
                             .source = (uint8_t)((h ^ h >> 15) % DP_SHARE_SOURCES)};
}

static struct dp_datagram_links *links_of(struct dp_fragments *f, uint32_t index, bool age)
{
    return age ? &f->datagram[index].by_age : &f->datagram[index].by_end;
}

static void enqueue(struct dp_fragments *f, struct dp_datagram_queue *q, uint32_t index, bool age)
{
    *links_of(f, index, age) = (struct dp_datagram_links){0, q->last};
    if (q->last)
        links_of(f, q->last, age)->next = index;
    else
        q->first = index;
    q->last = index;
    q->count++;
}

static void dequeue(struct dp_fragments *f, struct dp_datagram_queue *q, uint32_t index, bool age)
{
    struct dp_datagram_links links = *links_of(f, index, age);

    if (links.prev)
        links_of(f, links.prev, age)->next = links.next;
    else
        q->first = links.next;
    if (links.next)
        links_of(f, links.next, age)->prev = links.prev;
    else
        q->last = links.prev;
    q->count--;
}

/* ---- answers ---- */

void dp_fragment_copy_answer(const struct dp_record *from, struct dp_record *record)
{
    record->verdict = from->verdict;
    record->checks = from->checks;
    record->check[0] = from->check[0];
    record->check[1] = from->check[1];
}

void dp_fragment_refuse(const uint32_t *zone, enum dp_cause cause, struct dp_record *record)
{
    bool out = zone[DP_EGRESS] != UINT32_MAX;

    record->verdict = DP_DENY;
    record->checks = 1;
    record->check[0] = (struct dp_check){.zone = out ? zone[DP_EGRESS] : zone[DP_INGRESS],
                                         .direction = out ? DP_EGRESS : DP_INGRESS,
                                         .verdict = DP_DENY,
                                         .state = DP_STATE_INVALID,
                                         .reason = DP_REASON_INVALID,
                                         .cause = (uint8_t)cause};
}

void dp_datagram_tell(struct dp_fragments *f, uint32_t index, const struct dp_record *answer, enum dp_cause cause)
{
    struct dp_datagram *d = &f->datagram[index];
    uint32_t w = d->waiting, next;

    if (!w)
        return;
    dp_shares_leave(f->waits, index, d->n_waiting);
    d->waiting = d->last_waiting = d->n_waiting = 0;
    for (; w; w = next) {
        struct dp_waiting_fragment *waiting = &f->waiting[w];

        next = waiting->next;
        if (answer)
            dp_fragment_copy_answer(answer, &waiting->record);
        else
            dp_fragment_refuse(d->key.zone, cause, &waiting->record);
        f->answered(f->owner, waiting->number, &waiting->packet, &waiting->record);
        waiting->next = f->free_waiting;
        f->free_waiting = w;
        f->n_waiting--;
    }
}

/* ---- life ---- */

/* Out of the order in which datagrams give way. */
static void stand_aside(struct dp_fragments *f, uint32_t index)
{
    if (f->datagram[index].whole)
        dequeue(f, &f->whole, index, false);
    else
        dp_shares_leave(f->datagrams, index, 1);
}

void dp_datagram_release(struct dp_fragments *f, uint32_t index, enum dp_cause cause)
{
    struct dp_datagram *d = &f->datagram[index];
    uint32_t *from = &f->slot[slot_of(f, &d->key)];

    dp_datagram_tell(f, index, d->answered ? &d->answer : NULL, cause);
    while (*from != index)
        from = &f->datagram[*from].chain;
    *from = d->chain;
    dequeue(f, &f->by_age, index, true);
    stand_aside(f, index);
    d->chain = f->free_datagram;
    f->free_datagram = index;
}

void dp_datagram_close_if_whole(struct dp_fragments *f, uint32_t index)
{
    struct dp_datagram *d = &f->datagram[index];

    if (d->whole || !d->answered || !d->total || d->seen != d->total)
        return;
    stand_aside(f, index);
    d->whole = true;
    enqueue(f, &f->whole, index, false);
}

static void evict(struct dp_fragments *f, uint32_t index)
{
    f->datagrams_evicted++;
    f->evicted += f->datagram[index].n_waiting;
    dp_datagram_release(f, index, DP_CAUSE_FRAGMENT_LIMIT);
}

static void make_room(struct dp_fragments *f, struct dp_share share)
{
    if (f->whole.first)
        dp_datagram_release(f, f->whole.first, DP_CAUSE_NONE);
    else
        evict(f, dp_shares_gives_way(f->datagrams, share));
}

uint32_t dp_datagram_find_or_make(struct dp_fragments *f, const struct dp_fragment_key *key, uint64_t now_ns)
{
    uint32_t slot = slot_of(f, key), index = f->slot[slot];
    struct dp_share share = share_of(key);
    struct dp_datagram *d;

    for (; index; index = f->datagram[index].chain)
        if (memcmp(&f->datagram[index].key, key, sizeof *key) == 0)
            return index;
    if (!f->free_datagram && f->high_datagram == DP_DATAGRAMS)
        make_room(f, share);
    index = f->free_datagram ? f->free_datagram : ++f->high_datagram;
    d = &f->datagram[index];
    f->free_datagram = d->chain;
    memset(d, 0, offsetof(struct dp_datagram, range));
    d->key = *key;
    d->deadline_ns = now_ns + DP_FRAGMENT_LIFE_NS;
    d->share = share;
    d->chain = f->slot[slot];
    f->slot[slot] = index;
    enqueue(f, &f->by_age, index, true);
    dp_shares_enter(f->datagrams, index, share);
    dp_shares_take(f->datagrams, index);
    return index;
}

void dp_fragments_expire(struct dp_fragments *f, uint64_t now_ns)
{
    while (f->by_age.first && f->datagram[f->by_age.first].deadline_ns <= now_ns) {
        f->expired += f->datagram[f->by_age.first].n_waiting;
        dp_datagram_release(f, f->by_age.first, DP_CAUSE_FRAGMENT);
    }
}

/* Whether there is a place to wait for a fragment of the datagram; that of another's, if need be. */
static bool has_place(struct dp_fragments *f, uint32_t index)
{
    uint32_t other;

    if (f->datagram[index].n_waiting == DP_WAITING_EACH)
        return false;
    if (f->n_waiting < f->places)
        return true;
    other = dp_shares_gives_way(f->waits, f->datagram[index].share);
    if (!other || other == index)
        return false;
    evict(f, other);
    return true;
}

bool dp_datagram_wait(struct dp_fragments *f, uint32_t index, const struct dp_packet *packet, uint64_t number,
                      const struct dp_record *record)
{
    struct dp_datagram *d = &f->datagram[index];
    struct dp_waiting_fragment *waiting;
    uint32_t w;

    if (!has_place(f, index))
        return false;
    w = f->free_waiting ? f->free_waiting : ++f->high_waiting;
    waiting = &f->waiting[w];
    f->free_waiting = waiting->next;
    f->n_waiting++;
    waiting->number = number;
    waiting->next = 0;
    waiting->packet = *packet;
    waiting->record = *record;
    if (d->last_waiting) {
        f->waiting[d->last_waiting].next = w;
    } else {
        d->waiting = w;
        dp_shares_enter(f->waits, index, d->share);
    }
    d->last_waiting = w;
    d->n_waiting++;
    dp_shares_take(f->waits, index);
    return true;
}
