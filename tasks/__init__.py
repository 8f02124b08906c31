"""Prefect tasks that call the DigitalOcean API, one module per resource."""
