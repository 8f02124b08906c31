"""A drill proves that Droplets can be rebuilt, isolated from everything, and always destroys what it has created."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NoReturn

import pytest
from prefect import State, flow
from prefect.exceptions import TerminationSignal

from deployments.sandbox import Behavior, Droplet, Fault, FaultKind, Firewall, Sandbox
from deployments.sandbox.firewalls import allow, allow_out
from flows.drill_restore import DRILL_KEY, drill_restore
from flows.recovery.destruction import Destruction, destroy_drills
from flows.recovery.proofs import read_proofs
from flows.replication.run import COVERAGE_KEY
from flows.report_coverage import report_coverage
from flows.reporting.drill_report import DrillReport
from flows.reporting.events import ACCOUNT, RESTORE_FAILED, RESTORE_PROVEN
from tasks.connection import connect
from tasks.droplets import list_droplets
from tests.end_to_end.accounts import Operator, changes, meanwhile
from tests.end_to_end.prefect_server import PrefectView
from tests.end_to_end.rebuilding import (
    AWAY,
    CREATING,
    HOME,
    OF_ONE,
    created_in,
    ctrl_c_when,
    finish_creations,
    for_seconds,
    have_copies,
    originals_of,
    report_in,
    seen,
)
from tests.end_to_end.test_what_prefect_shows import table_in

EVENTS = (RESTORE_PROVEN, RESTORE_FAILED)
TAG = "prefect:drill"


@pytest.fixture
def sandbox(start_with_behavior: Callable[..., Sandbox]) -> Sandbox:
    """Two Droplets in nyc3 with copies in ams3; new Droplets can be reached."""
    sandbox = start_with_behavior(reachable_droplets=True)
    have_copies(sandbox)
    return sandbox


@pytest.fixture(autouse=True)
def _no_original_is_ever_destroyed(sandbox: Sandbox) -> Any:
    before = {each.id for each in originals_of(sandbox)}
    yield
    assert sandbox.record.originals_destroyed() == []
    assert before <= sandbox.account.droplets.keys()


@pytest.fixture
def port() -> int:
    """A port on which nothing listens yet."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def drill(**parameters: Any) -> State[Any]:
    return drill_restore(**parameters, return_state=True)


def report_of(state: State[Any]) -> DrillReport:
    return report_in(state, DrillReport)


def proven(sandbox: Sandbox) -> list[tuple[int, str]]:
    """Droplets and regions of the proofs that the account's tags hold."""
    return sorted((each.droplet_id, each.region) for each in read_proofs(sandbox.account.tags))


def is_polled(sandbox: Sandbox) -> bool:
    """Whether the first Droplet that was created has been polled."""
    created, requests = sandbox.record.created, sandbox.record.requests
    return bool(created) and requests[-1].method == "GET" and requests[-1].at > created[0].at


def leave_behind(sandbox: Sandbox, *tags: str) -> Droplet:
    """Have a Droplet such as an earlier drill may have left behind."""
    image = next(each for each in sandbox.account.images.values() if each.public)
    body = {"name": "left-drill", "region": AWAY, "size": "s-1vcpu-1gb", "image": image.id}
    made = Operator(sandbox).post("/v2/droplets", **body, tags=[*tags, f"{TAG}:image-{image.id}"])
    droplet = sandbox.account.droplets[made["droplet"]["id"]]
    sandbox.account.advance(time.time() + 60)
    return droplet


# What a drill does


