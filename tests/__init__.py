"""Tests of fipsrelay; run all with ``python -m tests``."""
