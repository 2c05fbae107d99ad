"""The daemon as a process: its rights, system calls, signals, descriptors, log and service manager."""
