"""Finds, among the connections that granian holds, the one on which a certain answer was sent, and cuts it.

granian tells nobody which socket a request came on, and has no way to give up on one. But it is all one process:
its sockets can be looked at. Answers to those who are to be cut are padded to random sizes, and each is looked for
among the connections as the one that has sent exactly so many bytes since. On a connection that is over TLS nothing
of this is needed: see `front`. It works on Linux; elsewhere connections are answered and not cut.
"""

import fcntl
import logging
import os
import random
import socket
import struct
import termios
import time

from imagestream_es.bodies import Body

logger = logging.getLogger(__name__)

_HEAD = (
    b"HTTP/1.1 408 Request Timeout\r\nserver: granian\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: %d\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n"
)
"""What granian sends before the body, in which only the length is of varying size."""
_PADDINGS = range(8192)
_BATCH = 500
_PATIENCE = 3.0
"""Seconds within which an answer must have been written."""
_BYTES_ACKED = 120
"""Where a 64 bit number of acknowledged bytes stands in Linux's struct tcp_info."""

_Place = tuple[int, int]
"""A socket: its file descriptor, and its inode, which no other has."""


class Connections:
    """The connections to one port that this process holds."""

    def __init__(self, port: int) -> None:
        self._port = port

    def cut(self, bodies: list[Body]) -> None:
        """Refuse these bodies, and let granian see the end of what their clients send."""
        for start in range(0, len(bodies), _BATCH):
            self._cut(bodies[start : start + _BATCH])

    def _cut(self, bodies: list[Body]) -> None:
        before = self._sent()
        wanted = set()
        for body, padding in zip(bodies, random.sample(_PADDINGS, len(bodies)), strict=True):
            answer = body.refuse(padding)
            wanted.add(len(_HEAD % len(answer)) + len(answer))
        until = time.monotonic() + _PATIENCE
        while wanted and time.monotonic() < until:
            time.sleep(0.05)
            after = self._sent()
            for place in before.keys() & after.keys():
                size = after[place] - before[place]
                if size in wanted:
                    wanted.remove(size)
                    _end(place)
        if wanted and before:
            logger.warning("%d requests whose bodies came too slowly could not be cut off", len(wanted))

    def _sent(self) -> dict[_Place, int]:
        """How many bytes were written to each connection, those included that are still under way."""
        found = {}
        for name in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
            place = _place(int(name))
            connection = _socket(place) if place else None
            if place is None or connection is None:
                continue
            with connection:
                try:
                    if connection.type == socket.SOCK_STREAM and connection.getsockname()[1] == self._port:
                        found[place] = _acknowledged(connection) + _under_way(connection)
                except (OSError, IndexError, struct.error):  # it went away, or is of another kind
                    continue
        return found


def _place(descriptor: int) -> _Place | None:
    try:
        return descriptor, os.fstat(descriptor).st_ino
    except OSError:
        return None


def _socket(place: _Place) -> socket.socket | None:
    """A second handle of this socket, if it is one and is still there."""
    try:
        copy = os.dup(place[0])
    except OSError:
        return None
    try:
        if os.fstat(copy).st_ino == place[1]:
            return socket.socket(fileno=copy)
    except OSError:  # no socket
        pass
    os.close(copy)
    return None


def _acknowledged(connection: socket.socket) -> int:
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return int(struct.unpack_from("=Q", info, _BYTES_ACKED)[0])


def _under_way(connection: socket.socket) -> int:
    return int(struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, b"\0\0\0\0"))[0])


def _end(place: _Place) -> None:
    connection = _socket(place)
    if connection is not None:
        with connection:
            try:
                connection.shutdown(socket.SHUT_RD)
            except OSError as error:  # the client was faster
                logger.debug("cut: %s", error)
