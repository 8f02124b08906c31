"""Reports, tables, artifacts and events."""
