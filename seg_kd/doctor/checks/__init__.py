"""The checks: a module a subject."""
from seg_kd.doctor.checks import (cost, data, images, networks, numbers, taps,
                                  teacher, terms)
from seg_kd.doctor.finding import CHECKS, Check

# The cost comes last: it trains the networks that the others look at.
ORDER = data, images, networks, taps, teacher, terms, numbers, cost


def in_order() -> list[Check]:
    """All of them; those of other modules before the cost."""
    names = [module.__name__ for module in ORDER]

    def place(check: Check) -> float:
        module = check.__module__
        return names.index(module) if module in names else len(names) - 1.5

    return sorted(CHECKS, key=place)
