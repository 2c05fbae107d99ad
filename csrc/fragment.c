/* fragment.c: fragment.h in code: where a fragment belongs, whether it fits, what it is answered. */
#include "fragment.h"

#include <string.h>

enum { TOTAL_MAX = 65535 };

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

/* Whether the fragment came before, just as it is: also as the last one or not. */
static bool repeats(const struct dp_datagram *d, const struct dp_packet *p)
{
    if (p->more_fragments == (d->total == p->fragment_offset + p->fragment_length))
        return false;
    for (uint32_t i = 0; i < d->n_ranges; i++)
        if (d->range[i].first * 8u == p->fragment_offset && d->range[i].length == p->fragment_length)
            return true;
    return false;
}

/* Puts the fragment in its place; false when it does not fit there. */
static bool place(struct dp_datagram *d, const struct dp_packet *p)
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
    d->range[d->n_ranges++] = (struct dp_fragment_range){(uint16_t)(first / 8), (uint16_t)p->fragment_length};
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
static bool begins_anew(const struct dp_datagram *d, const struct dp_packet *p, uint32_t change)
{
    return d->answered && !d->spoiled && p->fragment_offset == 0 &&
           (d->first.change != change || (d->first.length == p->fragment_length && has_other_header(&d->first, p)));
}

/*
 * Whether a first fragment would have later ones pass which its receiver puts behind another header: the one that it
 * has, allowed before a change.
 */
static bool hides_header(const struct dp_datagram *d, const struct dp_packet *p, uint32_t change)
{
    return d->answered && !d->whole && p->fragment_offset == 0 && d->first.change != change &&
           d->answer.verdict == DP_ALLOW && has_other_header(&d->first, p);
}

static void keep_first(struct dp_datagram *d, const struct dp_packet *p, uint32_t change)
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

enum dp_fragment_fate dp_fragments_add(struct dp_fragments *f, const struct dp_packet *packet, const uint32_t *zone,
                                       uint32_t port, uint64_t now_ns, uint32_t change, uint64_t number, bool may_wait,
                                       struct dp_record *record, uint32_t *datagram)
{
    struct dp_fragment_key key;
    struct dp_datagram *d;

    key_of(packet, zone, port, &key);
    *datagram = dp_datagram_find_or_make(f, &key, now_ns);
    d = &f->datagram[*datagram];
    d->spoiled = d->spoiled || hides_header(d, packet, change);
    /* Behind a whole datagram, a later fragment that repeats it belongs to it; all else has its identifier anew. */
    if (begins_anew(d, packet, change) || (d->whole && (packet->fragment_offset == 0 || !repeats(d, packet)))) {
        dp_datagram_release(f, *datagram, DP_CAUSE_FRAGMENT);
        *datagram = dp_datagram_find_or_make(f, &key, now_ns);
        d = &f->datagram[*datagram];
    }
    if (d->spoiled || !place(d, packet)) {
        d->spoiled = true;
        dp_datagram_tell(f, *datagram, NULL, DP_CAUSE_FRAGMENT);
        dp_fragment_refuse(zone, DP_CAUSE_FRAGMENT, record);
        return DP_FRAGMENT_REFUSE;
    }
    if (d->answered) {
        dp_fragment_copy_answer(&d->answer, record);
        dp_datagram_close_if_whole(f, *datagram);
        return DP_FRAGMENT_COPY;
    }
    if (packet->fragment_offset == 0) {
        keep_first(d, packet, change);
        return DP_FRAGMENT_JUDGE;
    }
    if (may_wait && dp_datagram_wait(f, *datagram, packet, number, record))
        return DP_FRAGMENT_WAIT;
    f->refused++;
    dp_fragment_refuse(zone, DP_CAUSE_FRAGMENT_LIMIT, record);
    return DP_FRAGMENT_REFUSE;
}

struct dp_fragment_first *dp_fragments_first(struct dp_fragments *f, uint32_t index)
{
    return &f->datagram[index].first;
}

void dp_fragments_answer(struct dp_fragments *f, uint32_t index, const struct dp_record *record)
{
    struct dp_datagram *d = &f->datagram[index];

    d->answer = *record;
    d->answered = true;
    dp_datagram_tell(f, index, record, DP_CAUSE_NONE);
    dp_datagram_close_if_whole(f, index);
}

void dp_fragments_give_up(struct dp_fragments *f, uint64_t number)
{
    for (uint32_t index = f->by_age.first, next; index; index = next) {
        struct dp_datagram *d = &f->datagram[index];

        next = d->by_age.next;
        /* The first that waits is the oldest of its datagram. */
        if (d->waiting && (f->waiting[d->waiting].number & ~DP_FRAGMENT_OF_COPY) <= number) {
            d->spoiled = true;
            dp_datagram_tell(f, index, NULL, DP_CAUSE_FRAGMENT);
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
        struct dp_datagram *d = &f->datagram[index];

        next = d->by_age.next;
        for (uint32_t i = 0; i < d->answer.checks && d->answered; i++)
            if (d->answer.check[i].rule < retired->n_rules && retired->rules[d->answer.check[i].rule])
                d->answer.check[i].rule = 0;
        if (is_retired(retired, d->key.zone[DP_EGRESS]) || is_retired(retired, d->key.zone[DP_INGRESS]))
            dp_datagram_release(f, index, DP_CAUSE_FRAGMENT);
    }
}
