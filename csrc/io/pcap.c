/*
 * pcap.c: the reader of pcap files (draft-ietf-opsawg-pcap).
 *
 * A file header of 24 bytes: magic number, version, two unused words, snap length, link type. Then packet records: a
 * header of seconds, fraction, captured length and length on the wire, followed by the captured bytes.
 *
 *   magic        a1b2c3d4 microseconds; a1b23c4d nanoseconds; a1b2cd34 (Kuznetzov's libpcap) microseconds with 8 more
 *                bytes in each record header. The order of its bytes is that of the whole file.
 *   version      2.x. Up to 2.2 the two lengths stand the other way round; in 2.3 writers differed, and the smaller
 *                one is the captured length.
 *   link type    the low 16 bits of its field; the rest tells the length of a frame check sequence or is ignored.
 *   time         seconds count from 1970, unsigned, to the year 2106. A fraction of a second or more is carried over.
 *
 * Guarantees: a record is delivered only when all of it is there; a captured length above DP_FRAME_MAX is a fault at
 * that record's offset, whatever the snap length says (writers get that one wrong).
 */
#include "pcap.h"

#include <inttypes.h>

enum { HEADER_SIZE = 24, VERSION_AT = 4, LINK_TYPE_AT = 20, RECORD_HEADER = 16, LONG_RECORD_HEADER = 24 };

/*
 * The common case, a file in this machine's order with plain records, gets a copy of its own in which all of the
 * parameters are constants.
 */
static inline __attribute__((always_inline)) size_t read_records(struct dp_capture *capture, const bool swapped,
                                                                 const uint32_t header_size, const uint32_t minor)
{
    struct dp_source *source = &capture->source;
    const uint8_t *at = source->at;
    const uint8_t *const end = source->end;
    const uint8_t *asked = at;
    const uint64_t fraction_ns = capture->pcap.fraction_ns;
    const uint32_t link = capture->pcap.link;
    uint32_t tail = capture->tail;
    size_t need = 0;
    while (tail < capture->room) {
        asked = dp_prefetch_ahead(asked, at, end);
        size_t left = (size_t)(end - at);
        if (left < header_size) {
            need = header_size;
            break;
        }
        uint32_t captured = dp_load_u32(at + 8, swapped);
        uint32_t length = dp_load_u32(at + 12, swapped);
        if (minor < 3 || (minor == 3 && captured > length)) {
            uint32_t other = captured;
            captured = length;
            length = other;
        }
        if (captured > DP_FRAME_MAX) {
            dp_capture_fault(capture, DP_E_FORMAT, at,
                             "a packet record claims %" PRIu32 " captured bytes (at most %d are believed)", captured,
                             DP_FRAME_MAX);
            break;
        }
        if (left - header_size < captured) {
            need = (size_t)header_size + captured;
            break;
        }
        capture->queue[tail++] = (struct dp_frame){
            .time_ns = dp_load_u32(at, swapped) * UINT64_C(1000000000) + dp_load_u32(at + 4, swapped) * fraction_ns,
            .data = at + header_size,
            .captured = captured,
            .length = length > captured ? length : captured,
            .link = link,
            .capture = capture->index,
            .flags = 0,
        };
        at += (size_t)header_size + captured;
    }
    if (link == DP_LINKS)
        dp_capture_count_strange(capture, capture->status.link_type, tail - capture->tail);
    source->at = at;
    capture->tail = tail;
    return need;
}

static size_t read_common_records(struct dp_capture *capture)
{
    return read_records(capture, false, RECORD_HEADER, 4);
}

static size_t read_any_records(struct dp_capture *capture)
{
    const struct dp_pcap_layout *pcap = &capture->pcap;
    return read_records(capture, pcap->swapped, pcap->header_size, pcap->minor);
}

size_t dp_pcap_header(struct dp_capture *capture)
{
    struct dp_source *source = &capture->source;
    struct dp_pcap_layout *pcap = &capture->pcap;
    const uint8_t *at = source->at;
    if (dp_source_left(source) < HEADER_SIZE)
        return HEADER_SIZE;

    uint32_t magic = dp_load_u32(at, pcap->swapped);
    pcap->header_size = magic == 0xa1b2cd34 ? LONG_RECORD_HEADER : RECORD_HEADER;
    pcap->fraction_ns = magic == 0xa1b23c4d ? 1 : 1000;

    uint16_t major = dp_load_u16(at + VERSION_AT, pcap->swapped);
    pcap->minor = dp_load_u16(at + VERSION_AT + 2, pcap->swapped);
    if (major != 2) {
        dp_capture_fault(capture, DP_E_FORMAT, at + VERSION_AT, "pcap version %u.%u is not supported (supported: 2.x)",
                         major, pcap->minor);
        return 0;
    }

    uint32_t link_type = dp_load_u32(at + LINK_TYPE_AT, pcap->swapped) & 0xffff;
    capture->status.link_type = link_type;
    capture->status.interfaces = 1;
    capture->status.sections = 1;
    pcap->link = dp_link_of(link_type);

    source->at = at + HEADER_SIZE;
    capture->unit = "packet record";
    bool common = !pcap->swapped && pcap->header_size == RECORD_HEADER && pcap->minor > 3;
    capture->step = common ? read_common_records : read_any_records;
    return 0;
}