def test_a_drill_proves_a_droplet_behind_a_firewall_destroys_it_and_leaves_evidence(
    sandbox: Sandbox, port: int, prefect_view: PrefectView
) -> None:
    first, second = originals_of(sandbox)
    sandbox.account.answering_ports = {port}
    state = drill(probe_port=port)
    assert state.is_completed(), state.message
    (row,) = report_of(state).rows
    (created,) = sandbox.record.created
    assert (row.droplet_id, row.region, row.image_id) == (second.id, AWAY, created.image_id)
    assert (row.outcome, row.new_droplet_id, row.error) == ("proven", created.droplet_id, "")
    assert row.seconds_to_active
    assert row.seconds_to_probe is not None
    assert row.destroyed_at
    assert re.match(r"Drill with 1 Droplet: 1 proven, \$\d\.\d+ for each hour begun; ", str(state.message))
    assert report_of(state).usage.requests == len(sandbox.record.requests)
    assert sandbox.record.left_behind() == []

    # Isolated before it existed.
    posts = [each.path for each in sandbox.record.requests if each.method == "POST"]
    assert posts.index("/v2/firewalls") < posts.index("/v2/droplets")
    (firewall,) = [each for each in sandbox.account.firewalls.values() if each.name.startswith("prefect-drill")]
    assert (firewall.tags, firewall.outbound_rules) == ([f"{TAG}-port-{port}"], [])
    assert firewall.inbound_rules == [allow(str(port), addresses=["0.0.0.0/0", "::/0"])]
    assert set(created.tags) == {TAG, f"{TAG}:image-{created.image_id}", f"{TAG}-port-{port}"}
    assert created.name == f"{second.name}-drill"

    run = prefect_view.run_of(state)
    (line,) = table_in(prefect_view.artifacts_of(run), DRILL_KEY)
    assert (line["Outcome"], line["From image"], line["In"]) == ("proven", str(row.image_id), AWAY)
    assert line["Seconds to active"] + line["To the probe"]
    assert line["Destroyed"]
    (event,) = prefect_view.events_of(run, *EVENTS)
    assert (event.event, event.resource.id) == (RESTORE_PROVEN, ACCOUNT)
    assert event.payload["rows"] == [row.model_dump(mode="json")]

    # The proof is in the account: the next drill takes the other Droplet, and no second firewall.
    assert proven(sandbox) == [(second.id, AWAY)]
    again = drill(probe_port=port)
    assert again.is_completed(), again.message
    assert proven(sandbox) == sorted([(first.id, AWAY), (second.id, AWAY)])
    assert len(sandbox.record.firewalls_created) == 1
    assert sandbox.record.left_behind() == []


def test_a_dry_run_says_what_would_be_rebuilt_and_changes_nothing(sandbox: Sandbox, prefect_view: PrefectView) -> None:
    left = leave_behind(sandbox, TAG)
    before = len(changes(sandbox))
    state = drill(sample=2, dry_run=True)
    assert state.is_completed()
    assert {(row.droplet_id, row.region, row.outcome) for row in report_of(state).rows} == {
        (each.id, AWAY, "planned") for each in originals_of(sandbox)
    }
    assert len(changes(sandbox)) == before
    assert left.id in sandbox.account.droplets
    run = prefect_view.run_of(state)
    assert run.name.endswith("(dry run)")
    assert prefect_view.events_of(run, *EVENTS) == []


@pytest.mark.thorough
def test_more_droplets_than_allowed_create_nothing_and_fail(sandbox: Sandbox) -> None:
    state = drill(sample=2, max_droplets=1)
    assert state.message == "Nothing was created: 2 Droplets would be more than max_droplets (1)"
    assert changes(sandbox) == []


@pytest.mark.thorough
def test_droplets_beyond_the_limit_of_the_account_fail_in_a_dry_run_and_in_a_drill_and_stop_no_other(
    sandbox: Sandbox,
) -> None:
    sandbox.account.droplet_limit = 3
    for dry_run in (True, False):
        state = drill(sample=2, dry_run=dry_run)
        assert "1 of 2 Droplets not proven" in str(state.message)
        assert "the account's Droplet limit is reached" in str(state.message)
        expected = ["failed", "planned" if dry_run else "proven"]
        assert sorted(row.outcome for row in report_of(state).rows) == expected


@pytest.mark.thorough
def test_without_a_probe_port_the_firewall_lets_nobody_in(sandbox: Sandbox) -> None:
    assert drill().is_completed()
    (firewall,) = [each for each in sandbox.account.firewalls.values() if TAG + "-closed" in each.tags]
    assert firewall.inbound_rules == [allow("22", addresses=["192.0.2.1/32"])]
    assert firewall.outbound_rules == []
    assert f"{TAG}-closed" in sandbox.record.created[0].tags


