"""What Optuna has no public way to: writing to a trial that another driver asked for, and that is no `Trial` here.

`Study.tell` takes a number, but no attributes, and hides that a trial has been ended meanwhile. So the storage is
used, and here alone.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial


def set_attribute(study: "Study", trial: "Trial | FrozenTrial", name: str, value: object) -> None:
    """Set a user attribute of any trial. Raises UpdateFinishedTrialError if it has ended."""
    study._storage.set_trial_user_attr(trial._trial_id, name, value)


def end_as_failed(study: "Study", trial: "Trial | FrozenTrial") -> None:
    """End any trial as failed. Raises UpdateFinishedTrialError if it has ended."""
    from optuna.trial import TrialState

    study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
