"""Metrics as Prometheus text (exposition format 0.0.4), for one process or the sum of many."""

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.core.tally import Histogram, Labels, Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


class _Escaped(dict[str, str]):
    """Values of labels as they are written: most come again in a thousand lines."""

    def __missing__(self, value: str) -> str:
        written = self[value] = value.translate(_ESCAPES)
        return written


def render(metrics: Iterable[Metric], tables: Mapping[str, Mapping[Labels, Any]]) -> bytes:
    """`tables` holds the numbers by metric name, as `tally.merge` gives them. Some 2 us a line: not for the loop that
    serves."""
    lines: list[str] = []
    escaped = _Escaped()
    for metric in metrics:
        lines.append(f"# HELP {metric.name} {_help(metric.help)}")
        lines.append(f"# TYPE {metric.name} {metric.kind}")
        form, bucket = _form(metric.labels), _form((*metric.labels, "le"))
        for labels, value in sorted(tables.get(metric.name, {}).items()):
            written = tuple([escaped[label] for label in labels])
            if isinstance(metric, Histogram):
                lines += _histogram(metric, form % written, bucket, written, value)
            else:
                lines.append(f"{metric.name}{form % written} {_number(value)}")
    return ("\n".join(lines) + "\n").encode()


def of_engines(texts: Mapping[str, bytes]) -> bytes:
    """What several engines of one kind say of themselves, by the names of their providers, as one text: each metric is
    told once, and each of its samples says whose it is."""
    families: dict[str, dict[str, None]] = {}  # the lines of each metric, in their order and once
    for provider, text in texts.items():
        family, name = "", f'provider="{provider.translate(_ESCAPES)}"'
        for line in text.decode("utf-8", "replace").splitlines():
            if line.startswith("# "):
                family = line.split(" ", 3)[2]
            families.setdefault(family, {})[line if line.startswith("#") else _named(line, name)] = None
    lines = [line for family in families.values() for line in family if line]
    return "".join(f"{line}\n" for line in lines).encode()


def _named(sample: str, label: str) -> str:
    """A sample with one more label before its others."""
    name, brace, rest = sample.partition("{")
    if brace:
        return f"{name}{{{label},{rest}"
    name, _, value = sample.partition(" ")
    return f"{name}{{{label}}} {value}" if value else ""


def _histogram(metric: Histogram, plain: str, form: str, labels: Labels, row: list[float]) -> list[str]:
    """`plain` are its labels as they are written, `form` takes them and a bound."""
    lines, seen = [], 0.0
    for bound, count in zip([*metric.bounds, "+Inf"], row[:-1], strict=True):
        seen += count
        lines.append(f"{metric.name}_bucket{form % (*labels, bound)} {_number(seen)}")
    return [
        *lines,
        f"{metric.name}_sum{plain} {_number(row[-1])}",
        f"{metric.name}_count{plain} {_number(seen)}",
    ]


def _form(names: Labels) -> str:
    """Where the values of labels with these names go, by `%`."""
    return "{" + ",".join(f'{name}="%s"' for name in names) + "}" if names else ""


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))


def _help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", " ")
