"""Documents of other systems, as their programs print them."""

from __future__ import annotations

from typing import Any

AWS: dict[str, Any] = {
    "SecurityGroups": [
        {
            "Description": "web servers",
            "GroupName": "web",
            "IpPermissions": [
                {
                    "IpProtocol": "tcp",
                    "FromPort": 80,
                    "ToPort": 82,
                    "IpRanges": [{"CidrIp": "0.0.0.0/0", "Description": "world"}, {"CidrIp": "10.0.0.0/8"}],
                    "Ipv6Ranges": [{"CidrIpv6": "::/0"}],
                    "PrefixListIds": [{"PrefixListId": "pl-63a5400a"}],
                    "UserIdGroupPairs": [],
                },
                {
                    "IpProtocol": "icmp",
                    "FromPort": 3,
                    "ToPort": 4,
                    "IpRanges": [{"CidrIp": "10.0.0.0/8"}],
                    "UserIdGroupPairs": [],
                },
                {"IpProtocol": "icmpv6", "FromPort": -1, "ToPort": -1, "Ipv6Ranges": [{"CidrIpv6": "::/0"}]},
                {
                    "IpProtocol": "-1",
                    "UserIdGroupPairs": [{"GroupId": "sg-0db"}, {"GroupId": "sg-far", "UserId": "444455556666"}],
                },
            ],
            "OwnerId": "111122223333",
            "GroupId": "sg-0web",
            "IpPermissionsEgress": [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}],
            "VpcId": "vpc-1",
        },
        {
            "GroupName": "db",
            "GroupId": "sg-0db",
            "IpPermissions": [
                {"IpProtocol": "tcp", "FromPort": 0, "ToPort": 65535, "UserIdGroupPairs": [{"GroupId": "sg-0web"}]},
                {"IpProtocol": "udp", "FromPort": 0, "ToPort": 53, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]},
            ],
            "IpPermissionsEgress": [],
        },
    ]
}

OPENSTACK: list[dict[str, Any]] = [
    {
        "ID": "r1",
        "IP Protocol": "tcp",
        "Ethertype": "IPv4",
        "IP Range": "10.0.0.0/8",
        "Port Range": "22:22",
        "Direction": "ingress",
        "Remote Security Group": None,
        "Remote Address Group": None,
        "Security Group": "g1",
    },
    {
        "ID": "r2",
        "IP Protocol": None,
        "Ethertype": "IPv6",
        "IP Range": "::/0",
        "Port Range": "",
        "Direction": "egress",
        "Remote Security Group": "g1",
        "Remote Address Group": None,
        "Security Group": "g1",
    },
    {
        "ID": "r3",
        "IP Protocol": "ipv6-icmp",
        "Ethertype": "IPv6",
        "IP Range": "::/0",
        "Port Range": "type=128",
        "Direction": "ingress",
        "Security Group": "g1",
    },
    {
        "ID": "r4",
        "IP Protocol": "icmp",
        "Ethertype": "IPv4",
        "IP Range": "0.0.0.0/0",
        "Port Range": "type=3:code=4",
        "Direction": "ingress",
        "Security Group": "g1",
    },
    {
        "ID": "r5",
        "IP Protocol": "icmp",
        "Ethertype": "IPv4",
        "IP Range": "0.0.0.0/0",
        "Port Range": "type=3",
        "Direction": "ingress",
        "Security Group": "g1",
    },
    {
        "ID": "r6",
        "IP Protocol": "vrrp",
        "Ethertype": "IPv4",
        "IP Range": "10.0.0.0/24",
        "Port Range": "",
        "Direction": "ingress",
        "Remote Address Group": "ag-gone",
        "Security Group": "g1",
    },
]

