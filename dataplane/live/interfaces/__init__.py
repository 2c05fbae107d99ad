"""Interfaces of the host: found, locked, set up, opened as ports, and put back."""
