"""Real processes that do what they are told, line by line."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


class Script:
    """A running Python script; it talks by lines.

    It shares nothing with the test: what it does to files, locks and sockets is what any other
    process would do.
    """

    def __init__(self, source: str, *args: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", source, *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def tell(self, line: str = "go") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        return line.strip()

    def end(self) -> str:
        """What it wrote to stderr; it must have ended well."""
        out, err = self.process.communicate()
        assert self.process.returncode == 0, out + err
        return err

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def scripts(source: str, *args: str, count: int) -> Iterator[list[Script]]:
    with ExitStack() as stack:
        running = []
        for _ in range(count):
            running.append(Script(source, *args))
            stack.callback(running[-1].kill)
        yield running


@contextmanager
def script(source: str, *args: str) -> Iterator[Script]:
    with scripts(source, *args, count=1) as running:
        yield running[0]
