"""What both targets ask about control flow before it is lowered."""

from __future__ import annotations

from bridge.emit.layer import NodeView
from bridge.hub import control


def loop_refusal(view: NodeView) -> str | None:
    """Why a Loop cannot be lowered: without a first condition the one that the body gives has no say.

    The specification ignores it then, and runtimes do not; without a trip count the loop would not end.
    """
    if view.input(1) is not None:
        return None
    if not control.continues_always(view.attr("body")):
        return "its body may end the loop, and it has no first condition, without which that is ignored"
    return "it has neither a trip count nor a condition" if view.input(0) is None else None
