"""Policies of others: their documents read as ours, and ours written for them (SPEC 8.8).

A module for each format. Nothing is dropped in silence: what a document says and the other side cannot express is
listed with its place.
"""

from enum import StrEnum


class Format(StrEnum):
    """The documents that can be read; each has a module of its name."""

    huawei = "huawei"
    aws = "aws"
    openstack = "openstack"
    terraform = "terraform"
