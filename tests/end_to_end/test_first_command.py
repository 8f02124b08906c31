"""The first command on a new machine: an empty home, no Prefect server, little to compute with, and wrong settings."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import pytest
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.sandbox import Fault, FaultKind, Sandbox
from flows.readiness import NotReady, require_server
from flows.temporary_server import free_port
from tests.end_to_end.accounts import REGIONS, images_of, newest_backups, started
from tests.end_to_end.prefect_server import PrefectView, until
from tests.end_to_end.test_restore_approval import NEEDS_A_SERVER

ROOT = Path(__file__).parents[2]
STARTING = "PREFECT_API_URL is not set: starting a temporary Prefect server"
SHOWS_WITHIN_SECONDS = 300
COMMANDS = ["flows.report_coverage", "deployments.setup", "deployments.notify"]
# Every Python process writes down what it connects to, what it looks up and what it starts.
WITNESS = """
import os, sys
log = os.open(os.environ["WITNESS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def witness(event, args):
    if event == "socket.connect" and not isinstance(args[1], (str, bytes)):
        os.write(log, f"connects {args[1][0]}\\n".encode())
    elif event == "socket.getaddrinfo" and args[0]:
        os.write(log, f"looks-up {args[0]}\\n".encode())
    elif event == "subprocess.Popen":
        os.write(log, f"starts {' '.join(map(str, args[1]))}\\n".encode())
sys.addaudithook(witness)
"""


def newcomer(home: Path, *settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of a new user who has set only this."""
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    for each in settings:
        environment |= each
    return environment


def left_running(home: Path) -> list[int]:
    """The processes with this home."""
    wanted = f"HOME={home}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
        except OSError:
            continue
    return found


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """An empty home, whose processes end with the test."""
    folder = tmp_path / "home"
    folder.mkdir()
    yield folder
    for process in left_running(folder):
        os.kill(process, signal.SIGKILL)


def command(environment: Mapping[str, str], module: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *options],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SHOWS_WITHIN_SECONDS,
        check=False,
    )


def sentences(said: str) -> list[str]:
    """What was said, without what a machine that is as busy as one that runs tests may have to be told meanwhile."""
    waiting = ("Loading Prefect, ", "Waiting for the temporary Prefect server to start, ")
    return [line for line in said.splitlines() if not line.startswith(waiting)]


def assert_that_it_could_not_start(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    """It has said one sentence, which has these parts, and nothing else."""
    assert done.returncode == 3, done.stdout + done.stderr
    assert done.stdout == ""
    assert len(sentences(done.stderr)) == 1, done.stderr
    assert all(part in done.stderr for part in parts), done.stderr


# On one core


@dataclass(frozen=True)
class FirstRun:
    """The very first command, on a terminal and on one core, which it shares with the other tests.

    Attributes:
        status: Its exit status.
        said: What was on the screen.
        home: Where Prefect's database is now.
        witnessed: What all its processes connected to, looked up and started, a line each.
        left: The processes that were there afterwards.
    """

    status: int
    said: str
    home: Path
    witnessed: list[str]
    left: list[int]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> FirstRun:
    folder = tmp_path_factory.mktemp("newcomer")
    (folder / "sitecustomize.py").write_text(WITNESS)
    witness, home = folder / "witnessed", folder / "home"
    home.mkdir()
    core = min(os.sched_getaffinity(0))
    with Sandbox(droplets=2) as sandbox:
        environment = newcomer(home, sandbox.environment())
        environment |= {"PYTHONPATH": f"{folder}:{ROOT}", "WITNESS": str(witness), "TERM": "xterm"}
        ours, its = pty.openpty()
        run = ["taskset", "--cpu-list", str(core), sys.executable, "-m", "flows.replicate_backups", "--dry-run"]
        with subprocess.Popen(run, env=environment, cwd=folder, stdin=its, stdout=its, stderr=its) as process:
            os.close(its)
            said = "".join(text for text in read_terminal(ours))
    return FirstRun(process.returncode, said, home, witness.read_text().splitlines(), left_running(home))


def with_database_of(first: FirstRun, home: Path) -> None:
    """Begin where the first command has ended: migrating the database takes its server half a minute."""
    shutil.copytree(first.home / ".prefect", home / ".prefect")


def read_terminal(terminal: int) -> Iterator[str]:
    """Read what a process writes to its terminal, until it ends."""
    while True:
        try:
            text = os.read(terminal, 65536)
        except OSError:
            # On Linux, the other end is gone.
            text = b""
        if not text:
            os.close(terminal)
            return
        yield text.decode(errors="replace")


@pytest.mark.skipif(not shutil.which("taskset"), reason="there is no taskset")
class TestOnOneCore:
    def test_it_succeeds_and_shows_nothing_alarming(self, first: FirstRun) -> None:
        assert first.status == 0, first.said
        assert "Dry run" in first.said
        for word in ("Traceback", "ERROR", "Error", "CRITICAL", "exception", "locked", "telemetry"):
            assert word not in first.said

    def test_it_says_immediately_what_it_is_waiting_for(self, first: FirstRun) -> None:
        assert sentences(first.said)[0].startswith(STARTING)

    def test_it_connects_only_to_this_machine(self, first: FirstRun) -> None:
        hosts = {line.split()[1] for line in first.witnessed if line.startswith(("connects", "looks-up"))}
        assert hosts
        assert {host for host in hosts if host != "localhost" and not ip_address(host).is_loopback} == set()

    def test_it_starts_one_server_and_leaves_nothing_running(self, first: FirstRun) -> None:
        assert sum("uvicorn" in line for line in first.witnessed if line.startswith("starts")) == 1
        assert first.left == []


def test_a_server_started_with_the_command_is_prefects_own_and_the_only_one_and_nobody_can_approve_a_plan_on_it(
    first: FirstRun, home: Path, tmp_path: Path, sandbox: Sandbox
) -> None:
    with_database_of(first, home)
    (tmp_path / "sitecustomize.py").write_text(WITNESS)
    witness = tmp_path / "witnessed"
    environment = newcomer(home, sandbox.environment(), {"WITNESS": str(witness)})
    options = ["--region", REGIONS[0], "--no-dry-run", "--approve"]
    done = command({**environment, "PYTHONPATH": f"{tmp_path}:{ROOT}"}, "flows.restore_droplets", *options)
    assert done.returncode == 2, done.stderr
    assert NEEDS_A_SERVER in done.stderr
    assert sandbox.record.requests == []
    assert sentences(done.stderr)[0].startswith(STARTING)
    assert "Stopping temporary server" in done.stderr
    assert sum("uvicorn" in line for line in witness.read_text().splitlines()) == 1
    assert left_running(home) == []


# What a user has set wrong


@pytest.mark.parametrize("module", COMMANDS)
@pytest.mark.thorough(after=1)
def test_help_explains_the_exit_statuses_and_starts_nothing(home: Path, tmp_path: Path, module: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(WITNESS)
    witness = tmp_path / "witnessed"
    environment = {**newcomer(home), "WITNESS": str(witness), "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = command(environment, module, "--help")
    assert done.returncode == 0
    assert "3 could not start" in " ".join(done.stdout.split())
    assert "uvicorn" not in witness.read_text()
    assert done.stderr == ""


def test_invalid_options_are_reported_without_starting_a_server(home: Path, sandbox: Sandbox) -> None:
    done = command(newcomer(home, sandbox.environment()), "flows.replicate_backups", "--newest", "many")
    assert done.returncode == 2
    assert STARTING not in done.stdout + done.stderr
    assert not (home / ".prefect" / "prefect.db").exists()
    until(lambda: not left_running(home), SHOWS_WITHIN_SECONDS)


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"DIGITALOCEAN_TOKEN": ""}, "DIGITALOCEAN_TOKEN is not set"),
        ({"PREFECT_SERVER_EPHEMERAL_ENABLED": "false"}, "PREFECT_API_URL is not set"),
        ({"PREFECT_API_SSL_CERT_FILE": "/missing/certificates.pem"}, "PREFECT_API_SSL_CERT_FILE"),
    ],
)
@pytest.mark.thorough(after=1)
def test_an_invalid_setting_is_named_in_a_sentence_before_a_server_is_started(
    home: Path, sandbox: Sandbox, settings: dict[str, str], part: str
) -> None:
    done = command(newcomer(home, sandbox.environment(), settings), "flows.report_coverage")
    assert_that_it_could_not_start(done, part)
    assert sandbox.record.requests == []


