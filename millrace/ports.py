"""Ports of the parts: whether they can be opened, and where a part says that it is well."""

import errno
import socket
from collections.abc import Iterable

from millrace.supervision import CannotServe
from shared.errors import first_line
from shared.operations import LIVENESS_PATH
from shared.settings import PREFIX


def check_ports(wanted: Iterable[tuple[str, int, str]]) -> None:
    """See that ports can be opened, before anything is started that would need them; 0 is none.

    Args:
        wanted: Address, port, and the setting that says so.

    Raises:
        CannotServe: One cannot; the sentence names the setting.
    """
    for host, port, setting in wanted:
        if not port:
            continue
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except (OSError, OverflowError) as err:  # the latter of ports beyond the last
                is_taken = isinstance(err, OSError) and err.errno == errno.EADDRINUSE
                reason = "is in use" if is_taken else f"cannot be opened ({first_line(err)})"
                raise CannotServe(f"port {port} on {host} {reason}; choose another with {PREFIX}{setting}") from err


def url_of(host: str, port: int) -> str:
    """The address of a port on this machine."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def liveness_url(host: str, port: int) -> str:
    """Where a part says whether it is well; empty if its port is turned off."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"{url_of(host, port)}{LIVENESS_PATH}" if port else ""
