"""A small box: how a 0.6B-shaped int8 model with random weights starts and answers, and what memory its processes have
for themselves: `python -m loadtests.edge` (pages of the file of weights, which the kernel may drop, do not count)."""

import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import torch
from safetensors.torch import save_file

from loadtests.engine.shapes import Random, config_of, write
from local_backend.config import BUNDLED
from local_backend.loader import places
from local_backend.model import Decoder

SHAPE = "Qwen3-0.6B"
BODY = {"model": "m", "prompt": "hello there", "temperature": 0, "max_tokens": 64, "ignore_eos": True}
PAUSE = 0.02  # seconds between looks at the memory


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        print(f"writing {SHAPE} with random weights in bf16 ...", flush=True)
        _make(Path(folder))
        _run(folder)


def _make(folder: Path) -> None:
    """Under Hugging Face's names; the tokenizer is the bundled model's."""
    write(SHAPE, folder)
    config, source = config_of(SHAPE), Random(torch.device("cpu"), torch.bfloat16)
    with torch.device("meta"):
        model = Decoder(config)
    tensors = {
        f"{part.name}.{kind}": source.read(f"{part.name}.{kind}", (part.rows, *parameter.shape[1:]))
        for place in places(config)
        for kind, parameter in model.get_submodule(place.ours).named_parameters(recurse=False)
        for part in place.parts
    }
    save_file(tensors, folder / "model.safetensors")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUNDLED / name, folder)


def _run(folder: str) -> None:
    socket, began = f"{folder}/engine.sock", time.perf_counter()
    command = [sys.executable, "-m", "local_backend", "--model", folder, "--quantize", "int8"]
    command += [
        "--kv-memory",
        "128MiB",
        "--served-name",
        "m",
        "--listen",
        f"unix:{socket}",
        "--exit-with-stdin",
    ]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert process.stdin is not None
    peak, over = [0.0], threading.Event()
    watch = threading.Thread(target=_watch, args=(process.pid, peak, over))
    watch.start()
    transport = httpx.HTTPTransport(uds=socket)
    with process.stdin, httpx.Client(transport=transport, base_url="http://engine", timeout=300) as client:
        while not _is_ready(client):
            time.sleep(PAUSE)
        print(f"ready after {time.perf_counter() - began:.1f} s, at most {peak[0]:.0f} MB")
        for rows in (1, 8):
            since = time.perf_counter()
            with ThreadPoolExecutor(rows) as threads:
                list(
                    threads.map(
                        lambda _: client.post("/v1/completions", json=BODY).raise_for_status(), range(rows)
                    )
                )
            seconds = time.perf_counter() - since
            print(f"{rows} at once: {rows * 64 / seconds:.1f} tokens/s, at most {peak[0]:.0f} MB", flush=True)
    process.wait()
    over.set()
    watch.join()


def _is_ready(client: httpx.Client) -> bool:
    with suppress(httpx.TransportError):
        return client.get("/health").status_code == 200
    return False


def _watch(pid: int, peak: list[float], over: threading.Event) -> None:
    while not over.wait(PAUSE):
        with suppress(OSError):
            engines = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            peak[0] = max(peak[0], sum(map(_own_megabytes, (str(pid), *engines))))


def _own_megabytes(pid: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    main()
