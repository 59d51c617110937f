"""Builds the .deb and the .rpm: a Python of their own under /opt/fipsrelay, and what belongs around it.

Not part of the program: nothing under ``fipsrelay`` imports this.
"""
