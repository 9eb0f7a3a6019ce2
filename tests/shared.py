"""Where the shared test data lies (recordings, models, templates); tests skip when it is absent."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("GATEHOUSE_SHARED") or ROOT.parent / "shared")


def shared(relative: str) -> Path:
    """The path of one shared file or folder; skips the test, saying why, where there is none."""
    path = SHARED / relative
    if not path.exists():
        pytest.skip(f"no test data at {path}: set GATEHOUSE_SHARED to the folder that holds it")
    return path
