"""What the deployments need on a Prefect server: one module per kind of resource."""
