"""Tests of fipsrelay; run all with ``python -m tests``."""

import os

from hypothesis import HealthCheck, settings

# Trial gives its workers the path of their parent in this; the programs that they start are to go by their own.
os.environ.pop("PYTHONPATH", None)
# How long something takes is for benchmarks to say.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")
