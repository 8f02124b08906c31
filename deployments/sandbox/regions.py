"""The datacenters and their Droplet sizes."""

from __future__ import annotations

from dataclasses import dataclass

FEATURES = (
    "backups",
    "ipv6",
    "metadata",
    "install_agent",
    "storage",
    "image_transfer",
    "server_id",
    "management_networking",
)
WITHOUT_TRANSFERS = tuple(feature for feature in FEATURES if feature != "image_transfer")


@dataclass(frozen=True, slots=True)
class Size:
    """A Droplet size: memory in MB, disk in GB, price in dollars per month."""

    slug: str
    memory: int
    vcpus: int
    disk: int
    price_monthly: float
    description: str = "Basic"
    gpu_model: str | None = None


SIZES = (
    Size("s-1vcpu-1gb", 1024, 1, 25, 6),
    Size("s-2vcpu-2gb", 2048, 2, 60, 18),
    Size("s-2vcpu-4gb", 4096, 2, 80, 24),
    Size("s-4vcpu-8gb", 8192, 4, 160, 48),
    Size("s-8vcpu-16gb", 16384, 8, 320, 96),
)
GPU_SIZE = Size("gpu-h100x1-80gb", 245760, 20, 720, 2522.16, "H100 GPU - 1X", "nvidia_h100")
ALL_SIZES = {size.slug: size for size in (*SIZES, GPU_SIZE)}


@dataclass(frozen=True, slots=True)
class Region:
    """A datacenter."""

    slug: str
    name: str
    available: bool = True
    features: tuple[str, ...] = FEATURES
    sizes: tuple[str, ...] = tuple(size.slug for size in SIZES)

    @property
    def takes_images(self) -> bool:
        """Whether images can be transferred here."""
        return self.available and "image_transfer" in self.features


REGIONS = (
    Region("nyc1", "New York 1"),
    Region("sfo1", "San Francisco 1", available=False, sizes=()),
    Region("nyc2", "New York 2", features=WITHOUT_TRANSFERS),
    Region("ams2", "Amsterdam 2", available=False, features=WITHOUT_TRANSFERS, sizes=()),
    Region("sgp1", "Singapore 1"),
    Region("lon1", "London 1"),
    Region("nyc3", "New York 3"),
    Region("ams3", "Amsterdam 3"),
    Region("fra1", "Frankfurt 1"),
    Region("tor1", "Toronto 1", sizes=(*(size.slug for size in SIZES), GPU_SIZE.slug)),
    Region("sfo2", "San Francisco 2"),
    Region("blr1", "Bangalore 1"),
    Region("sfo3", "San Francisco 3"),
    Region("syd1", "Sydney 1"),
    Region("atl1", "Atlanta 1"),
)
