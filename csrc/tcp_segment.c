/* tcp_segment.c: tcp_segment.h in code. */
#include "tcp_segment.h"

#include "bytes.h"
#include "wire.h"

static void parse_tcp_scale(const uint8_t *option, uint32_t n, struct dp_tcp_segment *tcp)
{
    while (n > 0) {
        uint32_t size;

        if (option[0] == 0)
            return;
        if (option[0] == 1) {
            option++;
            n--;
            continue;
        }
        if (n < 2 || (size = option[1]) < 2 || size > n)
            return;
        if (option[0] == 3 && size == 3)
            tcp->scale = option[2] > 14 ? 14 : (int8_t)option[2]; /* RFC 7323, 2.3 */
        option += size;
        n -= size;
    }
}

void dp_tcp_read(const uint8_t *p, uint32_t header, uint32_t length, uint32_t captured, struct dp_tcp_segment *tcp)
{
    tcp->seq = dp_get32(p + 4);
    tcp->ack = dp_get32(p + 8);
    tcp->flags = p[13];
    tcp->window = dp_get16(p + 14);
    tcp->scale = -1;
    tcp->end = tcp->seq + (length - header) + !!(tcp->flags & DP_TCP_FLAG_SYN) + !!(tcp->flags & DP_TCP_FLAG_FIN);
    if (tcp->flags & DP_TCP_FLAG_SYN) {
        if (header > captured)
            tcp->scale = DP_TCP_SCALE_CUT;
        else
            parse_tcp_scale(p + 20, header - 20, tcp);
    }
}
