"""A realistic account, generated from a seed: the same seed generates the same account."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random
from uuid import UUID

from deployments.sandbox.account import Account, Droplet, Image, ImageType, Tag
from deployments.sandbox.backup_policies import (
    DAY,
    HOUR,
    USAGE_BASED_INTERVALS,
    WEEKDAYS,
    WINDOW_HOURS,
    BackupPolicy,
)
from deployments.sandbox.behavior import Behavior
from deployments.sandbox.firewalls import Firewall, Rule, allow, allow_out
from deployments.sandbox.regions import GPU_SIZE, SIZES, Size
from deployments.sandbox.volumes import Volume, VolumeSnapshot

ROLES = ("web", "db", "api", "worker", "cache", "mail")
PUBLIC_IMAGES = (
    ("24.04 (LTS) x64", "Ubuntu", "ubuntu-24-04-x64", False),
    ("22.04 (LTS) x64", "Ubuntu", "ubuntu-22-04-x64", False),
    ("12 x64", "Debian", "debian-12-x64", False),
    ("9 x64", "Rocky Linux", "rockylinux-9-x64", False),
    ("Docker on Ubuntu 22.04", "Ubuntu", "docker-20-04", True),
)
FEWEST_WITH_UNPROTECTED = 6
"""With at least this many Droplets, one has no backups."""
FEWEST_WITH_VOLUMES = 6
"""With at least this many Droplets, one has two volumes, and a third volume is not attached."""
FEWEST_WITH_OTHER_POLICIES = 8
"""With at least this many Droplets, one in eight has weekly backups, and one in eight those of a usage-based plan."""
FEWEST_WITH_GPU = 10
"""With at least this many Droplets, there is an additional GPU Droplet."""


def make_account(
    *,
    now: float,
    droplets: int = 6,
    backups_per_droplet: int = 2,
    seed: int = 1,
    speed: float = 1.0,
    behavior: Behavior | None = None,
) -> Account:
    """Generate an account with Droplets, backups, snapshots, tags, a custom image and past actions.

    Args:
        now: The time, in Unix seconds; the newest daily backups are less than a day old.
        droplets: Number of Droplets in the default listing.
        backups_per_droplet: Number of backups per Droplet, as far apart as its policy says.
        seed: Seed of the random numbers.
        speed: Divides the durations of actions.
        behavior: How the API behaves where it is not documented.

    Returns:
        The account.
    """
    account = Account(seed=seed, speed=speed, behavior=behavior)
    _Generator(account, Random(seed), now).fill(droplets, backups_per_droplet)  # noqa: S311
    return account


class _Generator:
    """Generates an account's contents, one after the other."""

    def __init__(self, account: Account, draw: Random, now: float) -> None:
        self.account = account
        self.draw = draw
        self.now = now
        self.homes = [region.slug for region in account.regions.values() if region.takes_images]
        self.past: list[tuple[float, float, str, Droplet]] = []
        self.last_droplet_id = 448_000_000
        self.last_image_id = 167_000_000

    def fill(self, droplets: int, backups: int) -> None:
        public = [self.add_public_image(*image) for image in PUBLIC_IMAGES]
        for name in ("dr", "env:prod", "env:staging"):
            self.account.tags[name] = Tag(name)
        unprotected = self.draw.randrange(1, droplets) if droplets >= FEWEST_WITH_UNPROTECTED else None
        for index in range(droplets):
            name = f"{ROLES[index % len(ROLES)]}-{index // len(ROLES) + 1:02d}"
            droplet = self.add_droplet(name, self.draw.choice(SIZES), self.draw.choice(public[:4]))
            self.add_tags(droplet, index)
            self.add_backups(droplet, 0 if index == unprotected else backups)
            if index % 3 == 0:
                self.add_snapshot(droplet)
        if droplets >= FEWEST_WITH_VOLUMES:
            first, second, *_ = self.account.droplets.values()
            self.add_volumes(first, other_region=second.region)
        if droplets >= FEWEST_WITH_GPU:
            trainer = self.add_droplet("trainer-01", GPU_SIZE, public[1], region="tor1")
            self.add_backups(trainer, backups)
        if droplets >= FEWEST_WITH_OTHER_POLICIES:
            self.add_other_policies(droplets // FEWEST_WITH_OTHER_POLICIES)
        self.add_image("legacy-erp.qcow2", "custom", self.now - 90 * DAY, 14.2, "nyc3", disk=20)
        self.add_firewalls()
        for started_at, ended_at, kind, droplet in sorted(self.past, key=lambda past: past[0]):
            self.account.add_past_action(kind, droplet, started_at, ended_at)

    def add_volumes(self, droplet: Droplet, other_region: str) -> None:
        """Add two volumes of a Droplet, one of them with a snapshot, and one that is not attached to any."""
        draw = Random(f"{self.account.seed}/volumes")  # noqa: S311
        attached = [
            self.add_volume(droplet.id + number, f"{droplet.name}-{purpose}", droplet.region, draw)
            for number, purpose in enumerate(("data", "logs"))
        ]
        for volume in attached:
            volume.droplet_ids.append(droplet.id)
            droplet.volume_ids.append(volume.id)
        self.add_volume(droplet.id + 2, "old-uploads", other_region, draw)
        self.add_volume_snapshot(droplet.id + 3, attached[0], draw)

    def add_volume(self, number: int, name: str, region: str, draw: Random) -> Volume:
        created_at = self.now - draw.uniform(10, 30) * DAY
        volume = Volume(_uuid(number), name, region, draw.choice((10, 50, 100)), created_at)
        self.account.volumes[volume.id] = volume
        return volume

    def add_volume_snapshot(self, number: int, volume: Volume, draw: Random) -> None:
        created_at = self.now - draw.uniform(1, 9) * DAY
        size = round(draw.uniform(0.1, volume.size_gigabytes), 2)
        name = f"{volume.name}-{int(created_at * 1000)}"
        snapshot = VolumeSnapshot(
            _uuid(number), name, volume.id, volume.region, created_at, volume.size_gigabytes, size
        )
        self.account.volume_snapshots[snapshot.id] = snapshot

    def add_firewalls(self) -> None:
        databases = [droplet.id for droplet in self.account.droplets.values() if droplet.name.startswith("db-")]
        web = [allow("22", addresses=["192.0.2.0/24"]), allow("443", addresses=["0.0.0.0/0", "::/0"])]
        self.add_firewall("public-web", web, tags=["env:prod"])
        self.add_firewall("databases", [allow("5432", tags=["env:prod", "env:staging"])], droplet_ids=databases)

    def add_firewall(
        self, name: str, inbound: list[Rule], tags: Sequence[str] = (), droplet_ids: Sequence[int] = ()
    ) -> None:
        created_at = self.now - 60 * DAY
        outbound = [allow_out(protocol) for protocol in ("tcp", "udp", "icmp")]
        self.account.add_firewall(
            Firewall(
                id=self.account.new_firewall_id(),
                name=name,
                created_at=created_at,
                applied_at=created_at,
                inbound_rules=inbound,
                outbound_rules=outbound,
                droplet_ids=list(droplet_ids),
                tags=list(tags),
            )
        )

    def add_public_image(self, name: str, distribution: str, slug: str, application: bool) -> Image:
        image = Image(
            id=self.next_image_id(),
            name=name,
            # Not `base`: DigitalOcean's distribution images are public snapshots.
            type="snapshot",
            regions=dict.fromkeys(self.account.regions, 0.0),
            created_at=self.now - self.draw.uniform(100, 300) * DAY,
            min_disk_size=20,
            size_gigabytes=round(self.draw.uniform(0.5, 2.5), 2),
            distribution=distribution,
            slug=slug,
            public=True,
            application=application,
        )
        self.account.add_image(image)
        return image

    def add_droplet(self, name: str, size: Size, base: Image, region: str | None = None) -> Droplet:
        self.last_droplet_id += self.draw.randint(1, 999)
        home = region or self.draw.choice(self.homes)
        vpc = self.account.default_vpc(home)
        droplet = Droplet(
            id=self.last_droplet_id,
            name=name,
            region=home,
            size=size,
            created_at=self.now - self.draw.uniform(30, 90) * DAY,
            base_image=base,
            public_ip=f"203.0.113.{self.draw.randint(2, 254)}",
            private_ip=f"{vpc.prefix}.{self.draw.randint(0, 255)}.{self.draw.randint(2, 254)}",
            vpc_uuid=vpc.id,
        )
        # Unused, but without it every seed would generate another account.
        self.draw.getrandbits(128)
        self.account.add_droplet(droplet)
        self.past.append((droplet.created_at, droplet.created_at + 40, "create", droplet))
        return droplet

    def add_tags(self, droplet: Droplet, index: int) -> None:
        tagged = index % 2 == 0 or self.draw.random() < 1 / 4
        for name in ("dr", "env:prod") if tagged else ("env:staging",):
            self.account.tag(self.account.tags[name], "droplet", droplet)

    def add_backups(self, droplet: Droplet, backups: int) -> None:
        if not backups:
            return
        # Unused, but without it every seed would generate another account.
        self.draw.choice((0, 4, 8, 12, 16, 20))
        newest = self.now - self.draw.uniform(HOUR, 23 * HOUR)
        for age in reversed(range(backups)):
            created_at = newest - age * DAY
            self.add_image_of(droplet, droplet.backup_name(created_at), "backup", created_at)
        droplet.backup_policy = BackupPolicy.daily(_window_start(newest))

    def add_other_policies(self, count: int) -> None:
        """Give some Droplets weekly backups, and as many a usage-based plan, without a change of the other draws."""
        draw = Random(f"{self.account.seed}/backup policies")  # noqa: S311
        protected = [droplet for droplet in self.account.droplets.values() if droplet.backup_policy]
        count = min(count, len(protected) // 2)
        chosen = draw.sample(protected, 2 * count)
        for droplet in chosen[:count]:
            newest = self.backups_of(droplet)[0].created_at - draw.randrange(7) * DAY
            weekday = WEEKDAYS[datetime.fromtimestamp(newest, UTC).weekday()]
            self.change_policy(droplet, BackupPolicy.weekly(_window_start(newest), weekday), newest)
        for droplet in chosen[count:]:
            interval, retention = draw.choice(USAGE_BASED_INTERVALS), draw.choice((3, 7, 14))
            newest = self.backups_of(droplet)[0].created_at
            newest += (self.now - newest - 1) // (interval * HOUR) * interval * HOUR
            self.change_policy(droplet, BackupPolicy.usage_based(interval, retention, _window_start(newest)), newest)

    def backups_of(self, droplet: Droplet) -> list[Image]:
        """The backups of a Droplet, newest first."""
        images = [self.account.images[image_id] for image_id in reversed(droplet.image_ids)]
        return [image for image in images if image.type == "backup"]

    def change_policy(self, droplet: Droplet, policy: BackupPolicy, newest: float) -> None:
        """Change the policy, and when the backups were made."""
        droplet.backup_policy = policy
        for age, image in enumerate(self.backups_of(droplet)):
            image.created_at = newest - age * policy.interval_hours * HOUR
            image.name = droplet.backup_name(image.created_at)

    def add_snapshot(self, droplet: Droplet) -> None:
        created_at = self.now - self.draw.uniform(10, 25) * DAY
        self.add_image_of(droplet, f"{droplet.name}-before-upgrade", "snapshot", created_at)
        self.past.append((created_at, created_at + 180, "snapshot", droplet))

    def add_image_of(self, droplet: Droplet, name: str, kind: ImageType, created_at: float) -> None:
        size = droplet.draw_image_size(self.draw)
        self.add_image(name, kind, created_at, size, droplet.region, disk=droplet.size.disk, of=droplet)

    def add_image(
        self,
        name: str,
        kind: ImageType,
        created_at: float,
        size: float,
        region: str,
        *,
        disk: int,
        of: Droplet | None = None,
    ) -> None:
        image = Image(self.next_image_id(), name, kind, {region: 0.0}, created_at, disk, size, "Unknown")
        if of is not None:
            image.distribution, image.droplet_id = of.base_image.distribution, of.id
        self.account.add_image(image)

    def next_image_id(self) -> int:
        self.last_image_id += self.draw.randint(1, 999)
        return self.last_image_id


def _uuid(number: int) -> str:
    return str(UUID(int=number, version=4))


def _window_start(time: float) -> int:
    """The hour when the window starts that a backup was made in."""
    hour = datetime.fromtimestamp(time, UTC).hour
    return hour - hour % WINDOW_HOURS
