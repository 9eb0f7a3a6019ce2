"""Policy files as texts, and what comes of them."""

from collections.abc import Callable, Mapping
from pathlib import Path

from gateway.config.compiler import CompileOptions
from gateway.config.policies import compile_texts
from gateway.config.problem import BadPolicies, Problem
from gateway.config.snapshot import Snapshot
from gateway.config.variables import Variables

NOTHING: Mapping[str, str] = {}

BASE = """\
kind: providers
providers:
  openai: {type: openai, api_key: sk-openai-0001}
  ours: {type: compatible, base_url: "http://127.0.0.1:8000/v1"}
---
kind: models
models:
  gpt-5: {targets: [{provider: openai}]}
  smart: {targets: [{provider: openai, model: gpt-5}, {provider: ours, model: llama}]}
---
kind: access
teams:
  free: {models: [gpt-5]}
  all: {models: ["*"]}
"""


def snapshot(
    *texts: str,
    environ: Mapping[str, str] = NOTHING,
    folder: Path = Path("/nowhere"),
    count: Callable[[str], None] = lambda rule: None,
    everything_on: bool = False,
) -> Snapshot:
    """Of files named a.yaml, b.yaml ... Raises BadPolicies."""
    files = {f"{chr(97 + place)}.yaml": text for place, text in enumerate(texts)}
    options = CompileOptions(Path("/data"), count, everything_on)
    return compile_texts(files, options, Variables(environ, folder))


def problems(
    *texts: str, environ: Mapping[str, str] = NOTHING, folder: Path = Path("/nowhere")
) -> list[Problem]:
    """What is wrong with them; empty when nothing is."""
    try:
        snapshot(*texts, environ=environ, folder=folder)
    except BadPolicies as bad:
        return bad.problems
    return []


def told(*texts: str, environ: Mapping[str, str] = NOTHING, folder: Path = Path("/nowhere")) -> list[str]:
    return [str(problem) for problem in problems(*texts, environ=environ, folder=folder)]
