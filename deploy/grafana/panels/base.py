"""What a section of the dashboard is made of."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Query:
    """`legend` names labels in double braces, as Grafana takes them."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """Width and height in cells of Grafana's grid, 24 to a row. From `limits` on a value is orange, then red;
    the other way round where the first is larger. `words` name values: (2, "open", "red")."""

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    kind: Literal["timeseries", "stat", "bargauge", "heatmap", "state-timeline", "table"] = "timeseries"
    width: int = 8
    height: int = 7
    stacked: bool = False
    limits: tuple[float, float] | None = None
    words: tuple[tuple[int, str, str], ...] = ()


@dataclass(frozen=True)
class Section:
    title: str
    panels: tuple[Panel, ...]
