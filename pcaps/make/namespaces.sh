# A small network of real hosts: one network namespace per host, all on one bridge, recorded by tcpdump on the bridge.
# Sourced by the scripts beside it. Needs root, iproute2, ethtool, tcpdump, ping, arping, curl and OpenBSD's nc.
#
# Hosts reach each other directly, whatever their subnets: every host has a default route straight onto the wire, so
# that each packet crosses the bridge, and stands in the capture, exactly once. A VPC's router would only change MACs
# and the hop limit. Nothing is filtered here: the captures show what programs send, the policy says what may pass.

set -euo pipefail

network="dp$$"
wire="$network-wire"
recorder=""

# Creates the bridge and the hosts' removal at exit.
network_create() {
    trap network_remove EXIT
    ip netns add "$wire"
    ip netns exec "$wire" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
    ip -n "$wire" link add wire type bridge stp_state 0 mcast_snooping 0
    ip -n "$wire" link set wire promisc on up
}

network_remove() {
    recording_stop
    local namespace
    for namespace in $(ip netns list | awk '{print $1}' | grep "^$network-"); do
        ip netns pids "$namespace" | xargs -r kill 2>/dev/null || true
        ip netns delete "$namespace"
    done
}

# host_create NAME MAC ADDRESS/LENGTH...: a host on the wire. IPv6 is off unless one of the addresses is IPv6; then
# there is no link-local address and no address detection, whose packets would come from no instance's address.
host_create() {
    local name=$1 mac=$2 address
    shift 2
    ip netns add "$network-$name"
    on "$name" sysctl -qw net.ipv6.conf.all.accept_ra=0 net.ipv6.conf.default.accept_ra=0
    [[ "$*" == *:* ]] || on "$name" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
    ip -n "$wire" link add "to-$name" type veth peer name eth0 netns "$network-$name"
    ip -n "$wire" link set "to-$name" master wire up
    on "$name" ip link set eth0 address "$mac" addrgenmode none
    # Checksums are computed before the packet is recorded, as a wire would show them.
    on "$name" ethtool -K eth0 tx off >/dev/null
    on "$name" ip link set lo up
    on "$name" ip link set eth0 up
    for address in "$@"; do
        if [[ $address == *:* ]]; then
            on "$name" ip address add "$address" dev eth0 nodad
            on "$name" ip -6 route replace default dev eth0
        else
            on "$name" ip address add "$address" dev eth0
            on "$name" ip route replace default dev eth0
        fi
    done
}

# on NAME COMMAND...: runs a command on a host.
on() {
    local name=$1
    shift
    ip netns exec "$network-$name" "$@"
}

# unanswering HOST PEER COMMAND...: runs a command while HOST receives what PEER sends but does not answer, as when a
# filter in front of HOST drops it.
unanswering() {
    local name=$1 peer=$2
    shift 2
    on "$name" ip route add blackhole "$peer"
    "$@" || true
    on "$name" ip route delete blackhole "$peer"
}

# ssh_server NAME: sends an SSH banner to one connection on port 22 and closes it.
ssh_server() {
    printf 'SSH-2.0-OpenSSH_9.2p1\r\n' | on "$1" nc -l -N 22 >/dev/null &
    sleep 0.3
}

# http_server NAME [PORT]: answers one request that comes within the next moment.
http_server() {
    { sleep 0.6; printf 'HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n'; } |
        on "$1" nc -l -N "${2:-80}" >/dev/null &
    sleep 0.3
}

# connect NAME ADDRESS PORT [NC OPTION...]: opens a TCP connection, prints what comes, gives up after two seconds.
connect() {
    local name=$1 address=$2 port=$3
    shift 3
    on "$name" nc -d -w 2 "$@" "$address" "$port"
}

# recording_start FILE: records every packet on the wire from now on.
recording_start() {
    sleep 2
    ip netns exec "$wire" tcpdump -i wire --immediate-mode -Z root -n -U -s 0 -w "$1" 2>/dev/null &
    recorder=$!
    sleep 1
}

recording_stop() {
    [[ -z $recorder ]] && return
    sleep 0.5
    kill -INT "$recorder" 2>/dev/null || true
    wait "$recorder" 2>/dev/null || true
    recorder=""
}