@pytest.mark.thorough
def test_a_drill_that_is_not_to_be_isolated_needs_no_firewall(sandbox: Sandbox) -> None:
    assert drill(isolate=False).is_completed()
    assert seen(sandbox, "GET", "/v2/firewalls") == seen(sandbox, "POST", "/v2/firewalls") == []
    assert set(sandbox.record.created[0].tags) == {TAG, f"{TAG}:image-{sandbox.record.created[0].image_id}"}


@pytest.mark.thorough
def test_with_no_copy_away_from_home_there_is_nothing_to_prove(sandbox: Sandbox) -> None:
    for image in sandbox.account.images.values():
        image.regions = {HOME: 0.0}
    state = drill()
    assert state.is_failed()
    assert state.message == "nothing to prove: none of 2 Droplets has a copy outside its own region"
    assert sandbox.record.created == []


# What is not isolated is not created


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.thorough(after=1)
def test_if_the_firewall_is_refused_nothing_is_created_and_the_scope_is_named(
    sandbox: Sandbox, method: str, prefect_view: PrefectView
) -> None:
    sandbox.account.behavior = Behavior(out_of_scope=frozenset({(method, "/v2/firewalls")}))
    state = drill()
    assert state.is_failed()
    assert f"the scope firewall:{'read' if method == 'GET' else 'create'}" in str(state.message)
    assert sandbox.record.created == []
    (event,) = prefect_view.events_of(prefect_view.run_of(state), *EVENTS)
    assert (event.event, event.payload["message"]) == (RESTORE_FAILED, state.message)


def test_a_firewall_whose_response_is_lost_is_found_and_not_created_twice(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault(FaultKind.DROP_AFTER, "POST", "/v2/firewalls"))
    assert drill().is_completed()
    assert len(sandbox.record.firewalls_created) == 1
    # The second attempt is told that the name is taken, which is final.
    assert [each.status for each in seen(sandbox, "POST", "/v2/firewalls")] == [None, 409]


@pytest.mark.thorough
def test_another_firewall_that_lets_drills_out_stops_them_and_is_named(sandbox: Sandbox) -> None:
    account = sandbox.account
    account.tag_named(TAG)
    wide = Firewall("bb4b2611", "monitoring", 0, 0, outbound_rules=[allow_out("tcp")], tags=[TAG])
    account.add_firewall(wide)
    state = drill()
    assert "the firewall monitoring (bb4b2611) allows drills more traffic than the probe port" in str(state.message)
    assert sandbox.record.created == []
    assert sandbox.record.firewalls_created == []


# Whatever happens, what was created is destroyed


def test_a_port_that_never_answers_fails_the_drill_and_the_droplet_is_destroyed(
    sandbox: Sandbox, port: int, prefect_view: PrefectView
) -> None:
    state = for_seconds(drill_restore, 8, probe_port=port)
    assert state.is_failed()
    assert "1 of 1 Droplet not proven (first: " in str(state.message)
    assert f"it was active, but port {port} did not answer within the time limit" in str(state.message)
    (row,) = report_of(state).rows
    assert (row.outcome, row.seconds_to_probe) == ("failed", None)
    assert row.seconds_to_active
    assert row.destroyed_at
    assert len(sandbox.record.created) == 1
    assert sandbox.record.left_behind() == []
    assert proven(sandbox) == []
    (event,) = prefect_view.events_of(prefect_view.run_of(state), *EVENTS)
    assert (event.event, event.payload["message"]) == (RESTORE_FAILED, state.message)


