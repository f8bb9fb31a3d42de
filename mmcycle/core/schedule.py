"""What changes with the step, as pure functions: the learning rate, the identity weight, the memory of the EMA."""
import math

from mmcycle.core.settings import Descent, Objective


def rate(step: int, descent: Descent) -> float:
    """The share of `lr` that is used in the step-th step (counted from 0): a warm-up, a plateau, then a fall to 0."""
    if step < descent.warm_up:
        return (step + 1) / descent.warm_up
    start = max(round(descent.decay_from * descent.steps), descent.warm_up)
    if descent.schedule == "constant" or step < start:
        return 1.0
    fallen = (step - start + 1) / (descent.steps - start + 1)       # the last step still teaches a little
    return 1 - fallen if descent.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * fallen))


def identity_weight(step: int, objective: Objective, steps: int) -> float:
    """The weight of the identity loss: from `identity` to `identity_end` in the first `identity_until` of the steps."""
    if objective.identity_end is None:
        return objective.identity
    done = min(step / (objective.identity_until * steps), 1.0)
    return objective.identity + done * (objective.identity_end - objective.identity)


def ema_decay(step: int, ema: float) -> float:
    """The share of the average that stays; small at first, so that the random start is forgotten."""
    return min(ema, (1 + step) / (10 + step))
