"""What may be asked of the ledger."""

BY = ("key", "team", "user", "model", "entry", "provider", "route", "target", "outcome")


class BadReport(ValueError):
    """A report that cannot be made; the message says what may be asked."""
