"""Who is gone without a word: behind a firewall that forgot the connection, or without power.

On a connection that is silent the system asks by itself whether somebody is there, which also reminds firewalls of it
while a model thinks. Where something was sent it sends that again, for a quarter of an hour. Other systems than Linux
know less of this.
"""

import socket
from typing import Any

_PROBES = [
    (getattr(socket, option), value)
    for option, value in (
        ("TCP_KEEPIDLE", 15),
        ("TCP_KEEPINTVL", 5),
        ("TCP_KEEPCNT", 3),
    )  # seconds, and how many
    if hasattr(socket, option)
]
_INFO = getattr(socket, "TCP_INFO", None)
_RETRANSMITS = 2  # where the count of them stands in Linux's struct tcp_info: an octet
MOST_RETRANSMITS = 7  # without an answer, each after twice the time: 25 s where the round trip is short


def watch(sock: socket.socket) -> None:
    """Have the system notice within 30 s."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _PROBES:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def is_gone(sock: Any) -> bool:
    """Whether what was sent has been sent again and again. Who is there and does not read is not gone."""
    if _INFO is None:
        return False
    try:
        info: bytes = sock.getsockopt(socket.IPPROTO_TCP, _INFO, _RETRANSMITS + 1)
    except (OSError, ValueError):  # no TCP, or closed
        return False
    return info[_RETRANSMITS] >= MOST_RETRANSMITS
