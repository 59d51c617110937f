"""Scenarios: real processes, real sockets, certificates made at run time."""
