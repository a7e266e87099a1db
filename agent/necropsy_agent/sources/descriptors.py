"""What several sources do with file descriptors. In: a descriptor. Out: the same number, with another end."""

import os


def silence(fd: int) -> None:
    """Put something that never becomes readable in the place of a descriptor whose other end is gone.

    A closed pipe or socket is readable for ever and would keep an epoll loop busy; the loop drops the old end
    by itself when its last descriptor is closed (epoll(7)).
    """
    quiet = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    try:
        os.dup2(quiet, fd, inheritable=False)
    finally:
        os.close(quiet)
