"""Programs that stand for those which the launch scripts call."""

import pathlib
import stat


def tool(path: pathlib.Path, text: str) -> None:
    """Writes a program in Bash."""
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
