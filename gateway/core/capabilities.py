"""What a model can do, as far as it decides where a call may go. What is not known counts as possible."""

from typing import NamedTuple


class Capabilities(NamedTuple):
    """`context` and `output` are tokens, 0 where the bound is unknown."""

    tools: bool = True
    parallel_tools: bool = True
    images: bool = True
    documents: bool = True
    audio: bool = True
    json_schema: bool = True
    reasoning: bool = True  # takes an effort
    prefill: bool = True  # goes on with an answer that the call begins
    context: int = 0
    output: int = 0
