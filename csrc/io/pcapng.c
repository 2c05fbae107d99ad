/*
 * pcapng.c: the reader of pcapng files (draft-ietf-opsawg-pcapng).
 *
 * A file is a chain of blocks: type, total length, body, total length again. A section header block begins a section,
 * which has a byte order and a list of interfaces of its own; interface description blocks fill the list; packets come
 * in enhanced, simple and (obsolete) packet blocks. Every other block is skipped: name resolution, statistics,
 * secrets, journal entries, custom blocks and whatever is yet to come. Options are read where they change what a
 * packet is: in section headers and interface descriptions, where they are checked too, and the flags of packets.
 *
 * Times: capture_clock.h. A simple packet block has none: it gets that of the packet before it.
 *
 * Guarantees
 *   1. A block is looked at only when all of it is there, its length is a multiple of 4 within BLOCK_MAX, and both of
 *      its lengths agree; no read leaves the block.
 *   2. Packets of an interface whose link type is not supported are delivered with link DP_LINKS, and counted.
 */
#include "pcapng.h"

#include <inttypes.h>
#include <stdlib.h>

enum {
    BLOCK_SECTION = 0x0a0d0d0a,
    BLOCK_INTERFACE = 1,
    BLOCK_OBSOLETE_PACKET = 2,
    BLOCK_SIMPLE_PACKET = 3,
    BLOCK_NAMES = 4,
    BLOCK_ENHANCED_PACKET = 6,

    /* Sizes of whole blocks without data and options. */
    MIN_BLOCK = 12,
    MIN_SECTION = 28,
    MIN_INTERFACE = 20,
    MIN_PACKET = 32,
    MIN_SIMPLE = 16,

    BLOCK_MAX = DP_FRAME_MAX + 65536,
    INTERFACES_MAX = 65536,

    OPTION_END = 0,
    OPTION_FLAGS = 2,       /* of a packet */
    OPTION_NAME = 2,        /* of an interface */
    OPTION_DESCRIPTION = 3, /* of an interface */
    OPTION_APPLICATION = 4, /* of a section */
    OPTION_TSRESOL = 9,
    OPTION_TSOFFSET = 14,

    /* Of a packet's flags. */
    FLAG_DIRECTION = 3,
    FLAG_RECEIVED = 1,
    FLAG_SENT = 2,
    FLAG_CHECKSUM_NOT_READY = 1 << 9,
    FLAG_CHECKSUM_VALID = 1 << 10
};
#define BYTE_ORDER_MAGIC UINT32_C(0x1a2b3c4d)

/* A block that stands whole at `at`. */
struct block {
    const uint8_t *at;
    uint32_t type;
    uint32_t length;
    bool swapped;
};

struct option {
    uint16_t code;
    uint16_t length;
    const uint8_t *value;
};

/*
 * The option at *place, which is moved behind it. 1 if there is one, 0 at the end of options, or DP_E_FORMAT with the
 * fault recorded.
 */
static int next_option(struct dp_capture *capture, const struct block *block, const uint8_t **place,
                       struct option *option)
{
    const uint8_t *at = *place;
    size_t left = (size_t)(block->at + block->length - 4 - at);
    if (left == 0)
        return 0;
    /* Blocks and their fixed parts are multiples of 4, so an option's header fits wherever anything does. */
    option->code = dp_load_u16(at, block->swapped);
    option->length = dp_load_u16(at + 2, block->swapped);
    option->value = at + 4;
    if (option->code == OPTION_END)
        return 0;
    size_t padded = (option->length + (size_t)3) & ~(size_t)3;
    if (padded > left - 4) {
        dp_capture_fault(capture, DP_E_FORMAT, at, "option %u claims %u bytes, but its block has %zu left",
                         option->code, option->length, left - 4);
        return DP_E_FORMAT;
    }
    *place = at + 4 + padded;
    return 1;
}

static bool begins_with(const struct option *option, const char *word)
{
    return option->length >= strlen(word) && memcmp(option->value, word, strlen(word)) == 0;
}

static void read_section(struct dp_capture *capture, const struct block *block)
{
    uint16_t major = dp_load_u16(block->at + 12, block->swapped);
    uint16_t minor = dp_load_u16(block->at + 14, block->swapped);
    /* 1.2 was written by some programs and is the same as 1.0 (draft, section 4.1). */
    if (major != 1 || (minor != 0 && minor != 2)) {
        dp_capture_fault(capture, DP_E_FORMAT, block->at + 12, "pcapng version %u.%u is not supported (supported: 1.0)",
                         major, minor);
        return;
    }
    const uint8_t *place = block->at + MIN_SECTION - 4;
    struct option option;
    capture->pcapng.ours = false;
    while (next_option(capture, block, &place, &option) > 0) {
        if (option.code == OPTION_APPLICATION)
            capture->pcapng.ours = begins_with(&option, "dataplane ");
    }
    capture->pcapng.n_interfaces = 0;
    capture->status.sections++;
}

