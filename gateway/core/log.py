"""How every room tells operators what happens; `telemetry.logs` writes it."""

from collections.abc import Callable

Log = Callable[[str, str], None]  # level ("debug", "info", "warning", "error"), message
