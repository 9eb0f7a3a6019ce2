"""What a device is to do over and over, as one CUDA graph: all that it takes is launched at once."""

from collections.abc import Callable
from typing import Any

import torch

Act = Callable[[], None]


def captured(act: Act, pool: Any) -> Act:
    """`act` as a graph whose memory is the pool's; itself where there is no pool. A first run compiles what is to be
    compiled and takes what memory libraries keep. A graph knows addresses and holds nothing: what it reads of others
    has to live as long as it. It must not hold them either: what refers to itself is given back at any time, and when
    that is while something is captured, the capture fails."""
    if pool is None:
        return act
    current, aside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(current)
    with torch.cuda.stream(aside):
        act()
    current.wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        act()
    return graph.replay
