"""Where in the user's code are we? For messages that name a source line."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

_OURS = (str(Path(__file__).resolve().parent.parent), str(Path(asyncio.__file__).parent))


def user_line() -> str:
    """`file.py:12 in name`: the innermost frame outside of this package and of asyncio."""
    frame = sys._getframe(1)
    while True:
        name = frame.f_code.co_filename
        if not name.startswith(_OURS) and not name.startswith("<"):
            return f"{name}:{frame.f_lineno} in {frame.f_code.co_name}"
        if frame.f_back is None:
            return "an unknown line"
        frame = frame.f_back
