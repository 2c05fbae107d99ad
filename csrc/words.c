/*
 * words.c: one table of words for each enumeration of enum dp_word_kind.
 *
 * Each table is indexed by the values of its enumeration and has exactly as many entries, so that a value added
 * without a word does not compile or shows as an empty word in the tests. The words of a packet's answer are those of
 * SPEC 7; the states of TCP connections are named as connection tracking tools name them, without telling the sides
 * apart.
 */
#include "words.h"

#include "dp_findings.h"

#include <stddef.h>

/* clang-format off */
#define WORD(text) {text, sizeof(text) - 1}
#define HAS_ALL(table, count) _Static_assert(sizeof(table) / sizeof((table)[0]) == (count), "a word for each value")

static const struct dp_word verdicts[] = {
    [DP_DENY] = WORD("deny"),
    [DP_ALLOW] = WORD("allow"),
    [DP_BYPASS] = WORD("bypass"),
};
HAS_ALL(verdicts, DP_VERDICTS);

static const struct dp_word directions[] = {
    [DP_INGRESS] = WORD("ingress"),
    [DP_EGRESS] = WORD("egress"),
};
HAS_ALL(directions, DP_DIRECTIONS);

static const struct dp_word origins[] = {
    [DP_ORIGIN_NONE] = WORD("none"),
    [DP_INBOUND] = WORD("inbound"),
    [DP_OUTBOUND] = WORD("outbound"),
};
HAS_ALL(origins, DP_ORIGINS);

static const struct dp_word states[] = {
    [DP_STATE_NEW] = WORD("new"),
    [DP_STATE_ESTABLISHED] = WORD("established"),
    [DP_STATE_RELATED] = WORD("related"),
    [DP_STATE_DISCONNECTED] = WORD("disconnected"),
    [DP_STATE_INVALID] = WORD("invalid"),
    [DP_STATE_UNTRACKED] = WORD("untracked"),
};
HAS_ALL(states, DP_STATES);

static const struct dp_word reasons[] = {
    [DP_REASON_RULE] = WORD("rule"),
    [DP_REASON_NO_RULE_MATCHED] = WORD("no-rule-matched"),
    [DP_REASON_CONNECTION] = WORD("connection"),
    [DP_REASON_RELATED] = WORD("related"),
    [DP_REASON_DISCONNECTED] = WORD("disconnected"),
    [DP_REASON_INVALID] = WORD("invalid"),
    [DP_REASON_MALFORMED] = WORD("malformed"),
    [DP_REASON_TABLE_FULL] = WORD("table-full"),
    [DP_REASON_LOAD_BALANCER] = WORD("load-balancer"),
    [DP_REASON_CONTROL] = WORD("control"),
};
HAS_ALL(reasons, DP_REASONS);

static const struct dp_word causes[] = {
    [DP_CAUSE_NONE] = WORD("none"),
    [DP_CAUSE_SHORT_HEADER] = WORD("short-header"),
    [DP_CAUSE_BAD_LENGTH] = WORD("bad-length"),
    [DP_CAUSE_BAD_VERSION] = WORD("bad-version"),
    [DP_CAUSE_EXTENSION_CHAIN] = WORD("extension-chain"),
    [DP_CAUSE_BAD_CHECKSUM] = WORD("bad-checksum"),
    [DP_CAUSE_FRAGMENT] = WORD("fragment"),
    [DP_CAUSE_FRAGMENT_LIMIT] = WORD("fragment-limit"),
    [DP_CAUSE_TCP_FLAGS] = WORD("tcp-flags"),
    [DP_CAUSE_TCP_NO_CONNECTION] = WORD("tcp-no-connection"),
    [DP_CAUSE_TCP_STATE] = WORD("tcp-state"),
    [DP_CAUSE_TCP_WINDOW] = WORD("tcp-window"),
    [DP_CAUSE_ICMP_UNSOLICITED] = WORD("icmp-unsolicited"),
    [DP_CAUSE_ICMP_UNRELATED] = WORD("icmp-unrelated"),
    [DP_CAUSE_ICMP_TYPE] = WORD("icmp-type"),
    [DP_CAUSE_NEIGHBOUR_DISCOVERY] = WORD("neighbour-discovery"),
    [DP_CAUSE_SPOOFED] = WORD("spoofed"),
    [DP_CAUSE_ARP] = WORD("arp"),
    [DP_CAUSE_MULTICAST_LISTENER] = WORD("multicast-listener"),
    [DP_CAUSE_DHCP] = WORD("dhcp"),
    [DP_CAUSE_DHCP_SERVER] = WORD("dhcp-server"),
    [DP_CAUSE_CONTROL_RATE] = WORD("control-rate"),
    [DP_CAUSE_NOT_IP] = WORD("not-ip"),
};
HAS_ALL(causes, DP_CAUSES);

