/*
 * fragment.c: fragment.h in code. A datagram is in three places at once: the chain of its hash, the queue of all by age
 * (for expiry; all live equally long), and, for giving way, the shares of datagrams, or once it is whole the queue of
 * those (oldest first). While any of it waits it is also in the shares of what waits.
 *
 * Packets that wait stand in a pool of their own, chained from their datagram in the order in which they came.
 */
#include "fragment.h"

#include "fair_share.h"
#include "memory.h"

#include <string.h>

enum { DATAGRAM_SLOTS = 4096, TOTAL_MAX = 65535 };

struct range {
    uint16_t first; /* in units of 8 bytes */
    uint16_t length;
};

struct links {
    uint32_t next;
    uint32_t prev;
};

struct datagram {
    struct dp_fragment_key key;
    uint64_t deadline_ns;
    uint32_t chain;
    struct links by_age;
    struct links by_end;
    struct dp_share share;
    uint32_t reach;        /* where the farthest fragment ends, in bytes */
    uint32_t seen;         /* bytes */
    uint32_t total;        /* bytes; 0 while the last fragment has not come */
    uint32_t first_header; /* bytes that count besides the payload; 0 while the first has not come */
    uint32_t waiting;
    uint32_t last_waiting;
    uint32_t n_waiting;
    uint16_t n_ranges;
    bool answered;
    bool spoiled;
    bool whole;
    struct dp_fragment_first first; /* once it was answered */
    struct dp_record answer;
    struct range range[DP_DATAGRAM_FRAGMENTS];
};

struct waiting {
    uint64_t number;
    uint32_t next;
    struct dp_packet packet;
    struct dp_record record;
};

struct queue {
    uint32_t first;
    uint32_t last;
    uint32_t count;
};

_Static_assert(sizeof(struct dp_fragment_key) / 4 <= DP_HASH_WORDS, "a multiplier for each word of the key");
_Static_assert((int)DP_DATAGRAMS <= (int)DP_SHARE_ITEMS, "shares have room for every datagram");

/* Index 0 is nobody in all of these. */
struct dp_fragments {
    dp_fragment_answered *answered;
    void *owner;
    struct dp_hash_secret secret;
    uint32_t slot[DATAGRAM_SLOTS];
    struct queue by_age;
    struct queue whole;
    struct dp_shares *datagrams;
    struct dp_shares *waits;
    uint32_t places; /* for what waits */
    uint32_t free_datagram;
    uint32_t free_waiting;
    uint32_t high_datagram; /* those above have not been used yet, and their memory has not been touched */
    uint32_t high_waiting;
    uint32_t n_waiting;
    uint64_t datagrams_evicted;
    uint64_t evicted;
    uint64_t expired;
    uint64_t refused;
    struct datagram datagram[DP_DATAGRAMS + 1];
    struct waiting waiting[DP_WAITING_MAX + 1];
};

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

static void key_of(const struct dp_packet *packet, const uint32_t *zone, uint32_t port, struct dp_fragment_key *key)
{
    memset(key, 0, sizeof *key);
    memcpy(&key->source, &packet->source, packet->family == 4 ? 4 : 16);
    memcpy(&key->destination, &packet->destination, packet->family == 4 ? 4 : 16);
    key->id = packet->fragment_id;
    key->vlans = packet->vlans;
    key->zone[DP_EGRESS] = zone[DP_EGRESS];
    key->zone[DP_INGRESS] = zone[DP_INGRESS];
    key->port = port;
    key->family = packet->family;
    key->protocol = packet->family == 4 ? packet->protocol : 0;
}

