"""Python runs this first where its folder is on PYTHONPATH: nothing may leave the machine, and attempts are noted.

Every attempt to reach more than loopback and Unix sockets, or to look up a name, becomes a line of `$ATTEMPTS_LOG` and
fails.
"""

import ipaddress
import os
import sys
from pathlib import Path

_NAMES = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")
_CONNECTIONS = ("socket.connect", "socket.sendto", "socket.sendmsg")


def _leaves(host):
    """Whether a host is anything but this machine, as an address or as its one name that needs no look-up."""
    if host in (None, "", b"", "localhost", b"localhost"):
        return False
    try:
        address = ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host)
    except ValueError:
        return True
    return not (address.is_loopback or address.is_unspecified)


def _refuse(event, arguments):
    if event in _NAMES:
        host = arguments[0]
    elif event in _CONNECTIONS and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    if _leaves(host):
        with Path(os.environ["ATTEMPTS_LOG"]).open("a") as log:
            log.write(f"{event} {host} by {' '.join(sys.orig_argv)}\n")
        raise OSError(f"{event}: the network is taken away")


sys.addaudithook(_refuse)