static struct dp_pcapng_interface *add_interface(struct dp_capture *capture, const struct block *block)
{
    struct dp_pcapng_section *section = &capture->pcapng;
    if (section->n_interfaces == INTERFACES_MAX) {
        dp_capture_fault(capture, DP_E_LIMIT, block->at, "a section has more than %d interfaces", INTERFACES_MAX);
        return NULL;
    }
    if (section->n_interfaces == section->capacity) {
        uint32_t capacity = section->capacity ? section->capacity * 2 : 8;
        struct dp_pcapng_interface *grown = realloc(section->interfaces, capacity * sizeof *grown);
        if (!grown) {
            dp_capture_fault(capture, DP_E_MEMORY, block->at, "no memory for %" PRIu32 " interfaces", capacity);
            return NULL;
        }
        section->interfaces = grown;
        section->capacity = capacity;
    }
    return &section->interfaces[section->n_interfaces++];
}

static bool is_described(const struct dp_capture_interface *interface, const struct block *block, bool uplink)
{
    return interface->size == block->length - MIN_BLOCK && interface->swapped == block->swapped &&
           interface->uplink == uplink && memcmp(interface->body, block->at + 8, interface->size) == 0;
}

/*
 * The number, from 1, of an interface among those of the capture: a new one unless a section before had it at the same
 * place. `name` is kept or freed. 0 with the fault recorded.
 */
static uint32_t describe(struct dp_capture *capture, const struct block *block, char *name, bool uplink)
{
    struct dp_pcapng_section *section = &capture->pcapng;
    uint32_t place = section->n_interfaces, n = capture->n_interfaces;
    uint32_t before = place < section->known ? section->interfaces[place].described : 0;
    if (before && is_described(&capture->interface[before - 1], block, uplink)) {
        free(name);
        return before;
    }
    uint32_t size = block->length - MIN_BLOCK;
    uint8_t *body = malloc(size);
    /* Room for 8, then for twice as many each time. */
    if (n == 0 || (n >= 8 && (n & (n - 1)) == 0)) {
        struct dp_capture_interface *grown = realloc(capture->interface, (n ? 2 * (size_t)n : 8) * sizeof *grown);
        capture->interface = grown ? grown : capture->interface;
        if (!grown) {
            free(body);
            body = NULL;
        }
    }
    if (!body) {
        free(name);
        dp_capture_fault(capture, DP_E_MEMORY, block->at, "no memory for %" PRIu32 " interfaces", n + 1);
        return 0;
    }
    memcpy(body, block->at + 8, size);
    capture->interface[n] = (struct dp_capture_interface){
        .name = name, .place = place, .uplink = uplink, .body = body, .size = size, .swapped = block->swapped};
    return ++capture->n_interfaces;
}

/* A name up to its end or its first zero, cut where it is too long; NULL for an empty one. */
static char *name_of(const struct option *option)
{
    size_t length = option->length < DP_INTERFACE_NAME ? option->length : DP_INTERFACE_NAME;
    return length && option->value[0] ? strndup((const char *)option->value, length) : NULL;
}

static void read_interface(struct dp_capture *capture, const struct block *block)
{
    struct dp_pcapng_interface interface = {.link_type = dp_load_u16(block->at + 8, block->swapped),
                                            .snap_length = dp_load_u32(block->at + 12, block->swapped)};
    interface.link = dp_link_of(interface.link_type);
    dp_clock_set_resolution(&interface.clock, 6);

    struct option name = {0};
    bool uplink = false;
    const uint8_t *place = block->at + MIN_INTERFACE - 4;
    struct option option;
    int found;
    while ((found = next_option(capture, block, &place, &option)) > 0) {
        uint16_t expected = option.code == OPTION_TSRESOL ? 1 : option.code == OPTION_TSOFFSET ? 8 : option.length;
        if (option.length != expected) {
            dp_capture_fault(capture, DP_E_FORMAT, option.value - 4, "option %u has %u bytes instead of %u",
                             option.code, option.length, expected);
            return;
        }
        if (option.code == OPTION_TSRESOL) {
            dp_clock_set_resolution(&interface.clock, option.value[0]);
        } else if (option.code == OPTION_TSOFFSET) {
            uint64_t offset;
            memcpy(&offset, option.value, sizeof offset);
            interface.clock.offset_s = (int64_t)(block->swapped ? __builtin_bswap64(offset) : offset);
        } else if (option.code == OPTION_NAME) {
            name = option;
        } else if (option.code == OPTION_DESCRIPTION) {
            uplink = capture->pcapng.ours && begins_with(&option, "uplink");
        }
    }
    if (found < 0)
        return;
    interface.described = describe(capture, block, name.code ? name_of(&name) : NULL, uplink);
    struct dp_pcapng_interface *added = interface.described ? add_interface(capture, block) : NULL;
    if (!added)
        return;
    *added = interface;
    if (capture->pcapng.known < capture->pcapng.n_interfaces)
        capture->pcapng.known = capture->pcapng.n_interfaces;
    if (capture->status.interfaces++ == 0)
        capture->status.link_type = interface.link_type;
}