static const struct dp_word conn_states[] = {
    [DP_CONN_INVALID] = WORD("INVALID"),
    [DP_CONN_TCP_SYN_SENT] = WORD("SYN_SENT"),
    [DP_CONN_TCP_SIMULTANEOUS] = WORD("SYN_SENT2"),
    [DP_CONN_TCP_SYN_RECEIVED] = WORD("SYN_RECV"),
    [DP_CONN_TCP_SYN_RECEIVED_INITIATOR] = WORD("SYN_RECV"),
    [DP_CONN_TCP_ESTABLISHED] = WORD("ESTABLISHED"),
    [DP_CONN_TCP_FIN_WAIT_INITIATOR] = WORD("FIN_WAIT"),
    [DP_CONN_TCP_FIN_WAIT_RESPONDER] = WORD("FIN_WAIT"),
    [DP_CONN_TCP_CLOSE_WAIT_INITIATOR] = WORD("CLOSE_WAIT"),
    [DP_CONN_TCP_CLOSE_WAIT_RESPONDER] = WORD("CLOSE_WAIT"),
    [DP_CONN_TCP_CLOSING] = WORD("CLOSING"),
    [DP_CONN_TCP_LAST_ACK_INITIATOR] = WORD("LAST_ACK"),
    [DP_CONN_TCP_LAST_ACK_RESPONDER] = WORD("LAST_ACK"),
    [DP_CONN_TCP_TIME_WAIT] = WORD("TIME_WAIT"),
    [DP_CONN_TCP_CLOSE] = WORD("CLOSE"),
    [DP_CONN_ICMP_ONE_WAY] = WORD("UNREPLIED"),
    [DP_CONN_ICMP_TWO_WAY] = WORD("REPLIED"),
    [DP_CONN_OTHER_ONE_WAY] = WORD("UNREPLIED"),
    [DP_CONN_OTHER_TWO_WAY] = WORD("REPLIED"),
};
HAS_ALL(conn_states, DP_CONN_STATES);

static const struct dp_word links[] = {
    [DP_LINK_ETHERNET] = WORD("ethernet"),
    [DP_LINK_RAW] = WORD("raw"),
    [DP_LINK_NULL] = WORD("null"),
    [DP_LINK_LOOP] = WORD("loop"),
    [DP_LINK_SLL] = WORD("sll"),
    [DP_LINK_SLL2] = WORD("sll2"),
    [DP_LINK_PPP] = WORD("ppp"),
    [DP_LINK_PPPOE] = WORD("pppoe"),
    [DP_LINK_CISCO_HDLC] = WORD("cisco-hdlc"),
    [DP_LINK_NFLOG] = WORD("nflog"),
    [DP_LINK_PKTAP] = WORD("pktap"),
};
HAS_ALL(links, DP_LINKS);

