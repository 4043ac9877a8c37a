"""The IoU of each class, in the log and not only in the printed table."""
from mmseg.evaluation import IoUMetric

from seg_kd.registry import METRICS

PREFIX = 'IoU.'


@METRICS.register_module()
class ClassIoUMetric(IoUMetric):
    """mmseg's metric, with ``IoU.<class>`` beside the means.

    In percent, not rounded. A class that is neither in the labels nor in the
    predictions has none.
    """

    def compute_metrics(self, results: list) -> dict[str, float]:
        metrics = super().compute_metrics(results)
        if self.format_only:
            return metrics
        intersect, union = (sum(r[k] for r in results) for k in (0, 1))
        for name, part, whole in zip(self.dataset_meta['classes'],
                                     intersect.tolist(), union.tolist()):
            if whole:
                metrics[PREFIX + name] = 100 * part / whole
        return metrics
