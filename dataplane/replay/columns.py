"""What verdict records are made of where they are flat: in CSV and in Parquet."""

#: The columns of a table with a row for each check, and one for a packet without checks.
COLUMNS = (
    *("packet", "time", "verdict"),
    *("instance", "direction", "check_verdict", "state", "reason", "rule", "security_group", "connection"),
    *("cause", "opened_by"),
    *("protocol", "source", "destination", "source_port", "destination_port", "icmp_type", "icmp_code", "vlans"),
    *("capture", "capture_packet", "interface", "length"),
)
