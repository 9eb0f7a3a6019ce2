"""Work that comes back again and again has a moment of its own: done all at once, it would hold up the calls of that
moment, each thread taking the interpreter from all others."""


def until(now: float, every: float, share: float) -> float:
    """Seconds from `now` to the next moment that lies `share` (0 to 1) behind a multiple of `every` seconds: at most
    `every`, and never nothing."""
    return every - (now - share * every) % every or every
