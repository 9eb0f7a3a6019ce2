"""How long the local backend takes to start, and what its two processes hold: `python -m loadtests.startup`."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

STARTS = 6
BODY = {"model": "bundled", "messages": [{"role": "user", "content": "hi"}]}


def main() -> None:
    for _ in range(STARTS):
        with tempfile.TemporaryDirectory() as folder:
            _start(f"{folder}/engine.sock")


def _start(path: str) -> None:
    began = time.perf_counter()
    command = [sys.executable, "-m", "local_backend", "--model", "bundled", "--listen", f"unix:{path}"]
    process = subprocess.Popen([*command, "--exit-with-stdin"], stdin=subprocess.PIPE)
    assert process.stdin is not None
    transport = httpx.HTTPTransport(uds=path)
    with process.stdin, httpx.Client(transport=transport, base_url="http://engine", timeout=60) as client:
        listening = 0.0
        while True:
            time.sleep(0.01)
            try:
                status = client.get("/health").status_code
            except httpx.TransportError:
                continue
            listening = listening or time.perf_counter() - began
            if status == 200:
                break
        ready = time.perf_counter() - began
        client.post("/v1/chat/completions", json=BODY).raise_for_status()
        engines = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        held = [f"{_megabytes(pid):.0f} MB" for pid in (str(process.pid), *engines)]
    process.wait()
    print(f"listening {listening:.2f} s, ready {ready:.2f} s, server and engine {' and '.join(held)}")


def _megabytes(pid: str) -> float:
    """Proportional set size: pages that processes share are divided among them."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    main()
