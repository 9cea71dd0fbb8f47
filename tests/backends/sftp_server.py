"""An SFTP server in this process: paramiko's protocol, on a folder of the test."""

import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any

import paramiko
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL, OPEN_SUCCEEDED
from paramiko.sftp import SFTP_OK

USER = "worker"
PASSWORD = "swordfish-of-the-sftp-tests"


def _answering(operation: Callable[..., Any]) -> Callable[..., Any]:
    """Answer an error of the operating system as OpenSSH does: most of them are mere failures."""

    @wraps(operation)
    def answer(*args: Any) -> Any:
        files, path = args[0], args[1]
        files.server.requests.append(f"{operation.__name__} {path}")
        try:
            paths = [files.canonicalize(each) for each in args[1:] if isinstance(each, str)]
            if files.server.denied and any(each.startswith(files.server.denied) for each in paths):
                raise PermissionError(errno.EACCES, "denied")
            result = operation(*args)
        except OSError as exc:
            return paramiko.SFTPServer.convert_errno(exc.errno or 0)
        return SFTP_OK if result is None else result

    return answer


class _Handle(paramiko.SFTPHandle):
    def stat(self) -> paramiko.SFTPAttributes:
        return paramiko.SFTPAttributes.from_stat(os.fstat(self.readfile.fileno()))  # type: ignore[attr-defined]


class _Files(paramiko.SFTPServerInterface):
    def __init__(self, interface: paramiko.ServerInterface, server: "SftpServer") -> None:
        super().__init__(interface)
        self.server = server

    def _real(self, path: str) -> str:
        return f"{self.server.root}{self.canonicalize(path)}"

    @_answering
    def list_folder(self, path: str) -> Any:
        with os.scandir(self._real(path)) as entries:
            return [paramiko.SFTPAttributes.from_stat(each.stat(), each.name) for each in entries]

    @_answering
    def stat(self, path: str) -> Any:
        return paramiko.SFTPAttributes.from_stat(os.stat(self._real(path)))

    lstat = stat

    @_answering
    def open(self, path: str, flags: int, attr: paramiko.SFTPAttributes) -> Any:
        fd = os.open(self._real(path), flags, 0o666)
        handle = _Handle(flags)
        mode = {os.O_RDONLY: "rb", os.O_WRONLY: "wb", os.O_RDWR: "r+b"}[flags & os.O_ACCMODE]
        if os.path.isdir(self._real(path)):
            os.close(fd)
            raise IsADirectoryError
        file = os.fdopen(fd, mode, buffering=0)
        handle.readfile = handle.writefile = file  # type: ignore[attr-defined]
        return handle

    @_answering
    def remove(self, path: str) -> None:
        os.remove(self._real(path))

    @_answering
    def rename(self, oldpath: str, newpath: str) -> None:
        # A plain SFTP rename replaces nothing.
        os.link(self._real(oldpath), self._real(newpath))
        os.remove(self._real(oldpath))

    @_answering
    def posix_rename(self, oldpath: str, newpath: str) -> None:
        os.rename(self._real(oldpath), self._real(newpath))

    @_answering
    def mkdir(self, path: str, attr: paramiko.SFTPAttributes) -> None:
        os.mkdir(self._real(path))

    @_answering
    def rmdir(self, path: str) -> None:
        os.rmdir(self._real(path))


class _Logins(paramiko.ServerInterface):
    def check_auth_password(self, username: str, password: str) -> int:
        known = (username, password) == (USER, PASSWORD)
        return AUTH_SUCCESSFUL if known else AUTH_FAILED

    def get_allowed_auths(self, username: str) -> str:
        return "password"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED


class SftpServer:
    """A running server.

    Attributes:
        root: The folder that clients see as `/`.
        requests: What clients asked for, in order.
        logins: How many clients have connected.
        denied: The beginning of paths that nobody may touch; empty for none.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.requests: list[str] = []
        self.logins = 0
        self.denied = ""
        self._key = paramiko.ECDSAKey.generate()
        self._connected: list[paramiko.Transport] = []
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def port(self) -> int:
        port: int = self._listening.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """The URL of an empty store; it takes `PASSWORD` as a keyword."""
        return f"sftp://127.0.0.1:{self.port}/base?username={USER}&look_for_keys=false&allow_agent=false"

    @property
    def base(self) -> Path:
        return self.root / "base"

    def disconnect(self) -> None:
        """Cut off every client, as a restart does."""
        for transport in self._connected:
            transport.close()
        self._connected.clear()

    def stop(self) -> None:
        # A blocked accept() is not ended by closing its socket.
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()
        self.disconnect()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self.logins += 1
                transport = paramiko.Transport(connection)
                transport.add_server_key(self._key)
                transport.set_subsystem_handler("sftp", paramiko.SFTPServer, _Files, self)
                self._connected.append(transport)
                # With an event, the handshake is not waited for: the next client may come meanwhile.
                transport.start_server(threading.Event(), _Logins())


@contextmanager
def sftp_server(root: Path) -> Iterator[SftpServer]:
    server = SftpServer(root)
    try:
        yield server
    finally:
        server.stop()
