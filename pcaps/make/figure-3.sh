#!/bin/bash
# Figure 3: two subnets; an administrator, a neighbour of the administrator's network, and the ECSs try each other.
. "$(dirname "$0")/namespaces.sh"

network_create
host_create ecs-a01 fa:16:3e:00:03:a1 192.168.0.11/24
host_create ecs-a02 fa:16:3e:00:03:a2 192.168.0.12/24
host_create ecs-b01 fa:16:3e:00:03:b1 192.168.1.11/24
host_create ecs-b02 fa:16:3e:00:03:b2 192.168.1.12/24
host_create admin 02:00:00:00:00:05 172.16.0.5/24
host_create outsider 02:00:00:00:00:15 172.16.1.5/24
host_create internet 02:00:00:00:00:07 198.51.100.7/24

recording_start "${1:-$(dirname "$0")/../figure-3.pcap}"
# A01: SSH from 172.16.0.0/24, and nothing but SSH, and from nowhere else.
ssh_server ecs-a01
connect admin 192.168.0.11 22
unanswering ecs-a01 172.16.0.5 connect admin 192.168.0.11 80
unanswering ecs-a01 172.16.1.5 connect outsider 192.168.0.11 22
# A02: anything within Sg-A.
on ecs-a01 ping -c 2 -i 0.5 192.168.0.12
http_server ecs-a02 8080
on ecs-a01 curl -s http://192.168.0.12:8080/
# B01: SSH from Sg-A to Sg-B, and nothing but SSH; not the other way, and not from the administrator.
ssh_server ecs-b01
connect ecs-a01 192.168.1.11 22
unanswering ecs-b01 192.168.0.11 on ecs-a01 ping -c 2 -i 0.5 -W 1 192.168.1.11
unanswering ecs-a01 192.168.1.11 connect ecs-b01 192.168.0.11 22
unanswering ecs-b01 172.16.0.5 connect admin 192.168.1.11 22
# B02: anything within Sg-B.
on ecs-b01 ping -c 2 -i 0.5 192.168.1.12
# The outbound rules allow all traffic.
on ecs-b02 ping -c 1 198.51.100.7
