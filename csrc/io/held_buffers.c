/* held_buffers.c: held_buffers.h in code. */
#include "held_buffers.h"

#include <stdlib.h>

enum { FREE = 8 };

static void take_out(struct dp_held_buffers *held, uint32_t at)
{
    held->buffer[at] = held->buffer[--held->n];
}

/* Frees what nobody looks at, but for so many. */
static void trim(struct dp_held_buffers *held, uint32_t kept)
{
    for (uint32_t i = 0; i < held->n;) {
        if (held->buffer[i].until > held->back) {
            i++;
        } else if (kept) {
            kept--;
            i++;
        } else {
            free(held->buffer[i].bytes);
            take_out(held, i);
        }
    }
}

bool dp_held_put(struct dp_held_buffers *held, uint8_t *bytes, size_t capacity, uint32_t thread)
{
    trim(held, FREE);
    if (held->n == held->room) {
        uint32_t room = held->room ? 2 * held->room : FREE;
        struct dp_held_buffer *grown = realloc(held->buffer, room * sizeof *grown);

        if (!grown)
            return false;
        held->buffer = grown;
        held->room = room;
    }
    held->buffer[held->n++] = (struct dp_held_buffer){bytes, capacity, thread, held->handed};
    return true;
}

uint8_t *dp_held_take(struct dp_held_buffers *held, size_t size, size_t *capacity)
{
    for (uint32_t i = 0; i < held->n; i++)
        if (held->buffer[i].until <= held->back && held->buffer[i].capacity >= size &&
            held->buffer[i].thread == held->thread) {
            uint8_t *bytes = held->buffer[i].bytes;

            *capacity = held->buffer[i].capacity;
            take_out(held, i);
            return bytes;
        }
    return NULL;
}

void dp_held_release(struct dp_held_buffers *held)
{
    for (uint32_t i = 0; i < held->n; i++)
        free(held->buffer[i].bytes);
    free(held->buffer);
    *held = (struct dp_held_buffers){0};
}
