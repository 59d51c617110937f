"""Python imports this by itself in a program that has its folder on PYTHONPATH: counts the program's calls by name.

``PYTHON`` stands for all calls of functions in Python, and the names of functions in C for calls of these. The numbers
so far are written to the file ``CALL_COUNTS``, as JSON, at SIGUSR2.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

_counts: Counter[str] = Counter()


def _count(frame: FrameType, event: str, argument: Any) -> None:
    if event == "call":
        _counts["PYTHON"] += 1
    elif event == "c_call":
        _counts[argument.__name__] += 1


def _write(number: int, frame: FrameType | None) -> None:
    file = Path(os.environ["CALL_COUNTS"])
    draft = file.with_suffix(".draft")
    draft.write_text(json.dumps(_counts))
    draft.replace(file)


signal.signal(signal.SIGUSR2, _write)
sys.setprofile(_count)
