"""Making a Prefect server ready: `python -m deployments.setup` and `prefect deploy --all`."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest
from prefect.blocks.notifications import SlackWebhook
from prefect.blocks.system import Secret
from prefect.client.base import PrefectHttpxSyncClient
from prefect.client.orchestration import get_client
from prefect.events.worker import EventsWorker
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.workers.base import BaseJobConfiguration
from pydantic import SecretStr
from ruamel.yaml import YAML

from deployments.prefect_server import clean_environment, prefect_server
from deployments.server_resources.automations import HEARTBEAT, automations
from deployments.server_resources.credentials_blocks import FORMER_TOKEN_BLOCK
from deployments.server_resources.deployment_limits import NIGHTLY_REPLICATION
from deployments.server_resources.secret_blocks import PING_BLOCK
from deployments.server_resources.work_pool import EVENT_QUEUE, EVENT_RUNS, PING_URL, POOL
from deployments.setup import app, main
from flows.image_locks import MUTEX, MUTEX_DECAY_PER_SECOND
from tasks.accounts import DEFAULT_ACCOUNT
from tasks.distributed_rate_limit import DISTRIBUTED_LIMIT, PrefectLeakyBucket
from tests.end_to_end.databases import PrefectHome
from tests.end_to_end.prefect_server import PrefectView, client_for, until
from tests.flows.test_prefect_settings import longest_silence_of_a_living_run

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "dop_v1_" + "0123456789abcdef" * 4
PING = "https://hc-ping.com/c0ffee00-5ec7-4e7a-b1ab-9d3f7a6e2b10"
FAILED, SILENT, DIED = "A copy of backups has failed", "No copy of backups for a day", "A copy of backups has died"
UNHEARD = "An event has started no run"
WAITING = "A rebuild waits for approval"
PARTS = [
    "credentials default",
    f"work pool {POOL}",
    f"work queue {EVENT_QUEUE}",
    f"concurrency limit {MUTEX}",
    f"concurrency limit {DISTRIBUTED_LIMIT}",
    f"automation '{FAILED}'",
    f"automation '{UNHEARD}'",
    f"automation '{WAITING}'",
    f"automation '{SILENT}'",
    f"automation '{DIED}'",
]

T = TypeVar("T")


@dataclass
class Server:
    """A Prefect server that belongs to the tests of this module."""

    url: str
    home: PrefectHome
    http: PrefectHttpxSyncClient
    said: list[str] = field(default_factory=list)

    def command(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a module from the project's root, without a terminal."""
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env={
                **clean_environment(self.home.folder / "client"),
                "PREFECT_API_URL": f"{self.url}/api",
                **environment,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        self.said += [done.stdout, done.stderr]
        return done

    def set_up(self, *arguments: str, token: str = TOKEN, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run setup as a command does, but in this process, where Prefect is imported already."""
        out, err = io.StringIO(), io.StringIO()
        with self.used_here(), pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            # Neither a terminal that could be asked for a token, nor a developer's .env.
            patch.setattr(sys, "stdin", io.StringIO())
            patch.chdir(self.home.folder)
            for name, value in {"DIGITALOCEAN_TOKEN": token, **environment}.items():
                patch.setenv(name, value)
            status = int(app(arguments, result_action="return_value"))
        self.said += [out.getvalue(), err.getvalue()]
        return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())

    def objects(self) -> dict[str, Any]:
        """All that setup could change, with the moments at which it was changed."""
        kinds = ["block_documents", "work_pools", "v2/concurrency_limits", "automations", "deployments"]
        found = {kind: self.http.post(f"/{kind}/filter", json={}).raise_for_status().json() for kind in kinds}
        secrets = {"include_secrets": True}
        found["block_documents"] = self.http.post("/block_documents/filter", json=secrets).raise_for_status().json()
        return found

    def automation(self, name: str) -> dict[str, Any]:
        (found,) = [each for each in self.objects()["automations"] if each["name"] == name]
        return dict(found)

    @contextmanager
    def used_here(self) -> Iterator[None]:
        """Have this process use the server."""
        with temporary_settings({PREFECT_API_URL: f"{self.url}/api"}):
            yield
            # One sender of events serves the whole process, and keeps to the server that it began with.
            EventsWorker.drain_all(timeout=10)

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        with self.used_here():
            return asyncio.run(work)


@dataclass(frozen=True)
class Story:
    """What was said and what was there, from an empty server to one that is set up."""

    empty: dict[str, Any]
    check_before: subprocess.CompletedProcess[str]
    without_token: subprocess.CompletedProcess[str]
    impossible_token: subprocess.CompletedProcess[str]
    still_empty: dict[str, Any]
    bucket_before: float | None
    first: subprocess.CompletedProcess[str]
    made: dict[str, Any]
    second: subprocess.CompletedProcess[str]
    check_after: subprocess.CompletedProcess[str]
    made_again: dict[str, Any]


@pytest.fixture(scope="module")
def server(prefect_home: Callable[[str], PrefectHome]) -> Iterator[Server]:
    home = prefect_home("set-up")
    with prefect_server(home.folder, environment=home.environment) as url, client_for(f"{url}/api") as http:
        yield Server(url, home, http)


@pytest.fixture(scope="module")
def story(server: Server) -> Story:
    return Story(
        empty=server.objects(),
        check_before=server.set_up("--check"),
        without_token=server.set_up(token=""),
        impossible_token=server.set_up(token="two words"),
        still_empty=server.objects(),
        bucket_before=server.do(PrefectLeakyBucket(DISTRIBUTED_LIMIT).add(1)),
        first=server.command("deployments.setup", DIGITALOCEAN_TOKEN=TOKEN),
        made=server.objects(),
        second=server.set_up(),
        check_after=server.set_up("--check", token=""),
        made_again=server.objects(),
    )


@pytest.fixture(scope="module")
def all_deployed(server: Server, story: Story) -> subprocess.CompletedProcess[str]:
    """What Prefect said when all deployments were made."""
    return server.command("prefect", "--no-prompt", "deploy", "--all")


class Correct(Protocol):
    """Sets the server up once more, which was set up and then changed."""

    def __call__(
        self, *, token: str = TOKEN, notify: str | None = None, event_runs: int | None = None
    ) -> dict[str, str]: ...


@pytest.fixture
def correct(
    server: Server, story: Story, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Correct:
    def again(*, token: str = TOKEN, notify: str | None = None, event_runs: int | None = None) -> dict[str, str]:
        monkeypatch.setenv("DIGITALOCEAN_TOKEN", token)
        capsys.readouterr()
        with server.used_here():
            assert main(notify=notify, event_runs=event_runs) == 0
        said = capsys.readouterr()
        server.said.extend(said)
        return verdicts(said.out)

    return again


def verdicts(said: str, parts: Sequence[str] = PARTS) -> dict[str, str]:
    """What was said of each part that setup makes."""
    lines = said.splitlines()
    return {part: line.removeprefix(part).strip() for part in parts for line in lines if line.startswith(part)}


def verdict_on_nightly(said: str) -> str:
    name = f"deployment {NIGHTLY_REPLICATION}"
    return next(line.removeprefix(name).strip() for line in said.splitlines() if name in line)


def assert_that_it_says(done: subprocess.CompletedProcess[str], sentence: str, status: int = 3) -> None:
    assert done.returncode == status
    assert sentence in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.fixture(scope="module", autouse=True)
def silence(prefect_view: PrefectView) -> Iterator[str]:
    """An automation that finds ten seconds without a nightly run too long; they pass during the other tests."""
    (part,) = (
        each for each in automations(None, silence=timedelta(seconds=10)) if each.automation.startswith("No copy")
    )
    short = replace(part, automation="No copy of backups for ten seconds")

    async def make() -> None:
        async with get_client() as client:
            await short.apply(client)

    asyncio.run(make())
    yield short.automation
    for automation in prefect_view.client.request("POST", "/automations/filter", json={}).json():
        if automation["name"] == short.automation:
            prefect_view.client.request("DELETE", "/automations/{id}", path_params={"id": automation["id"]})


def test_a_check_names_what_is_missing_and_changes_nothing(story: Story) -> None:
    assert story.check_before.returncode == 1
    assert verdicts(story.check_before.stdout) == dict.fromkeys(PARTS, "missing")
    assert story.still_empty == story.empty


def test_without_a_token_setup_says_where_to_set_one_and_changes_nothing(story: Story) -> None:
    assert_that_it_says(story.without_token, "DIGITALOCEAN_TOKEN")
    assert story.still_empty == story.empty


def test_an_impossible_token_is_rejected(story: Story) -> None:
    assert_that_it_says(story.impossible_token, "contains characters that are not allowed in a token")


def test_an_impossible_token_is_rejected_even_if_the_server_has_one(server: Server, story: Story) -> None:
    assert_that_it_says(server.set_up(token="two words"), "contains characters that are not allowed in a token")


def test_setup_reports_what_it_has_created(story: Story) -> None:
    assert story.first.returncode == 0, story.first.stderr
    assert verdicts(story.first.stdout) == dict.fromkeys(PARTS, "created")
    (document,) = story.made["block_documents"]
    assert document["name"] == DEFAULT_ACCOUNT
    assert document["data"]["token"] == TOKEN
    assert [pool["name"] for pool in story.made["work_pools"]] == [POOL]
    assert {limit["name"] for limit in story.made["v2/concurrency_limits"]} == {MUTEX, DISTRIBUTED_LIMIT}
    assert len(story.made["automations"]) == 5


def test_a_second_setup_reports_no_changes_and_makes_none(story: Story) -> None:
    assert story.second.returncode == 0, story.second.stderr
    assert verdicts(story.second.stdout) == dict.fromkeys(PARTS, "unchanged")
    assert story.made_again == story.made


def test_a_check_of_a_complete_server_passes_without_a_token(story: Story) -> None:
    assert story.check_after.returncode == 0, story.check_after.stderr
    assert verdicts(story.check_after.stdout) == dict.fromkeys(PARTS, "unchanged")


def test_the_bucket_that_setup_creates_is_the_one_that_runs_use(server: Server, story: Story) -> None:
    assert story.bucket_before is None
    level = server.do(PrefectLeakyBucket(DISTRIBUTED_LIMIT).add(100))
    assert level is not None
    assert 0 < level <= 100


@pytest.mark.parametrize("block", ["slack-webhook/missing", "nonsense"])
def test_a_missing_notification_block_is_named_and_no_automation_is_changed(
    server: Server, story: Story, block: str
) -> None:
    before = server.objects()["automations"]
    assert_that_it_says(server.set_up("--notify", block), f"notification block '{block}' does not exist", status=1)
    assert server.objects()["automations"] == before


def test_an_invalid_setting_is_named(server: Server, story: Story) -> None:
    assert_that_it_says(server.set_up(DIGITALOCEAN_RATE_LIMITS="many"), "DIGITALOCEAN_RATE_LIMITS")


def test_a_new_token_replaces_the_stored_one(correct: Correct, server: Server) -> None:
    def kept() -> str:
        documents = server.objects()["block_documents"]
        return next(str(each["data"]["token"]) for each in documents if each["name"] == DEFAULT_ACCOUNT)

    assert correct(token=TOKEN[::-1])["credentials default"] == "updated (token differs)"
    assert kept() == TOKEN[::-1]
    correct()
    assert kept() == TOKEN


def test_the_token_that_earlier_versions_stored_in_a_secret_is_taken_over(
    correct: Correct, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = [each for each in server.objects()["block_documents"] if each["name"] == DEFAULT_ACCOUNT]
    server.http.delete(f"/block_documents/{block['id']}").raise_for_status()
    with server.used_here():
        Secret(value=TOKEN).save(FORMER_TOKEN_BLOCK)
    assert correct(token="")["credentials default"] == "created"
    documents = {each["name"]: each["data"] for each in server.objects()["block_documents"]}
    assert documents[DEFAULT_ACCOUNT]["token"] == TOKEN


def test_the_work_pool_does_not_refer_to_credentials_that_are_missing(correct: Correct, server: Server) -> None:
    (block,) = [each for each in server.objects()["block_documents"] if each["name"] == DEFAULT_ACCOUNT]
    server.http.delete(f"/block_documents/{block['id']}").raise_for_status()
    checked = server.set_up("--check", token="")
    assert "refers to the missing block digitalocean-credentials/default, so no run can start" in checked.stdout
    # Another account needs no token of the default one.
    assert server.set_up("--account", "prod", token=TOKEN[::-1]).returncode == 0
    template = server.http.get(f"/work_pools/{POOL}").json()["base_job_template"]
    assert "DIGITALOCEAN_TOKEN" not in template["variables"]["properties"]["env"]["default"]
    correct()
    template = server.http.get(f"/work_pools/{POOL}").json()["base_job_template"]
    assert (
        "digitalocean-credentials.default.token"
        in template["variables"]["properties"]["env"]["default"]["DIGITALOCEAN_TOKEN"]
    )


@pytest.mark.parametrize("name", ["Prod", "prod_2", "unsaved", "several", "0a" * 32])
def test_a_name_that_no_account_can_have_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        app(["--account", name])
    assert ended.value.code != 0
    assert "expected a name of lowercase letters" in "".join(capsys.readouterr())


def test_the_work_pool_keeps_variables_that_were_added_by_hand(correct: Correct, server: Server) -> None:
    def environment() -> dict[str, Any]:
        template = server.http.get(f"/work_pools/{POOL}").json()["base_job_template"]
        return dict(template["variables"]["properties"]["env"]["default"])

    before = environment()
    assert "DIGITALOCEAN_TOKEN" in before
    assert TOKEN not in str(before)
    template = server.http.get(f"/work_pools/{POOL}").json()["base_job_template"]
    template["variables"]["properties"]["env"]["default"] = {"HTTPS_PROXY": "http://proxy:8080"}
    server.http.patch(f"/work_pools/{POOL}", json={"base_job_template": template}).raise_for_status()
    updated = correct()[f"work pool {POOL}"]
    assert updated.startswith("updated (does not set ")
    assert set(updated.removeprefix("updated (does not set ").removesuffix(")").split(" and ")) == set(before)
    assert environment() == {**before, "HTTPS_PROXY": "http://proxy:8080"}


@pytest.mark.parametrize("name", [MUTEX, DISTRIBUTED_LIMIT])
@pytest.mark.parametrize("change", [{"active": False}, {"limit": 2}])
def test_a_limit_that_was_changed_is_corrected(
    correct: Correct, server: Server, name: str, change: dict[str, object]
) -> None:
    def limit() -> dict[str, object]:
        found = server.http.get(f"/v2/concurrency_limits/{name}").json()
        return {attribute: found[attribute] for attribute in change}

    before = limit()
    server.http.patch(f"/v2/concurrency_limits/{name}", json=change).raise_for_status()
    try:
        assert correct()[f"concurrency limit {name}"].startswith("updated (")
        assert limit() == before
    finally:
        server.http.patch(f"/v2/concurrency_limits/{name}", json=before).raise_for_status()


def test_a_mutex_of_version_0_2_is_given_a_slot_that_expires(correct: Correct, server: Server) -> None:
    # As a restart of the server in the wrong moment left it.
    as_it_was = {"slot_decay_per_second": 0.0, "active_slots": 1}
    server.http.patch(f"/v2/concurrency_limits/{MUTEX}", json=as_it_was).raise_for_status()
    assert correct()[f"concurrency limit {MUTEX}"] == "updated (limit or decay differs)"
    decay = server.http.get(f"/v2/concurrency_limits/{MUTEX}").json()["slot_decay_per_second"]
    assert decay == pytest.approx(MUTEX_DECAY_PER_SECOND)


def environment_of_a_run(server: Server) -> dict[str, str | None]:
    """What a worker would give a run; raises if it could not start one."""

    async def resolve() -> dict[str, str | None]:
        async with get_client() as client:
            template = (await client.read_work_pool(POOL)).base_job_template
            resolved: Any = await BaseJobConfiguration.from_template_and_values(template, {}, client=client)
            return dict(resolved.env)

    return server.do(resolve())


def test_without_a_ping_url_the_work_pool_refers_to_none(server: Server, story: Story) -> None:
    assert "ping" not in story.check_before.stdout + story.first.stdout
    assert PING_URL not in environment_of_a_run(server)


def test_runs_get_the_ping_url_while_its_block_exists_and_start_without_it_once_it_was_removed(
    server: Server, story: Story
) -> None:
    secret, pool = f"secret {PING_BLOCK}", f"work pool {POOL}"

    def says(done: subprocess.CompletedProcess[str], status: int = 0) -> tuple[str | None, str | None]:
        assert done.returncode == status, done.stdout + done.stderr
        found = verdicts(done.stdout, (secret, pool))
        return found.get(secret), found.get(pool)

    assert says(server.set_up("--check", DIGITALOCEAN_PING_URL=PING), 1) == ("missing", "unchanged")
    assert says(server.set_up(DIGITALOCEAN_PING_URL=PING)) == ("created", f"updated (does not set {PING_URL})")
    assert says(server.set_up("--check", DIGITALOCEAN_PING_URL=PING)) == ("unchanged", "unchanged")
    assert says(server.set_up("--check")) == (None, "unchanged")
    assert says(server.set_up("--check", DIGITALOCEAN_PING_URL=PING + "2"), 1) == ("URL differs", "unchanged")
    assert environment_of_a_run(server)[PING_URL] == PING
    assert PING not in str(server.http.get(f"/work_pools/{POOL}").json())

    (block,) = [each for each in server.objects()["block_documents"] if each["name"] == PING_BLOCK]
    server.http.delete(f"/block_documents/{block['id']}").raise_for_status()
    with pytest.raises(ObjectNotFound):
        environment_of_a_run(server)
    problem = f"refers to the missing block secret/{PING_BLOCK}, so no run can start"
    assert says(server.set_up("--check"), 1) == (None, problem)
    assert says(server.set_up()) == (None, f"updated ({problem})")
    assert PING_URL not in environment_of_a_run(server)
    assert says(server.set_up("--check")) == (None, "unchanged")


def test_a_ping_url_that_is_not_valid_is_rejected_before_any_change(server: Server, story: Story) -> None:
    before = server.objects()["block_documents"]
    done = server.set_up(DIGITALOCEAN_PING_URL="two words")
    assert_that_it_says(done, "DIGITALOCEAN_PING_URL: expected a URL")
    assert "two words" not in done.stdout + done.stderr
    assert server.objects()["block_documents"] == before


def queue_limit(server: Server) -> int | None:
    limit: int | None = server.http.get(f"/work_pools/{POOL}/queues/{EVENT_QUEUE}").json()["concurrency_limit"]
    return limit


def test_runs_that_events_start_have_a_queue_with_a_limit_that_an_operator_can_set(
    correct: Correct, server: Server
) -> None:
    assert queue_limit(server) == EVENT_RUNS
    assert correct(event_runs=5)[f"work queue {EVENT_QUEUE}"] == f"updated (has a limit of {EVENT_RUNS})"
    assert queue_limit(server) == 5
    assert correct()[f"work queue {EVENT_QUEUE}"] == "unchanged"
    assert queue_limit(server) == 5
    server.http.patch(f"/work_pools/{POOL}/queues/{EVENT_QUEUE}", json={"concurrency_limit": None}).raise_for_status()
    assert correct()[f"work queue {EVENT_QUEUE}"] == "updated (has no limit)"
    assert queue_limit(server) == EVENT_RUNS


def test_a_run_counts_as_dead_only_after_the_longest_silence_of_a_live_one(server: Server, story: Story) -> None:
    trigger = server.automation(DIED)["trigger"]
    assert trigger["after"] == [HEARTBEAT]
    template = server.http.get(f"/work_pools/{POOL}").json()["base_job_template"]
    of_runs = template["variables"]["properties"]["env"]["default"]
    assert timedelta(seconds=trigger["within"]) >= longest_silence_of_a_living_run(of_runs)


@pytest.mark.thorough
@pytest.mark.usefixtures("all_deployed")
def test_the_concurrency_limit_of_version_0_2_is_removed_even_while_a_run_holds_a_slot(server: Server) -> None:
    """Runs as Prefect's worker and engine would take them through their states, with a lease of the old limit."""
    name, other = NIGHTLY_REPLICATION.split("/")
    deployment = server.http.get(f"/deployments/name/{name}/{other}").json()

    def limit() -> Any:
        return server.http.get(f"/deployments/{deployment['id']}").json()["global_concurrency_limit"]

    def move(run: dict[str, Any], kind: str) -> dict[str, Any]:
        answer = server.http.post(f"/flow_runs/{run['id']}/set_state", json={"state": {"type": kind}})
        return dict(answer.raise_for_status().json())

    def begin() -> dict[str, Any]:
        body = {"state": {"type": "SCHEDULED"}}
        run = server.http.post(f"/deployments/{deployment['id']}/create_flow_run", json=body).raise_for_status().json()
        assert move(run, "PENDING")["status"] == "ACCEPT"
        assert move(run, "RUNNING")["status"] == "ACCEPT"
        return dict(run)

    old = {"concurrency_limit": 1, "concurrency_options": {"collision_strategy": "ENQUEUE"}}
    server.http.patch(f"/deployments/{deployment['id']}", json=old).raise_for_status()
    in_flight = begin()
    check = server.set_up("--check")
    assert check.returncode == 1
    assert "concurrency limit" in verdict_on_nightly(check.stdout)
    assert limit()

    done = server.set_up()
    assert done.returncode == 0, done.stderr
    assert verdict_on_nightly(done.stdout).startswith("updated")
    assert limit() is None
    beside = begin()
    for run in (in_flight, beside):
        assert move(run, "COMPLETED")["status"] == "ACCEPT"
    assert verdict_on_nightly(server.set_up("--check").stdout) == "has left a concurrency limit behind"
    assert verdict_on_nightly(server.set_up().stdout).startswith("updated")
    assert server.http.get(f"/v2/concurrency_limits/deployment:{deployment['id']}").status_code == 404

    server.http.patch(f"/deployments/{deployment['id']}", json=old).raise_for_status()
    assert verdict_on_nightly(server.set_up().stdout).startswith("updated")
    assert limit() is None
    assert verdict_on_nightly(server.set_up("--check").stdout) == "unchanged"


def test_an_automation_that_was_switched_off_is_switched_on(correct: Correct, server: Server) -> None:
    path = f"/automations/{server.automation(FAILED)['id']}"
    server.http.patch(path, json={"enabled": False}).raise_for_status()
    try:
        assert correct()[f"automation '{FAILED}'"] == "updated (switched off)"
        assert server.automation(FAILED)["enabled"]
    finally:
        server.http.patch(path, json={"enabled": True}).raise_for_status()


def test_an_automation_keeps_the_notification_that_it_was_given_earlier(correct: Correct, server: Server) -> None:
    async def make_block() -> None:
        async with get_client() as client:
            webhook = SlackWebhook(url=SecretStr("https://hooks.slack.com/services/T0/B0/x"))
            await webhook.save("ops", client=client)

    def actions() -> list[dict[str, Any]]:
        return [action for name in (FAILED, UNHEARD, SILENT, DIED) for action in server.automation(name)["actions"]]

    assert [action["type"] for action in actions()] == [*["do-nothing"] * 3, "change-flow-run-state"]
    server.do(make_block())
    said = correct(notify="slack-webhook/ops")
    assert [said[f"automation '{name}'"] for name in (FAILED, UNHEARD, SILENT, DIED)] == [
        "updated (action differs)",
        "updated (action differs)",
        "updated (action differs)",
        "unchanged",
    ]
    given = actions()
    assert [action["type"] for action in given] == ["send-notification"] * 3 + ["change-flow-run-state"]
    assert set(correct().values()) == {"unchanged"}

    found = server.automation(FAILED)
    changed = {each: found[each] for each in ("name", "description", "enabled", "trigger", "actions")}
    changed["trigger"]["threshold"] = 2
    server.http.put(f"/automations/{found['id']}", json=changed).raise_for_status()
    assert correct()[f"automation '{FAILED}'"] == "updated (trigger differs)"
    assert server.automation(FAILED)["trigger"]["threshold"] == 1
    assert actions() == given


def test_every_deployment_can_be_deployed_and_no_secret_is_anywhere_in_clear_text(
    server: Server, all_deployed: subprocess.CompletedProcess[str]
) -> None:
    assert all_deployed.returncode == 0, all_deployed.stdout + all_deployed.stderr
    wanted = YAML(typ="safe").load((ROOT / "prefect.yaml").read_text())["deployments"]
    deployed = server.objects()["deployments"]
    assert sorted((each["entrypoint"], each["name"]) for each in deployed) == sorted(
        (each["entrypoint"], each["name"]) for each in wanted
    )
    assert {each["work_pool_name"] for each in deployed} == {POOL}

    stored = b"".join(server.home.contents().values())
    assert b"replicate-backups" in stored
    for secret in (TOKEN, PING):
        assert secret.encode() not in stored
        assert secret not in "".join(server.said)


def test_the_automation_for_missing_runs_is_triggered(prefect_view: PrefectView, silence: str) -> None:
    def triggered() -> bool:
        body = {"filter": {"event": {"name": ["prefect.automation.triggered"]}}}
        events = prefect_view.client.request("POST", "/events/filter", json=body).json()["events"]
        return any(event["resource"]["prefect.resource.name"] == silence for event in events)

    until(triggered, within_seconds=90)
