"""Guard: who may look and who may act. On loopback whoever is at this machine, beyond it whoever has the token.

A page on loopback is in reach of every web site that its user visits. Therefore a request must name this host as a
loopback host (against names that are turned to 127.0.0.1), and one that acts or listens must come from the page itself.
"""

import hashlib
import hmac
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

COOKIE = "spineloop_page"
MIN_TOKEN = 16
"""Shortest token in characters: too long to guess, whatever the rate."""

MAX_FAILURES = 10
FAILURES_S = 60.0
"""So many wrong tokens in so many seconds from an address, then none from there is looked at for a while."""

MAX_ADDRESSES = 1_024
"""Of so many that told wrong tokens we remember when; then the one that was quiet for longest is forgotten."""

IDLE_S = 75.0
"""A connection on which nothing is asked for so long is closed, in s: who has no token must not hold all of a process's
files. It is longer than proxies keep one (60 s), so that they close first and none is lost under their hands."""


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine alone.

    Examples
    --------
    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "192.168.1.4", "example.org")]
    [True, True, True, False, False, False]
    """
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """Decides by headers alone.

    Parameters
    ----------
    token : str
        What a browser must know; empty lets in whoever reaches a loopback address.
    now_s : callable
        A clock in s that never goes back.
    """

    def __init__(self, token: str, now_s: Callable[[], float]) -> None:
        self._token = token.encode()
        self._cookie = hmac.new(self._token, b"spineloop operator page", hashlib.sha256).hexdigest()
        self._now_s = now_s
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    @property
    def asks(self) -> bool:
        """Whether there is a token to know."""
        return bool(self._token)

    @property
    def cookie(self) -> str:
        """What a browser that knew the token shows from then on; the token can't be had from it."""
        return self._cookie

    def is_our_host(self, headers: Mapping[str, str]) -> bool:
        """Tell whether the request was meant for this page: without a token only by a loopback name."""
        return self.asks or is_loopback(_place(f"//{headers.get('Host', '')}").hostname or "")

    def is_from_here(self, headers: Mapping[str, str]) -> bool:
        """Tell whether the request comes from the page itself, or from no browser at all."""
        origin = headers.get("Origin")
        return origin is None or _place(origin).netloc == headers.get("Host")

    def lets_in(self, headers: Mapping[str, str], cookies: Mapping[str, str], address: str = "") -> bool:
        """Tell whether the request, which comes from an address, may see and do what the page offers."""
        if not self.asks:
            return True
        if hmac.compare_digest(cookies.get(COOKIE, "").encode(errors="surrogateescape"), self._cookie.encode()):
            return True
        kind, _, told = headers.get("Authorization", "").partition(" ")
        return kind.lower() == "bearer" and self.knows(told, address)

    def knows(self, told: str, address: str = "") -> bool:
        """Compare a token in a time that doesn't depend on it.

        After too many wrong ones from an address, none from there is right for a while. Others are not kept out by it.
        """
        if self.is_tired_of(address):
            return False
        is_right = self.asks and hmac.compare_digest(told.encode(errors="surrogateescape"), self._token)
        if not is_right:
            self._failures.setdefault(address, deque(maxlen=MAX_FAILURES)).append(self._now_s())
            self._failures.move_to_end(address)
            if len(self._failures) > MAX_ADDRESSES:
                self._failures.popitem(last=False)
        return is_right

    def is_tired_of(self, address: str) -> bool:
        """Tell whether too many wrong tokens came from there lately."""
        failures = self._failures.get(address)
        return failures is not None and len(failures) == MAX_FAILURES and self._now_s() - failures[0] < FAILURES_S


def _place(url: str) -> SplitResult:
    """Take a URL apart; one that is none, such as `http://[`, names no place."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")