static const struct dp_word floods[] = {
    [DP_FLOOD_TCP_HALF_OPEN] = WORD("tcp-half-open"),
    [DP_FLOOD_TCP] = WORD("tcp"),
    [DP_FLOOD_UDP] = WORD("udp"),
    [DP_FLOOD_ICMP] = WORD("icmp"),
    [DP_FLOOD_OTHER] = WORD("other"),
};
HAS_ALL(floods, DP_FLOODS);

static const struct dp_word flow_ends[] = {
    [DP_FLOW_NOT_ADMITTED] = WORD("not-admitted"),
    [DP_FLOW_LIVE] = WORD("live"),
    [DP_FLOW_EXPIRED] = WORD("expired"),
    [DP_FLOW_CLOSED] = WORD("closed"),
    [DP_FLOW_RESET] = WORD("reset"),
    [DP_FLOW_DISCONNECTED] = WORD("disconnected"),
    [DP_FLOW_EVICTED] = WORD("evicted"),
};
HAS_ALL(flow_ends, DP_FLOW_ENDS);

static const struct dp_word flow_losses[] = {
    [DP_FLOW_LOST_NO_ROOM] = WORD("no-room"),
    [DP_FLOW_LOST_QUEUE_FULL] = WORD("queue-full"),
    [DP_FLOW_LOST_NOT_WRITTEN] = WORD("not-written"),
};
HAS_ALL(flow_losses, DP_FLOW_LOSSES);

static const struct dp_word shadow_outcomes[] = {
    [DP_SHADOW_SAME] = WORD("same"),
    [DP_SHADOW_WOULD_DENY] = WORD("would-deny"),
    [DP_SHADOW_WOULD_ALLOW] = WORD("would-allow"),
};
HAS_ALL(shadow_outcomes, DP_SHADOW_OUTCOMES);

static const struct dp_word restored[] = {
    [DP_RESTORED_TAKEN] = WORD("taken"),
    [DP_RESTORED_CUT] = WORD("disconnected"),
    [DP_RESTORED_UPDATED] = WORD("updated"),
    [DP_RESTORED_NO_INSTANCE] = WORD("no-instance"),
    [DP_RESTORED_NOT_VALID] = WORD("not-valid"),
    [DP_RESTORED_EXPIRED] = WORD("expired"),
    [DP_RESTORED_THERE] = WORD("there-already"),
    [DP_RESTORED_FULL] = WORD("table-full"),
};
HAS_ALL(restored, DP_RESTORED_OUTCOMES);

static const struct {
    const struct dp_word *words;
    int count;
} tables[] = {
    [DP_WORD_VERDICT] = {verdicts, DP_VERDICTS},
    [DP_WORD_DIRECTION] = {directions, DP_DIRECTIONS},
    [DP_WORD_ORIGIN] = {origins, DP_ORIGINS},
    [DP_WORD_STATE] = {states, DP_STATES},
    [DP_WORD_REASON] = {reasons, DP_REASONS},
    [DP_WORD_CAUSE] = {causes, DP_CAUSES},
    [DP_WORD_CONN_STATE] = {conn_states, DP_CONN_STATES},
    [DP_WORD_LINK] = {links, DP_LINKS},
    [DP_WORD_FLOOD] = {floods, DP_FLOODS},
    [DP_WORD_FLOW_END] = {flow_ends, DP_FLOW_ENDS},
    [DP_WORD_FLOW_LOSS] = {flow_losses, DP_FLOW_LOSSES},
    [DP_WORD_SHADOW] = {shadow_outcomes, DP_SHADOW_OUTCOMES},
    [DP_WORD_RESTORED] = {restored, DP_RESTORED_OUTCOMES},
};
HAS_ALL(tables, DP_WORD_KINDS);
/* clang-format on */

const struct dp_word *dp_word_table(enum dp_word_kind kind)
{
    return tables[kind].words;
}

const char *dp_word(int kind, int value)
{
    if (kind < 0 || kind >= DP_WORD_KINDS || value < 0 || value >= tables[kind].count)
        return NULL;
    return tables[kind].words[value].text;
}
