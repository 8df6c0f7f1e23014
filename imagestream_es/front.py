"""Ends TLS before granian, because only here both are known: who a connection belongs to, and how long it takes.

granian can demand client certificates but tells no application whose they were, and it waits for ever for a client
that stops within the handshake. So one thread here does the handshake (with a deadline) and then carries bytes
between the client and granian, which listens on a Unix socket. HTTP is not looked at: a certificate belongs to a
connection, and a connection is recognised by the name to which its end of the Unix socket is bound. granian hands
that name on as REMOTE_ADDR. No client can choose it: the directory of the sockets is open to this user alone.
"""

import errno
import itertools
import logging
import os
import select
import shutil
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from imagestream_es.bodies import Body

logger = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 30.0
"""How long a client may take to establish TLS."""
LEAVE_SECONDS = 2.0
"""How long a client may take to close its end of a connection that has ended here."""
RELOAD_SECONDS = 10.0
"""How often the certificate files are looked at."""

_PIECE = 64 * 1024
"""Bytes carried at a time, and how many may wait in one direction before no more are read."""

Certificate = dict[str, Any]
"""What `ssl.SSLSocket.getpeercert()` tells of a verified certificate."""


class Peer:
    """Who is at the other end of a connection."""

    def __init__(self, address: str, certificate: Certificate | None) -> None:
        self.address = address
        self.certificate = certificate
        self._until = ssl.cert_time_to_seconds(certificate["notAfter"]) if certificate else float("inf")

    @property
    def expired(self) -> bool:
        """Whether its certificate, valid at the handshake, is so no longer."""
        return time.time() >= self._until


class _Link:
    """One connection of a client's, and the one to granian that belongs to it once TLS is established."""

    def __init__(self, client: ssl.SSLSocket, address: str) -> None:
        self.client, self.address = client, address
        self.client_fd = client.fileno()
        self.inner: socket.socket | None = None
        self.name = ""
        self.up, self.down = bytearray(), bytearray()  # read from one end, not yet written to the other
        self.client_ended = self.inner_ended = False
        self.unheard = False  # granian has answered and ended before the client had sent all
        self.since = time.monotonic()
        self.events: dict[int, int] = {}  # by file descriptor, what epoll waits for
        self.client_wants_write = False  # TLS itself has something to write before it can go on


