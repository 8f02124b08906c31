"""The flows, one per module."""

from flows.command_start import begin_command
from flows.prefect_settings import set_defaults

set_defaults()
begin_command()
