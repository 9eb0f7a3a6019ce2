"""The flags of `python -m local_backend`, and the setup they ask for."""

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path

from local_backend.formats import FORMATS
from local_backend.options import GPU_KV_SHARE, KV_SHARE, EngineConfig, Setup

_UNITS = {"": 1, "MiB": 1 << 20, "GiB": 1 << 30}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m local_backend",
        description="`python -m local_backend --model DIR|bundled`: serve one model over OpenAI's HTTP API.",
        epilog="example: python -m local_backend --model bundled --listen 127.0.0.1:8000",
    )
    _add_model(parser)
    _add_bounds(parser)
    _add_computing(parser)
    _add_end(parser)
    return parser


def setup_of(args: argparse.Namespace, folder: Path) -> Setup:
    return Setup(
        str(folder),
        dtype=args.dtype,
        quantize=args.quantize,
        threads=args.threads,
        ranks=args.tensor_parallel,
        kv_memory=args.kv_memory,
        config=EngineConfig(
            max_waiting=args.max_waiting,
            max_len=args.max_len,
            kv_cache_dtype=args.kv_cache_dtype,
            deterministic=args.deterministic,
            enforce_eager=args.enforce_eager,
            speculate=args.speculate,
        ),
        device=args.device,
        max_seqs=args.max_seqs,
    )


def _add_model(parser: argparse.ArgumentParser) -> None:
    """Which, where, in which bits, and by what name."""
    parser.add_argument("--model", required=True, metavar="DIR|NAME|bundled", help="NAME: of the hub")
    parser.add_argument(
        "--download", action="store_true", help="what is missing of a model of the hub, first"
    )
    parser.add_argument("--listen", type=_address, default="127.0.0.1:8000", metavar="unix:PATH|HOST:PORT")
    parser.add_argument(
        "--device", choices=["auto", "cpu", "cuda"], default="auto", help="auto: a GPU where there is one"
    )
    parser.add_argument(
        "--dtype",
        choices=["auto", "float32", "bfloat16", "float16"],
        default="auto",
        help="of weights and cache; auto: as stored, small models in float32",
    )
    parser.add_argument(
        "--quantize", choices=["none", "int8", "fp8"], default="none", help="weights, while they are loaded"
    )
    parser.add_argument(
        "--tool-format",
        choices=list(FORMATS),
        help="how the model writes tool calls; by default what its chat template shows",
    )
    parser.add_argument("--served-name", action="append", default=[], metavar="NAME")


def _add_bounds(parser: argparse.ArgumentParser) -> None:
    """How much is taken at once, and what it may fill."""
    parser.add_argument(
        "--max-len", type=_number(1, 1 << 24), metavar="N", help="tokens of prompt and answer together"
    )
    parser.add_argument(
        "--max-seqs",
        type=_number(1, 1 << 16),
        metavar="N",
        help="requests decoded at once; by default 64, on a GPU 256",
    )
    parser.add_argument(
        "--speculate",
        type=_number(0, 64),
        default=0,
        metavar="N",
        help="tokens guessed ahead, up to 64, where a text repeats what it said before; by default none",
    )
    parser.add_argument(
        "--max-waiting",
        type=_number(1, 1 << 20),
        default=256,
        metavar="N",
        help="requests that may wait; past it a 503",
    )
    parser.add_argument(
        "--kv-memory",
        type=_size,
        metavar="SIZE|SHARE",
        help=f"such as 2GiB, or 0.5 of what the weights leave; by default {KV_SHARE}, on a GPU {GPU_KV_SHARE}",
    )
    parser.add_argument(
        "--kv-cache-dtype",
        choices=["auto", "fp8"],
        default="auto",
        help="of keys and values; auto: as the weights, fp8: half of it, less exact",
    )


def _add_computing(parser: argparse.ArgumentParser) -> None:
    """By what, and how exactly."""
    parser.add_argument(
        "--deterministic",
        action="store_true",
        help="the same text whoever shares the batch, down to the last bit; slower, and of a GPU",
    )
    parser.add_argument(
        "--enforce-eager", action="store_true", help="on a GPU: no CUDA graphs, which start in less time"
    )
    parser.add_argument(
        "--threads",
        type=_number(0, 1024),
        default=0,
        metavar="N",
        help="of the processor; 0: as many as suit the model",
    )
    parser.add_argument(
        "--tensor-parallel",
        type=_number(1, 64),
        default=1,
        metavar="N",
        help="processes that compute the model together, each with its share of heads and columns",
    )


def _add_end(parser: argparse.ArgumentParser) -> None:
    """When it comes, and what it waits for."""
    parser.add_argument(
        "--drain-timeout",
        type=_seconds,
        default=30.0,
        metavar="SECONDS",
        help="for calls in flight, at the end",
    )
    parser.add_argument(
        "--exit-with-stdin", action="store_true", help="end when standard input does, and at no signal"
    )


def _size(text: str) -> int | float:
    """Bytes, or a share above 0 and up to 1."""
    if re.fullmatch(r"0?\.\d+|1\.0*", text) and float(text):
        return float(text)
    for unit, factor in _UNITS.items():
        digits = text.removesuffix(unit) if unit else text
        if digits.isdigit() and (unit or digits == text):
            return int(digits) * factor
    raise argparse.ArgumentTypeError("write a size such as 512MiB or 2GiB, or a share such as 0.5")


def _number(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"write a whole number from {least} to {most}")
        return int(text)

    return read


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 <= found <= 1e6:
        raise argparse.ArgumentTypeError("write seconds from 0 to 1000000, such as 30")
    return found


def _address(text: str) -> str:
    port = text.rpartition(":")[2]
    if not text.startswith("unix:") and not (port.isdecimal() and int(port) < 1 << 16):
        raise argparse.ArgumentTypeError("write unix:PATH, or HOST:PORT with a port up to 65535")
    if text == "unix:":
        raise argparse.ArgumentTypeError("write a path after unix:")
    return text
