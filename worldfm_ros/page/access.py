"""Who may do what on the page: it is served to anybody who reaches it, and driven from itself alone.

A web page of somebody else, open in the same browser, can send requests to this one. So what moves the robot needs the
token that stands in our page, which no other page can read, and an Origin that is ours; and the page is shown under
names alone that are this machine's, so that no foreign name can be pointed here (DNS rebinding).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
import hmac
from ipaddress import ip_address
import secrets
import socket
from urllib.parse import urlsplit

TOKEN_HEADER = "X-Worldfm-Token"


@dataclass(frozen=True)
class Access:
    """Of one server, which listens on `host`. The token is made at start and is another each time."""

    host: str
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    @property
    def is_local(self) -> bool:
        """Whether this machine alone can reach the page."""
        return self.host == "localhost" or (_is_address(self.host) and ip_address(self.host).is_loopback)

    def may_see(self, headers: Mapping[str, str]) -> bool:
        """Whether the request names this machine: an address, localhost, its own name or the one that it listens on."""
        name = urlsplit(f"//{headers.get('Host', '')}").hostname or ""
        own = socket.gethostname().lower()
        return _is_address(name) or name in ("localhost", own, f"{own}.local", self.host.lower())

    def may_drive(self, headers: Mapping[str, str]) -> bool:
        """Whether the request comes from our own page."""
        token = headers.get(TOKEN_HEADER, "")
        return (self.may_see(headers) and headers.get("Origin") == f"http://{headers.get('Host')}"
                and hmac.compare_digest(token.encode(), self.token.encode()))


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