/* Multilinear over the key's 32-bit words, strongly universal (as dp_flow_hash): nobody can choose a long chain. */
static uint32_t slot_of(const struct dp_fragments *f, const struct dp_fragment_key *key)
{
    uint32_t word[sizeof *key / 4];
    uint64_t h = f->secret.addend;

    memcpy(word, key, sizeof word);
    for (size_t i = 0; i < sizeof word / 4; i++)
        h += f->secret.multiplier[i] * word[i];
    return (uint32_t)(h >> 32) % DATAGRAM_SLOTS;
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

static struct links *links_of(struct dp_fragments *f, uint32_t index, bool age)
{
    return age ? &f->datagram[index].by_age : &f->datagram[index].by_end;
}

static void enqueue(struct dp_fragments *f, struct queue *q, uint32_t index, bool age)
{
    *links_of(f, index, age) = (struct links){0, q->last};
    if (q->last)
        links_of(f, q->last, age)->next = index;
    else
        q->first = index;
    q->last = index;
    q->count++;
}

static void dequeue(struct dp_fragments *f, struct queue *q, uint32_t index, bool age)
{
    struct links links = *links_of(f, index, age);

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

/* The checks of `from`, time and length of its own. */
static void copy_answer(const struct dp_record *from, struct dp_record *record)
{
    record->verdict = from->verdict;
    record->checks = from->checks;
    record->check[0] = from->check[0];
    record->check[1] = from->check[1];
}

/* Invalid at the first instance that would have checked it. */
static void refuse(const uint32_t *zone, enum dp_cause cause, struct dp_record *record)
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

/* What waited gets the answer; without one it is refused, for the cause. */
static void tell(struct dp_fragments *f, uint32_t index, const struct dp_record *answer, enum dp_cause cause)
{
    struct datagram *d = &f->datagram[index];
    uint32_t w = d->waiting, next;

    if (!w)
        return;
    dp_shares_leave(f->waits, index, d->n_waiting);
    d->waiting = d->last_waiting = d->n_waiting = 0;
    for (; w; w = next) {
        struct waiting *waiting = &f->waiting[w];

        next = waiting->next;
        if (answer)
            copy_answer(answer, &waiting->record);
        else
            refuse(d->key.zone, cause, &waiting->record);
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

static void release(struct dp_fragments *f, uint32_t index, enum dp_cause cause)
{
    struct datagram *d = &f->datagram[index];
    uint32_t *from = &f->slot[slot_of(f, &d->key)];

    tell(f, index, d->answered ? &d->answer : NULL, cause);
    while (*from != index)
        from = &f->datagram[*from].chain;
    *from = d->chain;
    dequeue(f, &f->by_age, index, true);
    stand_aside(f, index);
    d->chain = f->free_datagram;
    f->free_datagram = index;
}

/* All of it was seen and has its answer: kept for fragments that come twice, and the first to give way. */
static void close_if_whole(struct dp_fragments *f, uint32_t index)
{
    struct datagram *d = &f->datagram[index];

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
    release(f, index, DP_CAUSE_FRAGMENT_LIMIT);
}

static void make_room(struct dp_fragments *f, struct dp_share share)
{
    if (f->whole.first)
        release(f, f->whole.first, DP_CAUSE_NONE);
    else
        evict(f, dp_shares_gives_way(f->datagrams, share));
}

static uint32_t find_or_make(struct dp_fragments *f, const struct dp_fragment_key *key, uint64_t now_ns)
{
    uint32_t slot = slot_of(f, key), index = f->slot[slot];
    struct dp_share share = share_of(key);
    struct datagram *d;

    for (; index; index = f->datagram[index].chain)
        if (memcmp(&f->datagram[index].key, key, sizeof *key) == 0)
            return index;
    if (!f->free_datagram && f->high_datagram == DP_DATAGRAMS)
        make_room(f, share);
    index = f->free_datagram ? f->free_datagram : ++f->high_datagram;
    d = &f->datagram[index];
    f->free_datagram = d->chain;
    memset(d, 0, offsetof(struct datagram, range));
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
        release(f, f->by_age.first, DP_CAUSE_FRAGMENT);
    }
}

/* ---- fragments ---- */

/* Whether the fragment came before, just as it is: also as the last one or not. */
static bool repeats(const struct datagram *d, const struct dp_packet *p)
{
    if (p->more_fragments == (d->total == p->fragment_offset + p->fragment_length))
        return false;
    for (uint32_t i = 0; i < d->n_ranges; i++)
        if (d->range[i].first * 8u == p->fragment_offset && d->range[i].length == p->fragment_length)
            return true;
    return false;
}

/* Puts the fragment in its place; false when it does not fit there. */
static bool place(struct datagram *d, const struct dp_packet *p)
{
    uint32_t first = p->fragment_offset, end = first + p->fragment_length;
    uint32_t reach = end > d->reach ? end : d->reach, header = first == 0 ? p->fragment_header : d->first_header;

    if (p->fragment_length == 0 || (p->more_fragments && p->fragment_length % 8) || p->tiny_fragment ||
        reach + header > TOTAL_MAX || (d->total && end > d->total))
        return false;
    if (repeats(d, p))
        return true;
    for (uint32_t i = 0; i < d->n_ranges; i++) {
        uint32_t start = d->range[i].first * 8u, stop = start + d->range[i].length;

        if ((first < stop && start < end) || (!p->more_fragments && stop > end))
            return false;
    }
    if (d->n_ranges == DP_DATAGRAM_FRAGMENTS || (!p->more_fragments && d->total))
        return false;
    d->reach = reach;
    d->first_header = header;
    d->range[d->n_ranges++] = (struct range){(uint16_t)(first / 8), (uint16_t)p->fragment_length};
    d->seen += p->fragment_length;
    if (!p->more_fragments)
        d->total = end;
    return true;
}

static bool has_other_header(const struct dp_fragment_first *first, const struct dp_packet *p)
{
    return first->selector != p->selector || first->source_port != p->source_port ||
           (p->protocol == DP_PROTO_TCP &&
            (first->tcp.seq != p->tcp.seq || first->tcp.ack != p->tcp.ack || first->tcp.flags != p->tcp.flags));
}

/*
 * Whether a first fragment is judged though its datagram has an answer: behind a change, or as the first of another
 * datagram, which has the identifier of one that was never completed. An answer given for other ports, or by other
 * rules, must not let it in.
 */
static bool begins_anew(const struct datagram *d, const struct dp_packet *p, uint32_t change)
{
    return d->answered && !d->spoiled && p->fragment_offset == 0 &&
           (d->first.change != change || (d->first.length == p->fragment_length && has_other_header(&d->first, p)));
}

/*
 * Whether a first fragment would have later ones pass which its receiver puts behind another header: the one that it
 * has, allowed before a change.
 */
static bool hides_header(const struct datagram *d, const struct dp_packet *p, uint32_t change)
{
    return d->answered && !d->whole && p->fragment_offset == 0 && d->first.change != change &&
           d->answer.verdict == DP_ALLOW && has_other_header(&d->first, p);
}

static void keep_first(struct datagram *d, const struct dp_packet *p, uint32_t change)
{
    d->first.change = change;
    d->first.length = p->fragment_length;
    d->first.selector = p->selector;
    d->first.source_port = p->source_port;
    d->first.protocol = p->protocol;
    d->first.icmp_class = p->icmp_class;
    if (p->protocol == DP_PROTO_TCP)
        d->first.tcp = p->tcp;
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

static bool wait(struct dp_fragments *f, uint32_t index, const struct dp_packet *packet, uint64_t number,
                 const struct dp_record *record)
{
    struct datagram *d = &f->datagram[index];
    struct waiting *waiting;
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

enum dp_fragment_fate dp_fragments_add(struct dp_fragments *f, const struct dp_packet *packet, const uint32_t *zone,
                                       uint32_t port, uint64_t now_ns, uint32_t change, uint64_t number, bool may_wait,
                                       struct dp_record *record, uint32_t *datagram)
{
    struct dp_fragment_key key;
    struct datagram *d;

    key_of(packet, zone, port, &key);
    *datagram = find_or_make(f, &key, now_ns);
    d = &f->datagram[*datagram];
    d->spoiled = d->spoiled || hides_header(d, packet, change);
    /* Behind a whole datagram, a later fragment that repeats it belongs to it; all else has its identifier anew. */
    if (begins_anew(d, packet, change) || (d->whole && (packet->fragment_offset == 0 || !repeats(d, packet)))) {
        release(f, *datagram, DP_CAUSE_FRAGMENT);
        *datagram = find_or_make(f, &key, now_ns);
        d = &f->datagram[*datagram];
    }
    if (d->spoiled || !place(d, packet)) {
        d->spoiled = true;
        tell(f, *datagram, NULL, DP_CAUSE_FRAGMENT);
        refuse(zone, DP_CAUSE_FRAGMENT, record);
        return DP_FRAGMENT_REFUSE;
    }
    if (d->answered) {
        copy_answer(&d->answer, record);
        close_if_whole(f, *datagram);
        return DP_FRAGMENT_COPY;
    }
    if (packet->fragment_offset == 0) {
        keep_first(d, packet, change);
        return DP_FRAGMENT_JUDGE;
    }
    if (may_wait && wait(f, *datagram, packet, number, record))
        return DP_FRAGMENT_WAIT;
    f->refused++;
    refuse(zone, DP_CAUSE_FRAGMENT_LIMIT, record);
    return DP_FRAGMENT_REFUSE;
}

struct dp_fragment_first *dp_fragments_first(struct dp_fragments *f, uint32_t index)
{
    return &f->datagram[index].first;
}

void dp_fragments_answer(struct dp_fragments *f, uint32_t index, const struct dp_record *record)
{
    struct datagram *d = &f->datagram[index];

    d->answer = *record;
    d->answered = true;
    tell(f, index, record, DP_CAUSE_NONE);
    close_if_whole(f, index);
}

void dp_fragments_give_up(struct dp_fragments *f, uint64_t number)
{
    for (uint32_t index = f->by_age.first, next; index; index = next) {
        struct datagram *d = &f->datagram[index];

        next = d->by_age.next;
        /* The first that waits is the oldest of its datagram. */
        if (d->waiting && (f->waiting[d->waiting].number & ~DP_FRAGMENT_OF_COPY) <= number) {
            d->spoiled = true;
            tell(f, index, NULL, DP_CAUSE_FRAGMENT);
        }
    }
}

static bool is_retired(const struct dp_retired *retired, uint32_t zone)
{
    return zone < retired->n_zones && retired->zones[zone];
}

void dp_fragments_forget(struct dp_fragments *f, const struct dp_retired *retired)
{
    for (uint32_t index = f->by_age.first, next; index; index = next) {
        struct datagram *d = &f->datagram[index];

        next = d->by_age.next;
        for (uint32_t i = 0; i < d->answer.checks && d->answered; i++)
            if (d->answer.check[i].rule < retired->n_rules && retired->rules[d->answer.check[i].rule])
                d->answer.check[i].rule = 0;
        if (is_retired(retired, d->key.zone[DP_EGRESS]) || is_retired(retired, d->key.zone[DP_INGRESS]))
            release(f, index, DP_CAUSE_FRAGMENT);
    }
}
