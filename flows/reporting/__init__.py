"""Reports, tables and events."""
