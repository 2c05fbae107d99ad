"""What other documents call the fields of a policy, so that a key taken from one of them leads to the right field.

The names are those of the VPC v3 API and its SDK, of OpenStack's networking API and command line, of the AWS EC2 API,
of their Terraform providers, and of packet filters. A key is compared without case, spaces, dashes and underscores:
``FromPort``, ``from_port`` and ``from-port`` are one. A hint names a field that says the same thing, never one that
only looks alike: following it must not change what a rule means.
"""

from __future__ import annotations

from collections.abc import Collection

_PORTS = 'write destination ports as multiport, such as multiport: "22,80-82"'
_PREFIX = "write one address or CIDR block as remote_ip_prefix"
_REMOTE = (
    "the other side of a rule is a remote_ip_prefix (an address or CIDR block), a remote_group_id (a security group) or"
    " a remote_address_group_id"
)
_OWN_GROUP = "a rule belongs to the security group that it stands in: leave the key out"
_RULES = "write rules as security_group_rules, each with its direction"
_DIRECTION = "write direction: ingress or egress"

#: The field that a hint leads to, the hint, and the names that get it. A hint is given where the model has the field;
#: of several the first.
HINTS: tuple[tuple[str, str, str], ...] = (
    # ---- rules ----
    (
        "multiport",
        _PORTS,
        "port ports portrange portranges portrangemin portrangemax portmin portmax minport maxport fromport toport"
        " startport endport dport dports dstport dstports dstportrange destport destinationport destinationports"
        " destinationportrange destinationportranges serviceport tcpports udpports allowedports multiports",
    ),
    (
        "multiport",
        "rules match destination ports, as multiport; a source port selects nothing: leave the key out",
        "sport sports srcport srcports sourceport sourceports sourceportrange sourceportranges sourceportrangemin"
        " sourceportrangemax",
    ),
    (
        "remote_ip_prefix",
        _PREFIX,
        "cidr cidrs cidrip cidripv4 cidripv6 cidripv4s cidripv6s cidrblock cidrblocks cidripv4block ipv6cidrblock"
        " ipv6cidrblocks iprange ipranges ipv6range ipv6ranges ipv4ranges remoteip remoteips remoteipprefixes"
        " remotecidr remoteaddress sourceip sourceips sourceipprefix sourcecidr sourcerange sourceranges sourceaddress"
        " sourceaddressprefix sourceprefix srcip srcipprefix srcprefix saddr daddr dstip dstipprefix dstprefix destip"
        " destinationip destinationips destinationipprefix destinationcidr destinationrange destinationranges"
        " destinationaddress destinationaddressprefix prefix ipprefix network subnet ip ipaddress address addresses",
    ),
    ("remote_ip_prefix", _REMOTE, "source src destination dst dest from to remote remoteid peer sources destinations"),
    (
        "remote_group_id",
        "write the other side's security group as remote_group_id",
        "sourcegroup sourcegroupid sourcesecuritygroup sourcesecuritygroupid sourcesecuritygroups srcgroup"
        " srcsecuritygroup destinationgroup destinationgroupid destinationsecuritygroup destinationsecuritygroupid"
        " referencedgroupid referencedgroupinfo referencedsecuritygroupid remotegroup remotesecuritygroup"
        " remotesecuritygroupid remotesg remotesgid useridgrouppairs self",
    ),
    (
        "remote_address_group_id",
        "write the other side's address group as remote_address_group_id",
        "addressgroup addressgroupid ipaddressgroup ipgroup ipgroupid ipset prefixlist prefixlistid prefixlistids"
        " remoteaddressgroup remoteipaddressgroup remoteipgroup sourceaddressgroup destinationaddressgroup",
    ),
    (
        "direction",
        _OWN_GROUP,
        "securitygroup securitygroupid securitygroups group groupid groupname sg sgid parentgroupid",
    ),
    ("direction", _DIRECTION, "type dir flow traffic chain hook isegress isingress"),
    ("protocol", "write protocol", "proto protocols ipprotocol protocoltype protocolnumber protocolid service"),
    ("ethertype", "write ethertype: IPv4 or IPv6", "family ipfamily addressfamily ipversion version etype"),
    (
        "action",
        "write action: allow or deny",
        "policy target verdict effect access ruleaction decision jump accept drop allow deny permit",
    ),
    (
        "priority",
        "write priority: 1 to 100, where smaller is matched first",
        "prio order rulenumber weight sequence index",
    ),
    ("enabled", "write enabled: true or false", "enable active isenabled disabled disable"),
    ("icmp_type", "write icmp_type", "icmptypecode icmp type4 icmpv4type icmpv6type"),
    # ---- changes ----
    ("delete_rule", "write delete_rule", "droprule removerule delrule rmrule destroyrule"),
    ("add_rule", "write add_rule", "createrule newrule insertrule appendrule rule"),
    ("update_rule", "write update_rule", "modifyrule changerule editrule setrule replacerule"),
    (
        "create_group",
        "write create_group",
        "addgroup newgroup addsecuritygroup createsecuritygroup newsecuritygroup group securitygroup",
    ),
    (
        "update_group",
        "write update_group",
        "modifygroup changegroup editgroup renamegroup setgroup updatesecuritygroup modifysecuritygroup",
    ),
    (
        "delete_group",
        "write delete_group",
        "removegroup dropgroup delgroup destroygroup deletesecuritygroup removesecuritygroup",
    ),
    ("add_instance", "write add_instance", "joininstance addmember insertsecuritygroups addsecuritygroups"),
    ("remove_instance", "write remove_instance", "leaveinstance removemember removesecuritygroups"),
    (
        "create_instance",
        "write create_instance",
        "newinstance insertinstance createport addport newport createserver addserver runinstances",
    ),
    (
        "update_instance",
        "write update_instance",
        "modifyinstance changeinstance editinstance setinstance updateport modifyport setport",
    ),
    (
        "delete_instance",
        "write delete_instance",
        "dropinstance delinstance destroyinstance deleteport removeport deleteserver terminateinstances",
    ),
    (
        "create_address_group",
        "write create_address_group",
        "addaddressgroup newaddressgroup createipgroup addipgroup createprefixlist",
    ),
    (
        "update_address_group",
        "write update_address_group",
        "setaddressgroup changeaddressgroup modifyaddressgroup updateipgroup",
    ),
    (
        "delete_address_group",
        "write delete_address_group",
        "removeaddressgroup dropaddressgroup deladdressgroup deleteipgroup removeipgroup",
    ),
    (
        "create_load_balancer",
        "write create_load_balancer",
        "createbalancer addbalancer addloadbalancer newloadbalancer createlb addlb createelb addelb",
    ),
    (
        "update_load_balancer",
        "write update_load_balancer",
        "updatebalancer modifyloadbalancer setloadbalancer updatelb updateelb",
    ),
    (
        "delete_load_balancer",
        "write delete_load_balancer",
        "deletebalancer removeloadbalancer removebalancer dropbalancer deletelb removelb deleteelb",
    ),
    ("clone_group", "write clone_group", "copygroup clonesecuritygroup"),
    ("apply_policy", "write apply_policy", "policy loadpolicy replacepolicy setpolicy reload"),
    ("security_group", "write security_group", "group groupid securitygroupid sg sgid"),
    ("instance", "write instance", "instanceid port portid member"),
    # ---- groups ----
    (
        "security_group_rules",
        _RULES,
        "rule rules ingress egress ingressrules egressrules inbound outbound inboundrules outboundrules ippermissions"
        " ippermissionsegress securitygrouprule",
    ),
    ("ip_set", "write the entries as ip_set", "ips addresses address cidrs prefixes entries members ipextraset iplist"),
    ("ip_version", "write ip_version: 4 or 6", "ethertype family addressfamily version type"),
    # ---- instances and load balancers ----
    ("backends", "write the ids of its instances as backends", "members member targets servers pool instances"),
    (
        "addresses",
        "write the addresses, without their subnets, as addresses",
        "fixedip fixedips privateip privateips privateipaddress privateipaddresses ip ips ipaddress ipaddresses address"
        " ipv4 ipv6 ipv4address ipv6address ipv6addresses vip vipaddress primaryip cidr",
    ),
    ("mac", "write mac", "macaddress macaddresses macaddr hwaddr hwaddress hardwareaddress ethernetaddress lladdr"),
    ("ip", "write ip", "ipaddress address cidr"),
    (
        "security_groups",
        "write the ids of its security groups as security_groups",
        "securitygroup securitygroupid securitygroupids vpcsecuritygroupids groups group groupid sgs sg sgids groupset",
    ),
    ("vpc", "write vpc", "vpcid network networkid router routerid"),
    ("interface", "write interface", "device dev devname ifname iface tapdevice tapname vif nic networkinterface"),
    ("allowed_address_pairs", "write virtual IPs as allowed_address_pairs", "vips virtualip virtualips secondaryips"),
    ("port_security_enabled", "write port_security_enabled", "portsecurity sourcedestcheck antispoofing spoofguard"),
    # ---- the whole ----
    (
        "security_groups",
        "write rules into the security_group_rules of a group in security_groups",
        "rules securitygrouprules securitygrouprule",
    ),
    (
        "instances",
        "write ports as instances, each with its addresses",
        "ports port servers vms hosts endpoints members",
    ),
    ("address_groups", "write address_groups", "ipgroups ipaddressgroups ipsets prefixlists"),
    ("load_balancers", "write load_balancers", "loadbalancer elbs lbs balancers"),
    ("conntrack", "write conntrack", "connectiontracking connections tracking"),
    # ---- whatever has an id ----
    ("id", "write id", "uuid guid ruleid securitygroupruleid groupid securitygroupid portid instanceid addressgroupid"),
    ("name", "write name", "groupname title label displayname tagname"),
    ("description", "write description", "comment comments note notes remark remarks desc"),
)

#: What is true of a thing in a cloud and selects nothing here.
_OF_A_CLOUD = (
    "accountid adminstateup arn bindinghostid bindingprofile bindingvifdetails bindingviftype bindingvnictype"
    " createdat deviceid deviceowner dnsassignment dnsname domainid enterpriseprojectid instancetype isdefault"
    " ispublic links maxcapacity networkid ownerid pageinfo projectid requestid revisionnumber revokerulesondelete"
    " scope securitygrouparn securitygrouprulearn shared standardattrid standbyrules stateful status subnetcidrid"
    " subnetid tag tags tenantid timeouts updatedat zoneid"
)


def _plain(key: str) -> str:
    return "".join(c for c in key.lower() if c.isalnum())


def hint(key: str, known: Collection[str]) -> str | None:
    """What to write in place of a key that is none of the fields `known` of a model; None where nothing is known."""
    plain = _plain(key)
    # A rule's own group is a matter of where the rule stands; the same word elsewhere is what things are called by.
    for field, sentence, names in HINTS:
        if field in known and plain in names.split():
            return sentence
    for field in known:
        if plain == _plain(field):
            return f"write {field}"
    if plain in _OF_A_CLOUD.split():
        return "a policy does not have it: leave the key out"
    return None