@pytest.mark.parametrize("module", COMMANDS)
@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        # What else is wrong before Prefect is imported: tests/flows/test_environment.py.
        ("ALL_PROXY", "socks5://127.0.0.1:1", "ALL_PROXY"),
        ("PREFECT_CLIENT_MAX_RETRIES", "many", "max_retries"),
    ],
)
@pytest.mark.thorough(after=2)
def test_every_command_names_what_would_prevent_importing_prefect(
    home: Path, module: str, name: str, value: str, part: str
) -> None:
    settings = {"DIGITALOCEAN_TOKEN": "t", "PREFECT_API_URL": "http://127.0.0.1:1/api"}
    assert_that_it_could_not_start(command(newcomer(home, settings, {name: value}), module), part)


@pytest.mark.thorough
def test_a_proxy_is_not_used_for_servers_on_this_machine(
    home: Path, sandbox: Sandbox, prefect_view: PrefectView
) -> None:
    proxies = dict.fromkeys(["HTTP_PROXY", "ALL_PROXY"], f"http://127.0.0.1:{free_port()}")
    settings = {"PREFECT_API_URL": os.environ["PREFECT_API_URL"]}
    done = command(newcomer(home, sandbox.environment(), settings, proxies), "flows.report_coverage")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", COMMANDS)
