"""Tests of what is installed: slow, as root, on a machine of their own."""
