"""What the flows that start actions have in common."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta

from tasks.digitalocean import Action, APIError

# An image or a list may show what a completed action has done only some time later. Trust the action for longer than
# that, so that nothing is started twice, but not forever, so that what is missing is made again.
BELIEVE_ACTIONS_FOR = timedelta(minutes=15)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Started:
    """The result of starting an action.

    Attributes:
        action: The action; None if it is not needed any more.
        adopted: Whether it was in progress already, and may belong to another run or a person.
    """

    action: Action | None
    adopted: bool = False


def describe_error(error: Exception, *expected: type[Exception]) -> str:
    """Describe an error for a report; the traceback of an unexpected one goes to the log.

    Args:
        error: What was raised.
        *expected: Errors whose message says everything, besides those of the API.
    """
    if isinstance(error, (APIError, *expected)):
        return str(error)
    logger.debug("Unexpected error", exc_info=error)
    return f"unexpected {type(error).__name__}: {error}"
