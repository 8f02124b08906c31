"""Planner, executor and API together, through whatever faults, crashes, reruns and hands an account may see."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from deployments.sandbox import Behavior, Droplet, FaultKind, Image
from deployments.sandbox.faults import IMAGE_FAULTS
from deployments.sandbox.rules import why_not_convert, why_not_transfer
from flows.reporting.report import BAD_OUTCOMES, Row
from tasks.digitalocean import APIError
from tests.flows.replication.executions import (
    carry_out,
    connection_to,
    die,
    finish_endless,
    plan_for,
    posts,
    select,
)
from tests.tasks.digitalocean.in_process import World
from tests.torture.judging import duplicate_conversions
from tests.virtual_time import EPOCH, VirtualTimeLoop

REGIONS = ["atl1", "fra1", "sgp1"]
HOUR = 3600.0
LONGEST_RUN = 3 * HOUR
LONGEST_HISTORY = 365 * 24 * HOUR

seeds = st.integers(0, 2**16)
places = st.integers(0, 50)
moments = st.one_of(st.floats(0.0, 30.0), st.floats(0.0, 300.0), st.floats(0.0, 3600.0))
kinds_of_fault = st.lists(st.sampled_from(IMAGE_FAULTS), min_size=1, max_size=6, unique=True)


class Replication(RuleBasedStateMachine):
    """One account's life, judged by the sandbox's record."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(LONGEST_HISTORY))

    @initialize(
        droplets=st.integers(1, 4),
        sizes=st.lists(st.floats(0.1, 12.0), min_size=1, max_size=6),
        newest=st.integers(1, 2),
        taggable=st.booleans(),
        accepts_duplicates=st.booleans(),
        lag=st.sampled_from([0.0, 5.0, 60.0]),
        feed_lag=st.sampled_from([0.0, 2.0, 20.0]),
        lock=st.sampled_from([0.0, 3.0, 60.0]),
        present=st.lists(st.tuples(places, st.sampled_from(REGIONS)), max_size=4),
        seed=seeds,
    )
    def begin(
        self,
        droplets: int,
        sizes: list[float],
        newest: int,
        taggable: bool,
        accepts_duplicates: bool,
        lag: float,
        feed_lag: float,
        lock: float,
        present: list[tuple[int, str]],
        seed: int,
    ) -> None:
        behavior = Behavior(
            taggable_backups=taggable,
            duplicate_transfers="accept" if accepts_duplicates else "refuse",
            lag_seconds=lag,
            feed_lag_seconds=feed_lag,
            lock_seconds=lock,
        )
        self.world = World(droplets=droplets, behavior=behavior)
        self.newest = newest
        self.made = 0
        for number, image in enumerate(self.own_images()):
            image.size_gigabytes = sizes[number % len(sizes)]
        self.recovery_points = {image.id for image in self.own_images() if image.type == "backup"}
        snapshots = self.world.images("snapshot")
        for place, region in present:
            snapshots[place % len(snapshots)].regions[region] = EPOCH
        self.unlisted = False

    # What a scheduler does

    @rule()
    def a_run_to_its_end(self) -> None:
        self.runner.run(self._run())

    @rule(after=moments)
    def a_run_that_dies(self, after: float) -> None:
        self.runner.run(self._run(dies_after=after))

    @rule(after=st.floats(0.0, 600.0))
    def a_run_that_stops_waiting(self, after: float) -> None:
        self.runner.run(self._run(seconds=after))

    @rule(seconds=st.floats(0.0, 2 * HOUR))
    def time_passes(self, seconds: float) -> None:
        self.runner.run(asyncio.sleep(seconds))

    # What an account goes through

    @rule(rate=st.floats(0.02, 0.4), kinds=kinds_of_fault, seed=seeds, seconds=st.sampled_from([1.0, 5.0, 60.0]))
    def bad_days_begin(self, rate: float, kinds: list[FaultKind], seed: int, seconds: float) -> None:
        if self.world.account.behavior.duplicate_transfers == "accept":
            # An action that no list shows and no refusal reveals cannot be known.
            kinds = [kind for kind in kinds if kind != FaultKind.ACTION_UNLISTED]
        self.unlisted |= FaultKind.ACTION_UNLISTED in kinds
        self.world.faults.at_random(rate if kinds else 0.0, kinds, seed=seed, seconds=seconds)

    @rule()
    def bad_days_end(self) -> None:
        self.world.faults.clear()

    @rule(place=places, size=st.floats(0.1, 12.0))
    def a_backup_is_made(self, place: int, size: float) -> None:
        account = self.world.account
        droplet = list(account.droplets.values())[place % len(account.droplets)]
        self.made += 1
        image = Image(
            id=300_000_000 + self.made,
            name=f"{droplet.name} {self.made}",
            type="backup",
            regions={droplet.region: 0.0},
            created_at=self.now(),
            min_disk_size=20,
            size_gigabytes=size,
            droplet_id=droplet.id,
        )
        account.images[image.id] = image
        droplet.image_ids.append(image.id)
        self.recovery_points.add(image.id)

    @rule(place=places)
    def an_image_is_deleted_by_hand(self, place: int) -> None:
        self._delete(place)

    @rule(place=places, region=st.sampled_from(REGIONS))
    def a_transfer_is_started_by_hand(self, place: int, region: str) -> None:
        self._transfer(place, region)

    @rule(place=places)
    def a_conversion_is_started_by_hand(self, place: int) -> None:
        self._convert(place)

    @rule(after=moments, place=places)
    def an_image_is_deleted_while_a_run_goes_on(self, after: float, place: int) -> None:
        self.runner.run(self._run(meanwhile=lambda: self._delete(place), meanwhile_after=after))

    @precondition(lambda self: self.world.account.behavior.duplicate_transfers == "refuse")
    @rule(after=moments, place=places, region=st.sampled_from(REGIONS))
    def a_transfer_is_started_by_hand_while_a_run_goes_on(self, after: float, place: int, region: str) -> None:
        self.runner.run(self._run(meanwhile=lambda: self._transfer(place, region), meanwhile_after=after))

    # What must hold

    @invariant()
    def nothing_is_started_while_it_runs_or_after_it_has_worked(self) -> None:
        if hasattr(self, "world"):
            assert self.world.record.duplicate_transfers() == []
            assert duplicate_conversions(self.world.record.actions) == []

    def teardown(self) -> None:
        try:
            if hasattr(self, "world"):
                self.runner.run(self._everything_arrives())
        finally:
            self.runner.close()

    async def _everything_arrives(self) -> None:
        """A last plain run brings everything everywhere, and one more finds nothing to do."""
        self.world.faults.clear()
        finish_endless(self.world.account, self.now())
        if self.unlisted:
            await asyncio.sleep(2 * HOUR)
        rows = await self._run()
        assert rows is not None
        if self.newest == 1:
            # Of several, an older one whose conversion no tag shows may be passed over for one that is older still.
            assert {image_id for image_id, _ in rows} == self._newest_recovery_points()
        assert [row for row in rows.values() if row.outcome in BAD_OUTCOMES] == []
        for image_id, region in rows:
            image = self.world.account.images[image_id]
            assert image.type == "snapshot"
            assert region in image.regions
        self.nothing_is_started_while_it_runs_or_after_it_has_worked()
        before = len(posts(self.world))
        assert await self._run() is not None
        assert posts(self.world)[before:] == []

    async def _run(
        self,
        *,
        dies_after: float | None = None,
        seconds: float = LONGEST_RUN,
        meanwhile: Any = None,
        meanwhile_after: float = 0.0,
    ) -> dict[tuple[int, str], Row] | None:
        """What one process does in its life; None if it could not begin, or died."""
        behavior = self.world.account.behavior
        if behavior.duplicate_transfers == "accept":
            # A new process cannot know an action that the feed does not show yet and no refusal reveals.
            await asyncio.sleep(behavior.feed_lag_seconds)
        connection = connection_to(self.world)

        async def work() -> dict[tuple[int, str], Row]:
            selection = await select(connection, self.newest)
            plan = await plan_for(connection, selection.candidates, REGIONS)
            return await carry_out(connection, plan, seconds=seconds)

        run = asyncio.ensure_future(work())
        if meanwhile:
            await asyncio.wait([run], timeout=meanwhile_after)
            meanwhile()
        await asyncio.wait([run], timeout=dies_after)
        finished = run.done()
        await die(connection, run)
        if not finished:
            return None
        try:
            return run.result()
        except APIError:
            return None

    # Hands

    def _delete(self, place: int) -> None:
        images = [image for image in self.own_images() if not image.pending()]
        if images:
            self.world.account.delete_image(images[place % len(images)])

    def _transfer(self, place: int, region: str) -> None:
        account = self.world.account
        images = [
            image
            for image in self.own_images()
            if why_not_transfer(image, account.regions[region], self.now(), Behavior()) is None
        ]
        if images:
            account.start(images[place % len(images)], "transfer", region, self.now())

    def _convert(self, place: int) -> None:
        images = [image for image in self.own_images() if why_not_convert(image, self.now()) is None]
        if images:
            image = images[place % len(images)]
            self.world.account.start(image, "convert", next(iter(image.regions)), self.now())

    def own_images(self) -> list[Image]:
        self.world.account.advance(self.now())
        return [image for image in self.world.account.images.values() if not image.public and image.type != "custom"]

    def now(self) -> float:
        return EPOCH + self.runner.get_loop().time()

    def _newest_recovery_points(self) -> set[int]:
        chosen: set[int] = set()
        for droplet in self.world.account.droplets.values():
            chosen |= set(self._points_of(droplet)[: self.newest])
        return chosen

    def _points_of(self, droplet: Droplet) -> list[int]:
        points = [self.world.account.images[each] for each in droplet.image_ids if each in self.recovery_points]
        return [image.id for image in sorted(points, key=lambda image: (-int(image.created_at), -image.id))]


TestReplication = pytest.mark.slow(Replication.TestCase)
TestReplication.settings = settings(
    max_examples=80,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
