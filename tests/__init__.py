"""Tests of fipsrelay; run all with ``python -m tests``."""

import os

# Trial gives its workers the path of their parent in this; the programs that they start are to go by their own.
os.environ.pop("PYTHONPATH", None)