/* The interface that a packet names, or NULL with the fault recorded. */
static const struct dp_pcapng_interface *find_interface(struct dp_capture *capture, const struct block *block,
                                                        uint32_t number)
{
    const struct dp_pcapng_section *section = &capture->pcapng;
    if (number >= section->n_interfaces) {
        dp_capture_fault(capture, DP_E_FORMAT, block->at,
                         "a packet names interface %" PRIu32 ", but its section has described %" PRIu32, number,
                         section->n_interfaces);
        return NULL;
    }
    return &section->interfaces[number];
}

/* What the flags of a packet say, whose data end at `place`, as flags of struct dp_frame. */
static uint32_t packet_flags(const struct block *block, const uint8_t *place)
{
    const uint8_t *end = block->at + block->length - 4;
    while (end - place >= 8) {
        uint16_t code = dp_load_u16(place, block->swapped);
        size_t length = dp_load_u16(place + 2, block->swapped);
        size_t padded = (length + 3) & ~(size_t)3;
        if (code == OPTION_END || padded > (size_t)(end - place) - 4)
            break;
        if (code == OPTION_FLAGS && length == 4) {
            uint32_t flags = dp_load_u32(place + 4, block->swapped);
            return (flags & (FLAG_CHECKSUM_NOT_READY | FLAG_CHECKSUM_VALID) ? DP_FRAME_CHECKSUM_OFFLOADED : 0) |
                   ((flags & FLAG_DIRECTION) == FLAG_RECEIVED ? DP_FRAME_RECEIVED : 0) |
                   ((flags & FLAG_DIRECTION) == FLAG_SENT ? DP_FRAME_SENT : 0);
        }
        place += 4 + padded;
    }
    return 0;
}

/* Queues a packet whose data begin after `header` bytes of its block, of which the last 4 close it. */
static void add_packet(struct dp_capture *capture, const struct block *block,
                       const struct dp_pcapng_interface *interface, uint32_t header, uint32_t captured, uint32_t length,
                       bool options)
{
    uint32_t room = block->length - header - 4;
    if (captured > room) {
        dp_capture_fault(capture, DP_E_FORMAT, block->at,
                         "a packet claims %" PRIu32 " captured bytes, but its block has room for %" PRIu32, captured,
                         room);
        return;
    }
    if (interface->link == DP_LINKS)
        dp_capture_count_strange(capture, interface->link_type, 1);
    capture->queue[capture->tail++] = (struct dp_frame){
        .time_ns = capture->pcapng.last_time_ns,
        .data = block->at + header,
        .captured = captured,
        .length = length > captured ? length : captured,
        .link = interface->link,
        .capture = capture->index,
        .flags = options ? DP_FRAME_IN_BLOCK |
                               packet_flags(block, block->at + header + ((captured + (size_t)3) & ~(size_t)3))
                         : 0,
        .interface = interface->described,
    };
}

/* Enhanced packet blocks, and the obsolete ones: they differ in the width of the interface number only. */
static void read_packet(struct dp_capture *capture, const struct block *block)
{
    const uint8_t *at = block->at;
    bool swapped = block->swapped;
    uint32_t number =
        block->type == BLOCK_OBSOLETE_PACKET ? dp_load_u16(at + 8, swapped) : dp_load_u32(at + 8, swapped);
    const struct dp_pcapng_interface *interface = find_interface(capture, block, number);
    if (!interface)
        return;
    uint64_t count = (uint64_t)dp_load_u32(at + 12, swapped) << 32 | dp_load_u32(at + 16, swapped);
    capture->pcapng.last_time_ns = dp_clock_ns(&interface->clock, count);
    add_packet(capture, block, interface, MIN_PACKET - 4, dp_load_u32(at + 20, swapped), dp_load_u32(at + 24, swapped),
               true);
}

