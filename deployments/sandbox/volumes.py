"""Block storage volumes and their snapshots, which cannot leave their region."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Volume:
    """A volume; `size_gigabytes` is in GiB, and `droplet_ids` holds the Droplet that it is attached to."""

    id: str
    name: str
    region: str
    size_gigabytes: int
    created_at: float
    droplet_ids: list[int] = field(default_factory=list)
    description: str = ""
    tags: list[str] = field(default_factory=list)


@dataclass(slots=True)
class VolumeSnapshot:
    """A snapshot of a volume; `min_disk_size` is the size of the volume in GiB."""

    id: str
    name: str
    volume_id: str
    region: str
    created_at: float
    min_disk_size: int
    size_gigabytes: float
    tags: list[str] = field(default_factory=list)
