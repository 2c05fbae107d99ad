#!/bin/bash
# Figure 1: a PC pings ECS-A and tries SSH; ECS-A fetches a page from the Internet; a stranger pings ECS-A.
. "$(dirname "$0")/namespaces.sh"

network_create
host_create ecs-a fa:16:3e:00:01:01 172.16.0.5/24
host_create pc 02:00:00:00:00:10 203.0.113.10/24
host_create stranger 02:00:00:00:00:99 203.0.113.99/24
host_create internet 02:00:00:00:00:07 198.51.100.7/24

recording_start "${1:-$(dirname "$0")/../figure-1.pcap}"
on pc ping -c 3 -i 0.5 172.16.0.5
ssh_server ecs-a
connect pc 172.16.0.5 22
http_server internet
on ecs-a curl -s http://198.51.100.7/
unanswering ecs-a 203.0.113.99 on stranger ping -c 2 -i 0.5 -W 1 172.16.0.5
