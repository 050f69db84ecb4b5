"""What a worker answers to an operation that it may refuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from bridge.errors import BridgeError, ExitCode
from bridge.worker.failures import TaskFailure, Unavailable

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Refusal:
    """Why a side did not do what it was asked, in words."""

    reason: str


def answer(wait: Callable[[int, str], Answer], number: int, name: str) -> Answer | Refusal:
    """The answer to the request `number`, or why the model refused it.

    `wait` is the method of a Side that waits for it, `name` what the request was called. Raises
    EnvironmentFailure where the worker died or took too long.
    """
    return attempt(lambda: wait(number, name))


def attempt(ask: Callable[[], Answer]) -> Answer | Refusal:
    """What a worker answers, or why the model refused it. Raises as `answer` does."""
    try:
        return ask()
    except Unavailable as error:
        return Refusal(error.reason)
    except TaskFailure as error:
        return Refusal(error.text)
    except BridgeError as error:
        if error.exit_code is ExitCode.ENVIRONMENT:
            raise
        return Refusal(error.message)
