"""Faults of the disk and the machine: what the writer is told, and what the daemon makes of it."""