HUAWEI: dict[str, Any] = {
    "security_groups": [
        {
            "id": "g1",
            "name": "web",
            "project_id": "p1",
            "created_at": "2020-07-09T05:56:27Z",
            "security_group_rules": [
                {
                    "id": "r1",
                    "direction": "ingress",
                    "ethertype": "ipv4",
                    "protocol": "tcp",
                    "multiport": "22,80-82",
                    "remote_ip_prefix": None,
                    "remote_group_id": None,
                    "remote_address_group_id": "ag",
                    "action": "deny",
                    "priority": 5,
                    "enabled": False,
                },
                {
                    "id": "r2",
                    "direction": "ingress",
                    "ethertype": "IPv4",
                    "protocol": "47",
                    "multiport": "",
                    "remote_ip_prefix": "192.168.1.0/24",
                    "action": "allow",
                    "priority": 1,
                    "enabled": True,
                },
            ],
        }
    ],
    "address_groups": [{"id": "ag", "name": "office", "ip_version": 4, "ip_extra_set": [{"ip": "10.0.0.1-10.0.0.9"}]}],
    "ports": [
        {
            "id": "port-1",
            "mac_address": "fa:16:3e:00:00:01",
            "private_ips": [{"ip_address": "192.168.1.5", "subnet_cidr_id": "s"}],
            "security_groups": ["g1"],
            "vpc_id": "vpc-1",
            "allowed_address_pairs": [
                {"ip_address": "192.168.1.9", "mac_address": "fa:16:3e:00:00:01"},
                {"ip_address": "192.168.1.10", "mac_address": "00:00:5e:00:01:07"},
            ],
        }
    ],
}

TERRAFORM: dict[str, Any] = {
    "version": 4,
    "terraform_version": "1.9.0",
    "resources": [
        {
            "mode": "managed",
            "type": "aws_security_group",
            "name": "web",
            "instances": [
                {
                    "attributes": {
                        "id": "sg-1",
                        "name": "web",
                        "ingress": [
                            {
                                "protocol": "tcp",
                                "from_port": 443,
                                "to_port": 443,
                                "cidr_blocks": ["0.0.0.0/0"],
                                "ipv6_cidr_blocks": [],
                                "prefix_list_ids": ["pl-1"],
                                "security_groups": [],
                                "self": True,
                                "description": "",
                            }
                        ],
                        "egress": [],
                    }
                }
            ],
        },
        {
            "mode": "managed",
            "type": "aws_vpc_security_group_ingress_rule",
            "name": "same",
            "instances": [
                {
                    "attributes": {
                        "security_group_id": "sg-1",
                        "ip_protocol": "tcp",
                        "from_port": 443,
                        "to_port": 443,
                        "cidr_ipv4": "0.0.0.0/0",
                    }
                }
            ],
        },
        {
            "mode": "managed",
            "type": "aws_ec2_managed_prefix_list",
            "name": "offices",
            "instances": [
                {
                    "attributes": {
                        "id": "pl-1",
                        "name": "offices",
                        "address_family": "IPv4",
                        "entry": [{"cidr": "198.51.100.0/24", "description": ""}],
                    }
                }
            ],
        },
        {
            "mode": "managed",
            "type": "huaweicloud_networking_secgroup",
            "name": "hw",
            "instances": [{"attributes": {"id": "hw-1", "name": "hw", "rules": []}}],
        },
        {
            "mode": "managed",
            "type": "huaweicloud_networking_secgroup_rule",
            "name": "ssh",
            "instances": [
                {
                    "attributes": {
                        "id": "hw-r1",
                        "security_group_id": "hw-1",
                        "direction": "ingress",
                        "ethertype": "IPv4",
                        "protocol": "tcp",
                        "ports": "22,2222-2224",
                        "remote_ip_prefix": "10.0.0.0/8",
                        "remote_group_id": "",
                        "action": "allow",
                        "priority": 3,
                    }
                }
            ],
        },
        {
            "mode": "managed",
            "type": "openstack_networking_secgroup_rule_v2",
            "name": "dns",
            "instances": [
                {
                    "attributes": {
                        "id": "os-r1",
                        "security_group_id": "hw-1",
                        "direction": "ingress",
                        "ethertype": "IPv4",
                        "protocol": "udp",
                        "port_range_min": 53,
                        "port_range_max": 53,
                        "remote_ip_prefix": "0.0.0.0/0",
                    }
                }
            ],
        },
        {"mode": "managed", "type": "aws_network_acl", "name": "acl", "instances": [{"attributes": {"id": "acl-1"}}]},
        {"mode": "managed", "type": "aws_instance", "name": "vm", "instances": [{"attributes": {"id": "i-1"}}]},
    ],
}