@pytest.mark.thorough(after=1)
def test_an_unreadable_line_of_the_env_file_is_named_and_nothing_is_called(
    home: Path, tmp_path: Path, sandbox: Sandbox, module: str
) -> None:
    (tmp_path / ".env").write_text(f"# settings\n\nDIGITALOCEAN_API_URL {sandbox.url}\n")
    settings = sandbox.environment()
    done = command(newcomer(home, settings, {"PREFECT_API_URL": "http://127.0.0.1:1/api"}), module)
    assert_that_it_could_not_start(done, f"{tmp_path / '.env'}, line 3")
    assert sandbox.record.requests == []


# A server that is not there


@pytest.mark.parametrize(
    ("address", "part"),
    [
        ("http://127.0.0.1:1/api", "does not answer"),
        ("{prefect}", "is not Prefect's API: correct the address; the address of a Prefect server ends in /api"),
        ("{sandbox}/api", "refuses access (401)"),
        ("", "is not set"),
        (" ", "is not the address of a Prefect server"),
        ("prefect", "is not the address of a Prefect server"),
        ("127.0.0.1:4200/api", "is not the address of a Prefect server"),
        ("http://127.0.0.1:port/api", "is not the address of a Prefect server"),
    ],
)
@pytest.mark.thorough(after=3)
def test_an_address_without_prefects_api_is_explained(
    prefect_view: PrefectView, sandbox: Sandbox, address: str, part: str
) -> None:
    ours = os.environ["PREFECT_API_URL"].removesuffix("/api")
    wrong = address.format(prefect=ours, sandbox=sandbox.url)
    with temporary_settings({PREFECT_API_URL: wrong}), pytest.raises(NotReady) as caught:
        require_server()
    assert "PREFECT_API_URL" in str(caught.value)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_password_in_the_address_is_not_shown() -> None:
    secret = "http://user:secret@127.0.0.1:1/api"
    with temporary_settings({PREFECT_API_URL: secret}), pytest.raises(NotReady) as caught:
        require_server()
    assert "secret" not in str(caught.value)


def test_the_address_of_a_prefect_server_is_accepted(prefect_view: PrefectView) -> None:
    require_server()


@pytest.mark.parametrize("module", COMMANDS)
@pytest.mark.thorough(after=1)
def test_every_command_reports_a_missing_server_in_a_sentence(home: Path, sandbox: Sandbox, module: str) -> None:
    environment = newcomer(home, sandbox.environment(), {"PREFECT_API_URL": "http://127.0.0.1:1/api"})
    assert_that_it_could_not_start(command(environment, module), "PREFECT_API_URL")
    assert sandbox.record.requests == []


