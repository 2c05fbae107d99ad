"""The policy: the document, its mistakes, its limits, and changes to it.

>>> from dataplane.policy import Policy
>>> policy = Policy.load("policy.yaml")
"""

from dataplane.policy.mistakes import ChangeError, Mistake, PolicyError
from dataplane.policy.model import Policy

__all__ = ["ChangeError", "Mistake", "Policy", "PolicyError"]
