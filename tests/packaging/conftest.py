"""What the packaging tests share: the distributions, and wheels and sdists built from the tree."""

import os
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import pytest
from build import ProjectBuilder
from pyproject_hooks import quiet_subprocess_runner

ROOT = Path(__file__).resolve().parents[2]


class Distribution(NamedTuple):
    """One of ours, by its name, its import package and its folder."""

    name: str
    package: str
    folder: Path

    def build(self, kind: Literal["sdist", "wheel"], output: Path, source: Path | None = None) -> Path:
        builder = ProjectBuilder(source or self.folder, sys.executable, quiet_subprocess_runner)
        return Path(builder.build(kind, output))


DISTRIBUTIONS = (
    Distribution("checkmate", "checkmate", ROOT),
    Distribution("checkmate-core", "checkmate_core", ROOT / "checkmate_core"),
    Distribution("checkmate-io-fsspec", "checkmate_io_fsspec", ROOT / "checkmate_io_fsspec"),
    Distribution("checkmate-io-s3", "checkmate_io_s3", ROOT / "checkmate_io_s3"),
    Distribution("checkmate-io-gcs", "checkmate_io_gcs", ROOT / "checkmate_io_gcs"),
    Distribution("checkmate-io-azure", "checkmate_io_azure", ROOT / "checkmate_io_azure"),
    Distribution("checkmate-io-sealed", "checkmate_io_sealed", ROOT / "checkmate_io_sealed"),
)


class Built(NamedTuple):
    distribution: Distribution
    wheel: Path
    sdist: Path
    wheel_of_sdist: Path


@pytest.fixture(scope="session", name="built")
def built_distributions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Built]:
    folder = tmp_path_factory.mktemp("built")
    return {distribution.name: _build(distribution, folder) for distribution in DISTRIBUTIONS}


def _build(distribution: Distribution, folder: Path) -> Built:
    sdist = distribution.build("sdist", folder / "sdists")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    return Built(
        distribution,
        distribution.build("wheel", folder / "wheels"),
        sdist,
        distribution.build(
            "wheel", folder / "wheels-of-sdists", folder / "unpacked" / sdist.name.removesuffix(".tar.gz")
        ),
    )


@pytest.fixture(params=[distribution.name for distribution in DISTRIBUTIONS], name="each")
def each_built(request: pytest.FixtureRequest, built: dict[str, Built]) -> Built:
    return built[request.param]


@pytest.fixture(scope="session")
def wheelhouse(built: dict[str, Built]) -> Path:
    """A folder that holds our wheels and nothing else."""
    return built["checkmate"].wheel.parent


@pytest.fixture(scope="session")
def clean_environ() -> dict[str, str]:
    """Without what could lead another interpreter to this one's packages."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
    }


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    """A bucket of a moto server, with the endpoint in the URL."""
    from urllib.request import Request, urlopen

    from moto.server import ThreadedMotoServer  # slow to import

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with urlopen(Request(f"http://{host}:{port}/wheel-test", method="PUT"), timeout=60):
        pass
    yield f"s3://wheel-test/jobs?endpoint_url=http://{host}:{port}"
    server.stop()
