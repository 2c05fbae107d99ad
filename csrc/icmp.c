/* icmp.c: icmp.h in code. */
#include "icmp.h"

#include "wire.h"

bool dp_icmp_query(uint8_t protocol, uint8_t type, uint8_t *query, bool *reply)
{
    if (protocol == DP_PROTO_ICMPV6) {
        if (type != 128 && type != 129)
            return false;
        *query = 128;
        *reply = type == 129;
        return true;
    }
    switch (type) {
    case 0: /* echo */
        *query = 8;
        *reply = true;
        return true;
    case 8:
        *query = 8;
        *reply = false;
        return true;
    case 13: /* timestamp, information, address mask: the reply's type is the next */
    case 15:
    case 17:
        *query = type;
        *reply = false;
        return true;
    case 14:
    case 16:
    case 18:
        *query = (uint8_t)(type - 1);
        *reply = true;
        return true;
    default:
        return false;
    }
}

bool dp_icmp_error(uint8_t protocol, uint8_t type)
{
    if (protocol == DP_PROTO_ICMPV6)
        return type >= 1 && type <= 4;
    return type == 3 || type == 4 || type == 11 || type == 12;
}
