#!/bin/bash
# Figure 4: ECS-A01 and ECS-A02 share virtual IP 192.168.0.21; ECS-B01 in the other subnet talks to it. Taking the
# address from one host to the other and announcing it with arping is what Keepalived does at a failover.
. "$(dirname "$0")/namespaces.sh"

network_create
host_create ecs-a01 fa:16:3e:00:04:a1 192.168.0.11/24 192.168.0.21/32
host_create ecs-a02 fa:16:3e:00:04:a2 192.168.0.12/24
host_create ecs-b01 fa:16:3e:00:04:b1 192.168.1.11/24

recording_start "${1:-$(dirname "$0")/../figure-4.pcap}"
# Rules A01 and B02 are there. Sg-B reaches the virtual IP; ECS-A01 reaches Sg-B from its private address only.
on ecs-b01 ping -c 2 -i 0.5 192.168.0.21
on ecs-a01 ping -c 2 -i 0.5 -I 192.168.0.11 192.168.1.11
unanswering ecs-b01 192.168.0.21 on ecs-a01 ping -c 2 -i 0.5 -W 1 -I 192.168.0.21 192.168.1.11

sleep 2 # Here rule B01 is added, with the virtual IP as its source.
http_server ecs-b01
on ecs-a01 curl -s --interface 192.168.0.21 http://192.168.1.11/
on ecs-a01 ip address delete 192.168.0.21/32 dev eth0
on ecs-a02 ip address add 192.168.0.21/32 dev eth0
on ecs-a02 arping -q -U -c 1 -I eth0 192.168.0.21
on ecs-a02 ping -c 2 -i 0.5 -I 192.168.0.21 192.168.1.11

sleep 2 # Here rule B01's source becomes 192.168.0.0/24, the CIDR block of Subnet-A.
on ecs-a02 ping -c 2 -i 0.5 -I 192.168.0.21 192.168.1.11