@pytest.mark.parametrize("module", ["deployments.setup", "deployments.notify"])
@pytest.mark.thorough(after=1)
def test_a_command_that_needs_a_server_asks_for_its_address(home: Path, module: str) -> None:
    environment = newcomer(home, {"DIGITALOCEAN_TOKEN": "t"})
    assert_that_it_could_not_start(command(environment, module), "PREFECT_API_URL is not set")


def test_make_deploy_asks_for_the_address_of_a_server_and_deploys_nothing(home: Path) -> None:
    environment = newcomer(home, {"DIGITALOCEAN_TOKEN": "t"})
    make = ["make", "--directory", str(ROOT), "--old-file", "install", f"BIN={Path(sys.executable).parent}", "deploy"]
    done = subprocess.run(make, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert "PREFECT_API_URL is not set" in done.stderr
    assert "created" not in done.stdout


@pytest.mark.thorough
def test_a_temporary_server_that_cannot_start_is_explained_in_a_sentence(home: Path, sandbox: Sandbox) -> None:
    database = home / ".prefect" / "prefect.db"
    database.parent.mkdir()
    database.write_bytes(b"This is no database. " * 1000)
    done = command(newcomer(home, sandbox.environment()), "flows.report_coverage")
    assert done.returncode == 3, done.stderr
    starting, reason = sentences(done.stderr)
    assert starting.startswith(STARTING)
    assert "file is not a database" in reason
    assert sandbox.record.requests == []


# Ended from outside


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.thorough(after=2)
def test_a_command_ended_during_the_start_of_its_server_leaves_nothing_running(
    home: Path, sandbox: Sandbox, end: signal.Signals
) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "flows.report_coverage"],
        env=newcomer(home, sandbox.environment()),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        while not process.stderr.readline().startswith(STARTING):
            assert process.poll() is None
        process.send_signal(end)
        said = process.stderr.read()
    until(lambda: not left_running(home), SHOWS_WITHIN_SECONDS)
    if end is signal.SIGINT:
        assert process.returncode == 130
        assert sentences(said) == ["Interrupted before anything was started."]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="on one core, the server starts after the imports")
def test_ctrl_c_during_the_imports_of_the_one_command_ends_the_server_that_starts_meanwhile(
    home: Path, sandbox: Sandbox
) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "deployments.cli", "coverage"],
        env=newcomer(home, sandbox.environment()),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        until(lambda: len(left_running(home)) > 1, SHOWS_WITHIN_SECONDS)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130
    assert sentences(said) == ["Interrupted before anything was started."]
    until(lambda: not left_running(home), SHOWS_WITHIN_SECONDS)
    assert sandbox.record.requests == []


def test_ctrl_c_in_a_run_shows_what_has_arrived_and_says_how_to_finish(
    home: Path, sandbox: Sandbox, prefect_view: PrefectView
) -> None:
    image = newest_backups(sandbox)[0]
    sandbox.faults.add(Fault(FaultKind.ACTION_ENDLESS, "POST", f"/images/{image.id}/actions", times=None))
    settings = sandbox.environment() | {"PREFECT_API_URL": os.environ["PREFECT_API_URL"]}
    with on_a_terminal(
        "flows.replicate_backups", "--regions", *REGIONS, environment=newcomer(home, settings), columns=200
    ) as (process, screen):
        said = ""
        while "% done" not in said:
            said += next(screen)
        os.killpg(process.pid, signal.SIGINT)
        said += "".join(screen)
    assert process.returncode == 130
    assert "still in progress: the next run adopts it" in said or "not started: the next run starts it" in said
    assert "Actions that have started continue at DigitalOcean. Run the command again to finish." in said
    assert "Traceback" not in said
    assert "Crash" not in said
    name = re.search(r"Beginning flow run '([^']+)'", plain(said))
    assert name
    (run,) = prefect_view.client.read_flow_runs(flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=[name[1]])))
    assert run.state_name == "Cancelled"


