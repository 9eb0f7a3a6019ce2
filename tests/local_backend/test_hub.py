"""Models by name, from a hub on this machine: in a process of its own, for huggingface_hub reads its settings once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from local_backend.config import BUNDLED, UnusableModel
from local_backend.hub import find
from tests.local_backend.hub import hub

pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed: make .make/local")

NAMES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
PIECE = 10 << 20  # bytes in which huggingface_hub writes what comes
FILES = {
    **{name: (BUNDLED / name).read_bytes() for name in NAMES},
    "model.safetensors": bytes(5 * PIECE // 2),
    "pytorch_model.bin": b"pickled: never asked for",
    "modeling_tiny.py": b"raise SystemExit('code of a model ran')",
    "onnx/config.json": b"{}",
}


def ask(
    home: Path, endpoint: str, name: str, download: bool, **more: str
) -> subprocess.CompletedProcess[str]:
    """The folder on standard output, or exit code 1 and why."""
    script = f"""
import sys
from local_backend.config import UnusableModel
from local_backend.hub import find
try:
    print(find({name!r}, download={download}))
except UnusableModel as error:
    sys.exit(str(error))
"""
    environ = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environ |= {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_TELEMETRY": "1", **more}
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, env=environ
    )


def test_a_transfer_that_breaks_is_taken_up_where_it_stopped_and_the_model_is_found_offline(
    tmp_path: Path,
) -> None:
    """Over a second: three interpreters, and huggingface_hub waits one before it tries again."""
    with hub(FILES, breaks=True) as server:
        missing = ask(tmp_path, server.url, "tiny/model", download=False)
        assert missing.returncode == 1
        assert "python -m local_backend --model tiny/model --download" in missing.stderr
        assert server.asked == [], "nothing is asked of the hub unasked"
        came = ask(tmp_path, server.url, "tiny/model", download=True)
        assert came.returncode == 0, came.stderr
        assert "resume" in came.stderr
        assert "Downloading" in came.stderr or "%" in came.stderr, "progress is shown"
        first, second = server.ranges("model.safetensors")
        assert (first, second) == ("", f"bytes={PIECE}-"), "what was written is kept"
        assert server.ranges("pytorch_model.bin") == server.ranges("modeling_tiny.py") == []
    folder = Path(came.stdout.strip())
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        name: FILES[name] for name in (*NAMES, "model.safetensors")
    }
    offline = ask(tmp_path, "http://127.0.0.1:9", "tiny/model", download=False)
    assert Path(offline.stdout.strip()) == folder


def test_a_hub_out_of_reach_is_a_clear_error_with_a_remedy(tmp_path: Path) -> None:
    told = ask(tmp_path, "http://127.0.0.1:9", "tiny/model", download=True)
    assert told.returncode == 1
    for words in (
        "tiny/model: cannot be downloaded",
        "HTTPS_PROXY",
        "HF_ENDPOINT",
        "copy the model's folder",
    ):
        assert words in told.stderr
    assert "Traceback" not in told.stderr


def test_a_name_the_hub_does_not_know_says_so(tmp_path: Path) -> None:
    with hub({}) as server:
        told = ask(tmp_path, server.url, "tiny/other", download=True)
    assert told.returncode == 1
    assert "the hub has no such model, or it is private" in told.stderr


def test_folders_go_before_names_and_need_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert find("bundled", download=False) == BUNDLED
    assert find(str(BUNDLED), download=False) == BUNDLED
    with pytest.raises(UnusableModel, match="no model folder"):
        find("/no/such/folder", download=False)
    with pytest.raises(UnusableModel, match="leave out --download"):
        find("bundled", download=True)
    with pytest.raises(UnusableModel, match="need huggingface_hub; pip install"):
        find("tiny/model", download=False)
