"""Reads /metrics as a scraper does, strictly by the rules of the text format (exposition format 0.0.4)."""

import re
from typing import Self

_LINE = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
_LABEL = re.compile(r'(?P<name>[a-zA-Z_]\w*)="(?P<value>(?:[^"\\\n]|\\[\\"n])*)"(?:,|$)')
_BY_ITSELF = re.compile(r"_seconds(_bucket|_sum)?$|_loop_lag_")
_ESCAPED = re.compile(r"\\(.)")

Series = tuple[str, frozenset[tuple[str, str]]]


class Scrape:
    """`series` holds each sample's value by its name and labels. Raises ValueError for text that is no metrics."""

    def __init__(self, text: str) -> None:
        self.series: dict[Series, float] = {}
        for line in text.split("\n"):
            if not line or line.startswith("#"):
                continue
            match = _LINE.fullmatch(line)
            if match is None:
                raise ValueError(f"not a sample: {line!r}")
            key = (match["name"], _labels(match["labels"] or ""))
            if key in self.series:
                raise ValueError(f"twice: {line!r}")
            self.series[key] = float(match["value"])

    def value(self, name: str, **labels: str) -> float:
        """0 for a series that is not there."""
        wanted = frozenset(labels.items())
        return self.series.get((name, wanted), 0)

    def since(self, before: Self) -> dict[str, float]:
        """What moved, written as `name{a=b}`, without what moves by itself: times, ages, the loop's lag."""
        moved = {key: value - before.series.get(key, 0) for key, value in self.series.items()}
        return {
            _told(key): change for key, change in moved.items() if change and not _BY_ITSELF.search(key[0])
        }


def _labels(text: str) -> frozenset[tuple[str, str]]:
    found, at = [], 0
    while at < len(text):
        match = _LABEL.match(text, at)
        if match is None:
            raise ValueError(f"not labels: {text!r}")
        value = _ESCAPED.sub(lambda one: "\n" if one[1] == "n" else one[1], match["value"])
        found.append((match["name"], value))
        at = match.end()
    return frozenset(found)


def _told(key: Series) -> str:
    name, labels = key
    inner = ",".join(f"{label}={value}" for label, value in sorted(labels))
    return f"{name}{{{inner}}}" if inner else name
