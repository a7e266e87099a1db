"""One connection of the guest, carried on. In: a socket on standard input and output, a port of loopback.

QEMU starts one for each connection that the guest makes to the analyzer's address (`guestfwd=…-cmd:`); it is
the guest's only way out.
"""

import os
import selectors
import socket
import sys


def main(port: int) -> None:
    """Carry bytes both ways until both sides have ended."""
    with socket.create_connection(("127.0.0.1", port)) as server, selectors.DefaultSelector() as ways:
        ways.register(0, selectors.EVENT_READ, server.fileno())
        ways.register(server, selectors.EVENT_READ, 1)
        while ways.get_map():
            for key, _ in ways.select():
                data = os.read(key.fd, 1 << 16)
                while data:
                    data = data[os.write(key.data, data) :]
                    if not data:
                        break
                else:
                    ways.unregister(key.fileobj)
                    if key.fd == 0:
                        server.shutdown(socket.SHUT_WR)
                    else:
                        return


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]))
    except OSError:
        sys.exit(1)  # the analyzer is away, or the guest has gone
