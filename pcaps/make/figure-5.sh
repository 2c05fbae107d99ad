#!/bin/bash
# Figure 5: ECS-A in VPC-A and ECS-B in VPC-B reach each other; ECS-C, in VPC-B but in a group of its own, reaches none.
. "$(dirname "$0")/namespaces.sh"

network_create
host_create ecs-a fa:16:3e:00:05:0a 192.168.0.11/24
host_create ecs-b fa:16:3e:00:05:0b 10.0.0.11/24
host_create ecs-c fa:16:3e:00:05:0c 10.0.0.12/24

recording_start "${1:-$(dirname "$0")/../figure-5.pcap}"
on ecs-a ping -c 2 -i 0.5 10.0.0.11
http_server ecs-a
on ecs-b curl -s http://192.168.0.11/
unanswering ecs-a 10.0.0.12 on ecs-c ping -c 2 -i 0.5 -W 1 192.168.0.11
unanswering ecs-c 192.168.0.11 connect ecs-a 10.0.0.12 22