def test_a_start_in_progress_at_ctrl_c_is_completed_and_reported(
    home: Path, sandbox: Sandbox, prefect_view: PrefectView
) -> None:
    image = images_of(sandbox, "snapshot")[0]
    region = next(each for each in REGIONS if each not in image.regions)
    sandbox.faults.add(Fault(FaultKind.SLOW, "POST", seconds=4, times=None))
    settings = sandbox.environment() | {"PREFECT_API_URL": os.environ["PREFECT_API_URL"]}
    options = ["--image-ids", str(image.id), "--regions", region]
    with on_a_terminal("flows.transfer_images", *options, environment=newcomer(home, settings), columns=200) as (
        process,
        screen,
    ):
        said = ""
        while "% done" not in said:
            said += next(screen)
        time.sleep(1)
        os.killpg(process.pid, signal.SIGINT)
        said += "".join(screen)
    assert process.returncode == 130
    assert [action.region for action in started(sandbox)] == [region]
    assert "still in progress: the next run adopts it" in said
    assert "Traceback" not in said
    assert "Crash" not in said


@pytest.mark.thorough
def test_ctrl_c_before_a_run_has_a_plan_says_so_in_a_sentence(home: Path, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault(FaultKind.SLOW, path="/v2/images", seconds=20, times=None))
    settings = sandbox.environment() | {"PREFECT_API_URL": os.environ["PREFECT_API_URL"]}
    with on_a_terminal(
        "flows.replicate_backups", "--regions", *REGIONS, environment=newcomer(home, settings), columns=80
    ) as (process, screen):
        said = ""
        while "Reading Droplets and images" not in said:
            said += next(screen)
        os.killpg(process.pid, signal.SIGINT)
        said += "".join(screen)
    assert process.returncode == 130
    assert "Interrupted: Actions that have started continue at DigitalOcean." in said
    assert "Traceback" not in said


@contextmanager
def on_a_terminal(
    module: str, *options: str, environment: dict[str, str], columns: int
) -> Iterator[tuple[subprocess.Popen[bytes], Iterator[str]]]:
    """Run a command on a terminal, and read what that shows."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-m", module, *options],
        env=environment | {"TERM": "xterm"},
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
    ) as process:
        os.close(its)
        yield process, read_terminal(ours)


def plain(said: str) -> str:
    """What a terminal shows, without its control sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said)


@pytest.mark.parametrize("moment", ["Starting a sandbox", "copying the newest backup"])
@pytest.mark.thorough(after=1)
def test_ctrl_c_ends_the_demo_with_a_sentence_and_leaves_nothing_running(home: Path, moment: str) -> None:
    ours, its = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "deployments.demo"],
        env=newcomer(home),
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
    ) as process:
        os.close(its)
        said, screen = "", read_terminal(ours)
        while moment not in said:
            said += next(screen)
        os.killpg(process.pid, signal.SIGINT)
        after = "".join(screen)
    assert process.returncode == 130
    assert after.count("The demo has ended") == 1
    assert "Traceback" not in after
    assert left_running(home) == []


# From cron


@pytest.mark.parametrize("module", ["flows.replicate_backups", "deployments.notify"])
def test_the_documented_cron_line_works(
    first: FirstRun, home: Path, sandbox: Sandbox, prefect_view: PrefectView, module: str
) -> None:
    """Cron runs a line with `sh`, in the user's home, and sets next to nothing."""
    with_database_of(first, home)
    pages = "".join((ROOT / page).read_text() for page in ("README.md", "flows/README.md"))
    lines = re.findall(r"^[\d* ]{9,}(cd /home/ops/(\w+) && .*)$", pages, re.MULTILINE)
    ((line, name),) = [each for each in lines if module in each[0]]
    folder = home / name
    for package in ("flows", "tasks", "deployments"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / ".venv").symlink_to(sys.prefix)
    settings = sandbox.environment()
    if module == "deployments.notify":
        settings = {"PREFECT_API_URL": os.environ["PREFECT_API_URL"]}
    (folder / ".env").write_text("".join(f"{name}='{value}'\n" for name, value in settings.items()))
    sandbox.account.droplets[min(sandbox.account.droplets)].tags.append("dr")
    done = subprocess.run(
        ["/bin/sh", "-c", line.replace("/home/ops", str(home))],
        cwd=home,
        env={"HOME": str(home), "LOGNAME": "ops", "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"},
        timeout=SHOWS_WITHIN_SECONDS,
        check=False,
    )
    log = "".join(file.read_text() for file in folder.glob("*.log"))
    assert done.returncode == 0, log
    assert "Traceback" not in log
    assert "ERROR" not in log
