"""The numbers that a run has logged."""
import glob
import json
import os


def read_scalars(folder: str,
                 beside: str | None = None) -> dict[str, list[tuple]]:
    """``name -> [(iteration, value), ...]`` out of a run's logs.

    With ``beside`` only what was logged together with that name counts.

    A resumed run has several logs: of an iteration the last one counts.
    """
    found: dict[str, dict[int, float]] = {}
    logs = os.path.join(glob.escape(folder), '*', 'vis_data', 'scalars.json')
    for log in sorted(glob.glob(logs)):
        with open(log, encoding='utf-8') as f:
            for line in f:
                try:
                    entry = json.loads(line)
                except ValueError:  # of a run that was killed as it wrote
                    continue
                if beside is not None and beside not in entry:
                    continue
                for name, value in entry.items():
                    if isinstance(value, (int, float)):
                        found.setdefault(name, {})[entry['step']] = value
    return {name: sorted(values.items()) for name, values in found.items()}


def seconds_trained(folder: str) -> float:
    """What the iterations of a run took, without its validations.

    Of each 50 iterations or so the log has the mean.
    """
    steps, found = [0], 0.
    times = read_scalars(folder, 'loss').get('time') or []
    for step, seconds in times:
        found += seconds * (step - steps[-1])
        steps.append(step)
    return found
