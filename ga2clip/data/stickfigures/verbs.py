"""All verbs by name: functions from phase and object to a `Shot`."""

from __future__ import annotations

from ga2clip.data.stickfigures import (
    actions_in_order,
    actions_with_fixed,
    actions_with_held,
    actions_with_loose,
    actions_without,
)
from ga2clip.data.stickfigures.motion import Action

ACTIONS: dict[str, Action] = {
    **actions_with_loose.ACTIONS,
    **actions_with_held.ACTIONS,
    **actions_with_fixed.ACTIONS,
    **actions_without.ACTIONS,
    **actions_in_order.ACTIONS,
}
"""Every action by its verb."""
