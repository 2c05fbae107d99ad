"""Live traffic: the interfaces that a policy names, filtered as they run."""
