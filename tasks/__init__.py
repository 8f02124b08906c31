"""What a step of a run does: Prefect tasks around the DigitalOcean API, one module a resource."""