static void read_simple_packet(struct dp_capture *capture, const struct block *block)
{
    const struct dp_pcapng_interface *interface = find_interface(capture, block, 0);
    if (!interface)
        return;
    uint32_t length = dp_load_u32(block->at + 8, block->swapped);
    uint32_t snap = interface->snap_length;
    add_packet(capture, block, interface, MIN_SIMPLE - 4, snap && length > snap ? snap : length, length, false);
}

/* Sets the byte order from a section header of which at least 12 bytes are at hand; false with the fault recorded. */
static bool read_byte_order(struct dp_capture *capture, const uint8_t *at)
{
    uint32_t magic = dp_load_u32(at + 8, false);
    capture->pcapng.swapped = magic != BYTE_ORDER_MAGIC;
    if (magic == BYTE_ORDER_MAGIC || magic == __builtin_bswap32(BYTE_ORDER_MAGIC))
        return true;
    dp_capture_fault(capture, DP_E_FORMAT, at + 8, "a section has no byte-order magic number: %02x %02x %02x %02x",
                     at[8], at[9], at[10], at[11]);
    return false;
}

static uint32_t min_length(uint32_t type)
{
    switch (type) {
    case BLOCK_SECTION:
        return MIN_SECTION;
    case BLOCK_INTERFACE:
        return MIN_INTERFACE;
    case BLOCK_OBSOLETE_PACKET:
    case BLOCK_ENHANCED_PACKET:
        return MIN_PACKET;
    case BLOCK_SIMPLE_PACKET:
        return MIN_SIMPLE;
    default:
        return MIN_BLOCK;
    }
}

/* Keeps the head of a section, and names; without memory they are not kept. */
static void keep(struct dp_capture *capture, const struct block *block)
{
    struct dp_kept_block head = {.type = block->type, .body = block->length - MIN_BLOCK, .swapped = block->swapped};
    head.size = (uint32_t)((sizeof head + head.body + 7) & ~(size_t)7);
    uint8_t *at = dp_byte_queue_add(&capture->kept, head.size);
    if (!at)
        return;
    memcpy(at, &head, sizeof head);
    memcpy(at + sizeof head, block->at + 8, head.body);
}

static void read_block(struct dp_capture *capture, const struct block *block)
{
    if (capture->keeps && (block->type == BLOCK_SECTION || block->type == BLOCK_NAMES))
        keep(capture, block);
    switch (block->type) {
    case BLOCK_SECTION:
        read_section(capture, block);
        break;
    case BLOCK_INTERFACE:
        read_interface(capture, block);
        break;
    case BLOCK_OBSOLETE_PACKET:
    case BLOCK_ENHANCED_PACKET:
        read_packet(capture, block);
        break;
    case BLOCK_SIMPLE_PACKET:
        read_simple_packet(capture, block);
        break;
    default:
        break;
    }
}

/* Finds the block at source.at. Returns how many bytes are missing to look at it whole, 0 if none or on a fault. */
static size_t find_block(struct dp_capture *capture, struct block *block)
{
    const uint8_t *at = capture->source.at;
    size_t left = dp_source_left(&capture->source);
    if (left < MIN_BLOCK)
        return MIN_BLOCK;
    if (dp_load_u32(at, false) == BLOCK_SECTION && !read_byte_order(capture, at))
        return 0;
    bool swapped = capture->pcapng.swapped;
    *block = (struct block){
        .at = at, .type = dp_load_u32(at, swapped), .length = dp_load_u32(at + 4, swapped), .swapped = swapped};
    if (block->length % 4 || block->length < min_length(block->type) || block->length > BLOCK_MAX) {
        dp_capture_fault(capture, DP_E_FORMAT, at,
                         "a block of type %" PRIu32 " claims %" PRIu32 " bytes (a multiple of 4 from %" PRIu32
                         " to %d is allowed)",
                         block->type, block->length, min_length(block->type), BLOCK_MAX);
        return 0;
    }
    if (left < block->length)
        return block->length;
    uint32_t closing = dp_load_u32(at + block->length - 4, swapped);
    if (closing != block->length)
        dp_capture_fault(capture, DP_E_FORMAT, at, "a block begins with length %" PRIu32 " but ends with %" PRIu32,
                         block->length, closing);
    return 0;
}

size_t dp_pcapng_blocks(struct dp_capture *capture)
{
    struct dp_source *source = &capture->source;
    const uint8_t *asked = source->at;
    while (capture->tail < capture->room) {
        struct block block = {0};
        asked = dp_prefetch_ahead(asked, source->at, source->end);
        size_t need = find_block(capture, &block);
        if (need)
            return need;
        if (!capture->step)
            return 0;
        read_block(capture, &block);
        if (!capture->step)
            return 0;
        source->at += block.length;
    }
    return 0;
}