class Front:
    """The TLS side of a listener.

    `load()` makes the TLS context, from the `files`; it is called again when one of them changes, and while it
    raises, the context before it stays. At most `most` connections are taken at a time. The Unix sockets are in
    `directory`, which is made and removed, and found again after a death; without one in a temporary one.
    """

    def __init__(
        self,
        listener: socket.socket,
        load: Callable[[], ssl.SSLContext],
        files: list[Path],
        most: int,
        directory: Path | None = None,
    ) -> None:
        self._listener = listener
        host, port = listener.getsockname()[:2]
        self.address = host, str(port)
        """Where clients connect."""
        self._load, self._files, self._most = load, files, most
        self._context = load()
        self._versions = self._look()
        self._looked = time.monotonic()
        self._directory = directory or Path(tempfile.mkdtemp(prefix="imagestream-"))
        self._directory.mkdir(exist_ok=True)
        self._directory.chmod(0o700)
        # Names of sockets may have a hundred bytes, and of directories more: this one is always short.
        self._handle = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._place = f"/proc/self/fd/{self._handle}"
        self.inner = socket.socket(socket.AF_UNIX)
        """Where granian is to listen; bound."""
        (self._directory / "granian").unlink(missing_ok=True)
        self.inner.bind(f"{self._place}/granian")
        self._peers: dict[str, Peer] = {}
        self._links: dict[int, _Link] = {}  # by each of their file descriptors
        self._shaking: dict[int, _Link] = {}  # those without TLS yet, by the client's, oldest first
        self._leaving: dict[int, _Link] = {}  # those that have ended here, oldest first
        self._count = 0
        self._numbers = itertools.count()
        self._taking = False
        self._stopping = False
        self._empty = threading.Event()
        self._poll = select.epoll()
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="tls", daemon=True)

    def start(self) -> None:
        """Take connections from the listener, which listens, and give them to `inner`, where granian listens."""
        self._listener.setblocking(False)
        self._poll.register(self._wakeup, select.EPOLLIN)
        self._poll.register(self._listener, select.EPOLLIN)
        self._taking = True
        self._thread.start()

    def stop(self) -> None:
        """Take no more connections; those that are there go on."""
        self._stopping = True
        os.eventfd_write(self._wakeup, 1)

    def finish(self, seconds: float) -> bool:
        """After `stop`: wait, at most so long, until all connections are written out and closed. Whether they are."""
        return self._empty.wait(max(seconds, 0))

    def remove(self) -> None:
        """Take the directory of the sockets away."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def peer(self, name: str) -> Peer | None:
        """Who is at the other end of the connection that granian knows by this name; None for a stranger."""
        return self._peers.get(name)

    def cut(self, bodies: list[Body]) -> None:
        """Refuse these bodies, and let granian see the end of what their clients send."""
        for body in bodies:
            body.refuse()
        time.sleep(0.5)  # for granian, to write the answers
        late = {body.connection for body in bodies}
        for link in list(self._links.values()):
            if link.name in late and link.inner is not None:
                try:
                    link.inner.shutdown(socket.SHUT_WR)
                except OSError as error:  # it ends by itself
                    logger.debug("cut: %s", error)

    # --- the thread

    def _run(self) -> None:
        while not (self._stopping and not self._count):
            for descriptor, _ in self._poll.poll(1 if self._shaking or self._leaving else None):
                if descriptor == self._wakeup:
                    os.eventfd_read(self._wakeup)
                elif descriptor == self._listener.fileno():
                    self._accept()
                elif (link := self._links.get(descriptor)) is not None:
                    self._serve(link, descriptor)
            self._end_late(self._shaking, HANDSHAKE_SECONDS)
            self._end_late(self._leaving, LEAVE_SECONDS)
            self._take()
        self._empty.set()

    def _take(self) -> None:
        """Listen while there is room for more connections, and no longer once stopped."""
        if self._stopping and self._listener.fileno() >= 0:
            self._listener.close()
            for link in list(self._shaking.values()):
                self._close(link)
        elif not self._stopping and self._taking != (self._count < self._most):
            self._taking = not self._taking
            self._poll.modify(self._listener, select.EPOLLIN if self._taking else 0)

    def _accept(self) -> None:
        try:
            plain, address = self._listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                time.sleep(0.05)  # else this turns round and round until one is free
            return
        plain.setblocking(False)
        self._refresh()
        try:
            client = self._context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        except OSError:  # it has gone again
            plain.close()
            return
        link = _Link(client, address[0])
        self._count += 1
        self._links[link.client_fd] = self._shaking[link.client_fd] = link
        self._wait_for(link, link.client_fd, select.EPOLLIN)

    def _end_late(self, links: dict[int, _Link], seconds: float) -> None:
        now = time.monotonic()
        while links:
            link = next(iter(links.values()))
            if now - link.since < seconds:
                return
            self._close(link)

    def _serve(self, link: _Link, descriptor: int) -> None:
        try:
            if link.client_fd in self._leaving:
                self._hear_out(link)
            elif link.inner is None:
                self._shake_hands(link)
            else:
                self._carry(link, link.inner, from_client=descriptor == link.client_fd)
        except OSError:  # of TLS, or of one of the sockets
            self._close(link)
        except Exception:  # one connection must not end all others
            logger.exception("a connection ended for a fault of this program")
            self._close(link)

    def _shake_hands(self, link: _Link) -> None:
        try:
            link.client.do_handshake()
        except ssl.SSLWantReadError:
            self._wait_for(link, link.client_fd, select.EPOLLIN)
            return
        except ssl.SSLWantWriteError:
            self._wait_for(link, link.client_fd, select.EPOLLOUT)
            return
        del self._shaking[link.client_fd]
        self._connect(link, Peer(link.address, link.client.getpeercert() or None))

    def _connect(self, link: _Link, peer: Peer) -> None:
        inner = link.inner = socket.socket(socket.AF_UNIX)
        link.name = f"{self._place}/{next(self._numbers)}"
        inner.bind(link.name)
        os.unlink(link.name)  # the socket keeps its name
        inner.settimeout(1)
        self._peers[link.name] = peer  # before granian can see the connection
        inner.connect(f"{self._place}/granian")
        inner.setblocking(False)
        self._links[inner.fileno()] = link
        self._carry(link, inner, from_client=True)

    def _carry(self, link: _Link, inner: socket.socket, *, from_client: bool) -> None:
        if from_client or link.client_wants_write:
            self._read_client(link)
        if not from_client:
            self._read_inner(link, inner)
        if link.up:
            self._write_inner(link, inner)
        if link.down:
            self._write_client(link)
        if link.client_ended and not link.up and not link.unheard:
            inner.shutdown(socket.SHUT_WR)  # granian ends the request, and then the connection
        if link.inner_ended and not link.down:
            self._leave(link, inner)
            return
        reading = len(link.up) < _PIECE and not link.client_ended
        writing = link.down or link.client_wants_write
        wanted = (select.EPOLLIN if reading else 0) | (select.EPOLLOUT if writing else 0)
        self._wait_for(link, link.client_fd, wanted)
        reading = len(link.down) < _PIECE and not link.inner_ended
        wanted = (select.EPOLLIN if reading else 0) | (select.EPOLLOUT if link.up else 0)
        self._wait_for(link, inner.fileno(), wanted)

    def _read_client(self, link: _Link) -> None:
        if link.client_ended or len(link.up) >= _PIECE:
            return
        link.client_wants_write = False
        try:
            data = link.client.recv(_PIECE)
            while link.client.pending():  # of a record, which epoll does not see
                data += link.client.recv(_PIECE)
        except ssl.SSLWantReadError:
            return
        except ssl.SSLWantWriteError:
            link.client_wants_write = True
            return
        link.up += data
        link.client_ended = not data

    @staticmethod
    def _read_inner(link: _Link, inner: socket.socket) -> None:
        if link.inner_ended or len(link.down) >= _PIECE:
            return
        try:
            data = inner.recv(_PIECE)
        except BlockingIOError:
            return
        except ConnectionResetError:  # it has not read all that was sent to it
            link.unheard, data = True, b""
        link.down += data
        link.inner_ended = not data

    @staticmethod
    def _write_inner(link: _Link, inner: socket.socket) -> None:
        try:
            del link.up[: inner.send(link.up)]
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            link.unheard = True
            link.up.clear()

    @staticmethod
    def _write_client(link: _Link) -> None:
        try:
            del link.down[: link.client.send(link.down)]
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return  # to be tried again with the same bytes first, and so it is

    def _wait_for(self, link: _Link, descriptor: int, events: int) -> None:
        before = link.events.get(descriptor, 0)
        if before == events:
            return
        if not events:  # registered for nothing, it would still be reported whenever the other end has gone
            self._poll.unregister(descriptor)
        elif before:
            self._poll.modify(descriptor, events)
        else:
            self._poll.register(descriptor, events)
        link.events[descriptor] = events

    def _leave(self, link: _Link, inner: socket.socket) -> None:
        """Say that all was said, and close the connection.

        Closed while the client still sends, it would lose the answer: so it is first heard out for a while. When
        the service stops, most of those that end are idle, and only what is known to be sending is heard.
        """
        with suppress(OSError, ValueError):
            link.client.unwrap()  # says so, and does not wait for the answer
        sending = link.unheard or link.up or not self._stopping
        if link.client_ended or not sending:
            self._close(link)
            return
        self._wait_for(link, inner.fileno(), 0)
        self._wait_for(link, link.client_fd, select.EPOLLIN)
        link.client.shutdown(socket.SHUT_WR)
        link.since = time.monotonic()
        self._leaving[link.client_fd] = link

    def _hear_out(self, link: _Link) -> None:
        with suppress(BlockingIOError):
            if not socket.socket.recv(link.client, _PIECE):  # past TLS, which has ended
                self._close(link)

    def _close(self, link: _Link) -> None:
        self._shaking.pop(link.client_fd, None)
        self._leaving.pop(link.client_fd, None)
        self._peers.pop(link.name, None)
        for descriptor in link.events:
            self._wait_for(link, descriptor, 0)
            self._links.pop(descriptor, None)
        if link.inner is not None:
            self._links.pop(link.inner.fileno(), None)
            link.inner.close()
        link.client.close()
        self._count -= 1

    # --- the files

    def _look(self) -> list[tuple[int, int, int]]:
        found = []
        for file in self._files:
            try:
                status = file.stat()
            except OSError:
                found.append((0, 0, 0))
            else:
                found.append((status.st_mtime_ns, status.st_size, status.st_ino))
        return found

    def _refresh(self) -> None:
        """Read the files again if they have changed."""
        if time.monotonic() - self._looked < RELOAD_SECONDS:
            return
        self._looked = time.monotonic()
        versions = self._look()
        if versions == self._versions:
            return
        self._versions = versions
        try:
            self._context = self._load()
        except Exception as error:  # whatever is wrong with them, the old ones still work
            logger.error("TLS files have changed and cannot be used; those before stay in use: %s", error)
        else:
            logger.info("TLS files read again")