@pytest.mark.thorough
def test_a_droplet_that_cannot_be_created_is_destroyed_and_the_other_one_proven(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIGITALOCEAN_ACTION_RESTART_MAX", "1")
    first, second = originals_of(sandbox)
    sandbox.faults.add(Fault(FaultKind.CREATE_ERRORED, "POST", CREATING, times=1, skip=1))
    state = drill(sample=2)
    assert state.is_completed(), state.message
    assert (len(sandbox.record.created), sandbox.record.left_behind()) == (3, [])
    sandbox.faults.add(Fault(FaultKind.CREATE_ERRORED, "POST", CREATING, times=None))
    again = drill()
    assert again.is_failed()
    assert "DigitalOcean could not create it" in str(again.message)
    assert sandbox.record.left_behind() == sandbox.record.created_twice() == []
    assert proven(sandbox) == sorted([(first.id, AWAY), (second.id, AWAY)])


def test_what_an_earlier_drill_left_is_destroyed_before_anything_is_created(sandbox: Sandbox) -> None:
    left = leave_behind(sandbox, TAG)
    state = drill()
    assert state.is_completed()
    assert report_of(state).cleaned_up == 1
    assert "1 Droplet of earlier drills destroyed" in str(state.message)
    gone, new = sandbox.record.destroyed[0], sandbox.record.created[1]
    assert gone.droplet_id == left.id
    assert gone.at <= new.at
    assert sandbox.record.left_behind() == []


@pytest.mark.thorough
def test_a_droplet_that_a_user_has_tagged_is_never_destroyed_and_the_run_says_so(sandbox: Sandbox) -> None:
    mine, _ = originals_of(sandbox)
    sandbox.account.tag(sandbox.account.tag_named(TAG), "droplet", mine)
    # There is nothing to prove in the other region, but that does not hide it.
    for region in (AWAY, "sgp1"):
        state = drill(regions=[region])
        assert state.is_failed()
        assert f"Droplet {mine.id}, {mine.name} ($" in str(state.message)
        assert f"it may not have been created by a drill; if it was not, remove the tag {TAG}" in str(state.message)
    assert changes(sandbox) == []


def test_a_droplet_that_cannot_be_destroyed_fails_the_drill_with_its_id_and_price(
    sandbox: Sandbox, prefect_view: PrefectView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIGITALOCEAN_HTTP_RETRY_MAX", "0")
    sandbox.faults.add(Fault(FaultKind.FORBIDDEN, "DELETE", OF_ONE, times=None))
    state = drill()
    assert state.is_failed()
    (left,) = created_in(sandbox)
    price = f"${left.size.price_monthly / 672:.3f} an hour"
    assert f"Droplet {left.id}, {left.name} ({price}): DELETE /v2/droplets/{left.id}: 403" in str(state.message)
    assert "needs the scope droplet:delete" in str(state.message)
    assert report_of(state).rows[0].destroyed_at is None
    run = prefect_view.run_of(state)
    assert f"Droplet {left.id}, {left.name}, still exists: " in prefect_view.log_text_of(run)
    (event,) = prefect_view.events_of(run, *EVENTS)
    assert (event.event, event.payload["message"]) == (RESTORE_FAILED, state.message)

    # As long as one is left, no other is created.
    assert str(left.id) in str(drill().message)
    assert created_in(sandbox) == [left]
    sandbox.faults.clear()
    assert drill().is_completed()
    assert sandbox.record.left_behind() == []


@flow
def destroy_after(meanwhile: Callable[[], object]) -> Destruction:
    """Destroy the Droplets that a drill has found, after something has happened to them."""
    connection = connect()
    known = list_droplets(TAG, credentials=connection)
    meanwhile()
    return destroy_drills(connection, known)


def test_known_droplets_are_destroyed_even_if_droplets_cannot_be_listed(sandbox: Sandbox) -> None:
    left = leave_behind(sandbox, TAG)
    unlisted = Fault(FaultKind.FORBIDDEN, "GET", CREATING, times=None)
    destruction = destroy_after(lambda: sandbox.faults.add(unlisted))
    assert destruction.destroyed_at.keys() == {left.id}
    assert sandbox.record.left_behind() == []


@pytest.mark.thorough
def test_a_known_droplet_that_has_lost_its_tag_is_not_destroyed_but_not_forgotten_either(sandbox: Sandbox) -> None:
    left = leave_behind(sandbox, TAG)
    destruction = destroy_after(lambda: sandbox.account.untag(sandbox.account.tags[TAG], "droplet", left))
    assert [each.droplet.id for each in destruction.leftovers] == [left.id]
    assert sandbox.record.destroyed == []


@pytest.mark.thorough
def test_a_known_droplet_that_a_user_has_destroyed_meanwhile_is_no_problem(sandbox: Sandbox) -> None:
    left = leave_behind(sandbox, TAG)
    assert destroy_after(lambda: sandbox.account.delete_droplet(left)) == Destruction({})


@pytest.mark.thorough
def test_a_slow_destruction_is_awaited(sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault(FaultKind.SLOW_DELETE, "DELETE", OF_ONE, seconds=1.5))
    state = drill()
    assert state.is_completed()
    (row,) = report_of(state).rows
    assert row.destroyed_at
    assert sandbox.record.created[0].droplet_id not in sandbox.account.droplets


@pytest.mark.parametrize("phase", ["creation", "probe"])
@pytest.mark.thorough(after=1)
def test_ctrl_c_ends_the_drill_and_the_droplet_is_destroyed_all_the_same(
    sandbox: Sandbox, port: int, phase: str
) -> None:
    def destruction_begins() -> bool:
        return any(each.method == "DELETE" for each in sandbox.record.requests)

    interrupting: AbstractContextManager[None]
    if phase == "creation":
        sandbox.faults.add(Fault(FaultKind.CREATE_ENDLESS, "POST", CREATING))
        interrupting = ctrl_c_when(lambda: sandbox.record.created)
    else:
        interrupting = ctrl_c_when(lambda: is_polled(sandbox))
    with interrupting, meanwhile(destruction_begins, lambda: finish_creations(sandbox)):
        state = drill(probe_port=port)
    assert state.is_cancelled()
    assert "the run was interrupted" in str(state.message)
    assert len(sandbox.record.created) == 1
    assert sandbox.record.left_behind() == []
    assert proven(sandbox) == []


def test_a_run_that_prefect_ends_destroys_its_droplet_first(sandbox: Sandbox, port: int) -> None:
    def end(number: int, _: object) -> NoReturn:
        raise TerminationSignal(signal=number)

    # As in the process that a worker starts.
    before = signal.signal(signal.SIGTERM, end)
    try:
        with (
            meanwhile(lambda: is_polled(sandbox), lambda: os.kill(os.getpid(), signal.SIGTERM)),
            pytest.raises(TerminationSignal),
        ):
            drill(probe_port=port)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(sandbox.record.created) == 1
    assert sandbox.record.left_behind() == []


# What is known afterwards


def test_a_proof_that_cannot_be_recorded_fails_the_drill_but_its_evidence_is_kept(
    sandbox: Sandbox, prefect_view: PrefectView
) -> None:
    sandbox.account.behavior = Behavior(out_of_scope=frozenset({("POST", "/v2/tags")}))
    state = drill(isolate=False)
    assert state.is_failed()
    assert str(state.message).startswith("The proofs could not be recorded, so the next drill repeats them: ")
    assert "tag:create" in str(state.message)
    (line,) = table_in(prefect_view.artifacts_of(prefect_view.run_of(state)), DRILL_KEY)
    assert line["Outcome"] == "proven"
    assert sandbox.record.left_behind() == []


def test_the_coverage_report_shows_when_restores_were_proven_and_fails_if_that_is_too_long_ago(
    sandbox: Sandbox, prefect_view: PrefectView
) -> None:
    first, second = originals_of(sandbox)
    never = report_coverage(regions=[AWAY], max_days_unproven=30, return_state=True)
    names = [f"{each.name} ({each.id})" for each in (first, second)]
    assert never.is_failed()
    assert never.message == f"no restore proven within 30 days for {', '.join(sorted(names))}"

    sandbox.account.tag_named(f"prefect:proven:202001010300:{first.id}:{AWAY}:1:40")
    assert drill().is_completed()
    assert proven(sandbox) == [(first.id, AWAY), (second.id, AWAY)]
    assert report_coverage(regions=[AWAY], return_state=True).is_completed()
    state = report_coverage(regions=[AWAY], max_days_unproven=30, return_state=True)
    assert state.message == f"no restore proven within 30 days for {names[0]}"
    table = table_in(prefect_view.artifacts_of(prefect_view.run_of(state)), COVERAGE_KEY)
    assert min(line["Proven"] for line in table) == r"2020\-01\-01"

    assert drill().is_completed()
    assert report_coverage(regions=[AWAY], max_days_unproven=30, return_state=True).is_completed()
