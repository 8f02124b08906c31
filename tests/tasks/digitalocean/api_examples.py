"""Examples from the API's description, shortened where lists of sizes go on and on."""

from __future__ import annotations

from typing import Any

NEW_YORK_2: dict[str, Any] = {
    "name": "New York 2",
    "slug": "nyc2",
    "sizes": ["s-1vcpu-1gb", "s-1vcpu-2gb"],
    "features": ["private_networking", "backups", "ipv6", "metadata", "server_id", "install_agent", "image_transfer"],
    "available": True,
}
NEW_YORK_3: dict[str, Any] = {**NEW_YORK_2, "name": "New York 3", "slug": "nyc3"}

RUNNING_ACTION: dict[str, Any] = {
    "id": 36805527,
    "status": "in-progress",
    "type": "transfer",
    "started_at": "2014-11-14T16:42:45Z",
    "completed_at": None,
    "resource_id": 7938269,
    "resource_type": "image",
    "region": NEW_YORK_3,
    "region_slug": "nyc3",
}
COMPLETED_ACTION: dict[str, Any] = {
    "id": 29410565,
    "status": "completed",
    "type": "transfer",
    "started_at": "2014-07-25T15:04:21Z",
    "completed_at": "2014-07-25T15:10:20Z",
    "resource_id": 7555620,
    "resource_type": "image",
    "region": NEW_YORK_2,
    "region_slug": "nyc2",
}

SNAPSHOT: dict[str, Any] = {
    "id": 6376601,
    "name": "My application image",
    "type": "snapshot",
    "distribution": "Ubuntu",
    "slug": None,
    "public": False,
    "regions": ["nyc1", "nyc3"],
    "created_at": "2018-02-07T14:30:33Z",
    "min_disk_size": 20,
    "size_gigabytes": 2.34,
    "description": "",
    "tags": ["web", "prefect:replicated"],
    "status": "available",
    "error_message": "",
}

LISTED_SNAPSHOT: dict[str, Any] = {
    "id": "6372321",
    "name": "web-01-1595954862243",
    "created_at": "2020-07-28T16:47:44Z",
    "regions": ["nyc3", "sfo3"],
    "resource_id": "200776916",
    "resource_type": "droplet",
    "min_disk_size": 25,
    "size_gigabytes": 2.34,
    "tags": ["web", "env:prod"],
}

DROPLET: dict[str, Any] = {
    "id": 3164444,
    "name": "example.com",
    "memory": 1024,
    "vcpus": 1,
    "disk": 25,
    "locked": False,
    "status": "active",
    "kernel": None,
    "created_at": "2020-07-21T18:37:44Z",
    "features": ["backups", "private_networking", "ipv6"],
    "backup_ids": [53893572],
    "next_backup_window": {"start": "2020-07-30T00:00:00Z", "end": "2020-07-30T23:00:00Z"},
    "snapshot_ids": [67512819],
    "image": {"id": 63663980, "name": "20.04 (LTS) x64", "type": "base"},
    "volume_ids": [],
    "size_slug": "s-1vcpu-1gb",
    "networks": {"v4": [], "v6": []},
    "region": NEW_YORK_3,
    "tags": ["web", "env:prod"],
    "vpc_uuid": "760e09ef-dc84-11e8-981e-3cfdfeaae000",
}

# What each documented failure of the image-action endpoints looks like.
FAILURES: dict[int, dict[str, str]] = {
    401: {"id": "unauthorized", "message": "Unable to authenticate you."},
    404: {"id": "not_found", "message": "The resource you requested could not be found."},
    429: {"id": "too_many_requests", "message": "API rate limit exceeded."},
    500: {"id": "server_error", "message": "Unexpected server-side error"},
}
UNEXPECTED_ERROR = {"id": "example_error", "message": "some error message"}
