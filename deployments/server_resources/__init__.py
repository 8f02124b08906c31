"""What a Prefect server has to hold before this project's deployments can run: one module a kind of thing."""
