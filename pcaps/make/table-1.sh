#!/bin/bash
# Table 1: two ECSs in the default group, with IPv4 and IPv6, and a host on the Internet.
. "$(dirname "$0")/namespaces.sh"

network_create
host_create ecs-1 fa:16:3e:00:11:01 192.168.0.11/24 2407:c080:802:469::11/64
host_create ecs-2 fa:16:3e:00:11:02 192.168.0.12/24 2407:c080:802:469::12/64
host_create internet 02:00:00:00:00:07 198.51.100.7/24 2001:db8::7/64

recording_start "${1:-$(dirname "$0")/../table-1.pcap}"
# Inbound: the instances of the group reach each other.
on ecs-1 ping -c 2 -i 0.5 192.168.0.12
on ecs-2 ping -c 2 -i 0.5 2407:c080:802:469::11
# Outbound: all traffic may leave, and the answers come back.
http_server internet
on ecs-1 curl -s http://198.51.100.7/
on ecs-2 ping -c 1 2001:db8::7
# Everything else from outside is denied.
unanswering ecs-1 198.51.100.7 connect internet 192.168.0.11 22
unanswering ecs-2 2001:db8::7 on internet ping -c 1 -W 1 2407:c080:802:469::12
