/* capture_state.c: what readers of a capture found wrong in it. */
#include "capture_state.h"

#include <stdarg.h>
#include <stdio.h>

void dp_capture_fault(struct dp_capture *capture, int error, const uint8_t *where, const char *format, ...)
{
    struct dp_capture_status *status = &capture->status;
    va_list arguments;
    status->error = error;
    status->offset = dp_source_offset(&capture->source, where);
    va_start(arguments, format);
    (void)vsnprintf(status->detail, sizeof status->detail, format, arguments);
    va_end(arguments);
    capture->step = NULL;
}

void dp_capture_count_strange(struct dp_capture *capture, uint32_t link_type, uint32_t packets)
{
    struct dp_capture_status *status = &capture->status;
    uint32_t i = 0;
    while (i < status->n_strange && status->strange[i].link_type != link_type)
        i++;
    if (i == DP_STRANGE_LINKS)
        i--;
    else if (i == status->n_strange)
        status->strange[status->n_strange++].link_type = link_type;
    status->strange[i].packets += packets;
}
