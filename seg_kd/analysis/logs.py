"""The numbers that a run has logged."""
import glob
import json
import os
from typing import Dict, List


def read_scalars(folder: str) -> Dict[str, List[tuple]]:
    """``name -> [(iteration, value), ...]`` out of a run's logs.

    A resumed run has several logs: of an iteration the last one counts.
    """
    found: Dict[str, Dict[int, float]] = {}
    logs = os.path.join(folder, '*', 'vis_data', 'scalars.json')
    for log in sorted(glob.glob(logs)):
        with open(log, encoding='utf-8') as f:
            for line in f:
                entry = json.loads(line)
                for name, value in entry.items():
                    if isinstance(value, (int, float)):
                        found.setdefault(name, {})[entry['step']] = value
    return {name: sorted(values.items()) for name, values in found.items()}
