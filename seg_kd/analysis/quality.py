"""How good predictions are beyond mIoU: edges, calibration, agreement.

Counts are summed over the pixels of all images, as mIoU's are; ignored pixels
are in none of them.
"""
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

BINS = 15  # of confidence, as Guo et al. (ICML 2017) have them
EDGE = 0.01  # half the width of the band of edges, in diagonals of the image
IGNORED = 255


def class_scores(found: Tensor) -> Tensor:
    """A score for each class, from MMSegmentation's ``seg_logits``.

    Shape:
        ``(C, H, W)`` logits, or ``(1, H, W)`` probabilities of the second of
        two classes, as heads with one output give -> ``(classes, H, W)``,
        logarithms of probabilities but for what all classes have in common.
    """
    found = found.float()
    if len(found) > 1:
        return found
    return torch.cat([1 - found, found]).clamp(min=1e-12).log()


def edge_band(truth: np.ndarray, radius: int | None = None) -> np.ndarray:
    """Pixels that have another class within ``radius`` pixels.

    Distance is the larger of those in y and x. An ignored pixel is no other
    class.

    Args:
        truth: ``(H, W)`` uint8.
        radius: In pixels; by default ``EDGE`` times the image's diagonal, at
            least 1.

    Returns:
        ``(H, W)`` bool.
    """
    if radius is None:
        radius = max(1, round(EDGE * float(np.hypot(*truth.shape))))
    window = np.ones((2 * radius + 1, ) * 2, np.uint8)
    ignored = truth == IGNORED
    largest = cv2.dilate(np.where(ignored, np.uint8(0), truth), window)
    smallest = cv2.erode(truth, window)  # 255 is never less than a class
    return largest > smallest


class Quality:
    """Sums over images of what one network predicts.

    Args:
        classes: How many.

    Attributes:
        confusion: ``(2, C, C)`` pixels by truth and prediction: ``[0]`` those
            away from edges, ``[1]`` those in :func:`edge_band`.
        bins: ``(BINS, 3)``, by the confidence, which is the probability of
            the predicted class: pixels, sum of confidences, right ones.
        surprise: Sum of ``-log p(truth)``, in nats.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.confusion = np.zeros((2, classes, classes), np.int64)
        self.bins = np.zeros((BINS, 3))
        self.surprise = 0.

    def add(self,
            scores: Tensor,
            truth: np.ndarray,
            band: np.ndarray,
            guess: Tensor | None = None) -> np.ndarray:
        """Adds one image.

        ``guess`` is what the network predicts where that need not be the
        likeliest class: a head with one output has a threshold.

        Shape:
            ``(C, H, W)`` of :func:`class_scores`, ``(H, W)`` uint8, ``(H,
            W)`` bool of :func:`edge_band`, ``(H, W)`` int64 -> ``(H, W)``
            uint8, what the network predicts.
        """
        labels = torch.from_numpy(truth.astype(np.int64))
        known = labels.clamp(max=self.classes - 1).to(scores.device)
        guess = scores.argmax(0) if guess is None else guess
        chosen = scores.gather(0, guess[None])[0]
        whole = scores.logsumexp(0)
        true = scores.gather(0, known[None])[0]
        valid = labels != IGNORED
        log_confidence, surprise, seen, labels, near = (
            x.cpu()[valid]
            for x in (chosen - whole, whole - true, guess, labels,
                      torch.from_numpy(band)))
        cells = (near * self.classes + labels) * self.classes + seen
        counts = torch.bincount(cells, minlength=self.confusion.size)
        self.confusion += counts.view(self.confusion.shape).numpy()
        confidence = log_confidence.double().exp()
        bins = (confidence * BINS).ceil().long().sub(1).clamp(0, BINS - 1)
        right = (seen == labels).double()
        for column, weights in enumerate((None, confidence, right)):
            self.bins[:, column] += torch.bincount(bins, weights, BINS).numpy()
        self.surprise += float(surprise.double().sum())
        return guess.cpu().numpy().astype(np.uint8)

    @property
    def pixels(self) -> int:
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """Share of right pixels, in percent."""
        right = np.trace(self.confusion.sum(0))
        return 100 * float(right) / max(1, self.pixels)

    @property
    def nll(self) -> float:
        """Negative log-likelihood: the mean of ``-log p(truth)``, in nats."""
        return self.surprise / max(1, self.pixels)

    @property
    def ece(self) -> float:
        r"""Expected calibration error, in percent.

        .. math::
            \sum_b \frac{n_b}{n} |\mathrm{accuracy}_b - \mathrm{confidence}_b|

        over :data:`BINS` bins :math:`b` of equal width of the confidence,
        :math:`n_b` the pixels in a bin, :math:`n` all.
        """
        gap = np.abs(self.bins[:, 2] - self.bins[:, 1]).sum()
        return 100 * float(gap) / max(1, self.pixels)

    def iou(self, part: str = 'all') -> np.ndarray:
        """IoU of each class, in percent; NaN where it does not occur.

        Args:
            part: ``'all'`` pixels, those in the band of ``'edges'``, or in
                the ``'interior'``, the rest.
        """
        found = dict(all=self.confusion.sum(0),
                     edges=self.confusion[1],
                     interior=self.confusion[0])[part]
        return ious(found)

    def miou(self, part: str = 'all') -> float:
        """Mean of :meth:`iou` over the classes that occur; NaN for none."""
        return mean_of(self.iou(part))

    def mistakes(self, count: int) -> list[tuple[int, int, float]]:
        """The most frequent ones: truth, prediction, percent of that truth."""
        whole = self.confusion.sum(0)
        wrong = whole - np.diag(np.diag(whole))
        order = np.argsort(-wrong, axis=None, kind='stable')[:count]
        pairs = [divmod(int(i), self.classes) for i in order]
        return [(truth, guess, 100 * wrong[truth, guess] / whole[truth].sum())
                for truth, guess in pairs if wrong[truth, guess]]


def ious(confusion: np.ndarray) -> np.ndarray:
    """IoU of each class in percent, from ``(C, C)`` by truth, prediction."""
    hits = np.diag(confusion).astype(float)
    union = confusion.sum(0) + confusion.sum(1) - hits
    return 100 * np.divide(
        hits, union, np.full(len(hits), np.nan), where=union > 0)


def image_miou(guess: np.ndarray, truth: np.ndarray, classes: int) -> float:
    """Mean IoU, in percent, of one image over the classes in its truth.

    Shape:
        ``(H, W), (H, W)`` uint8.
    """
    valid = truth != IGNORED
    cells = np.bincount(truth[valid].astype(np.int64) * classes + guess[valid],
                        minlength=classes * classes)
    confusion = cells.reshape(classes, classes)
    return mean_of(ious(confusion)[confusion.sum(1) > 0])


def mean_of(values: Sequence[float] | np.ndarray) -> float:
    """Mean of those that are not NaN; NaN where there are none."""
    found = np.asarray(values, float)
    found = found[~np.isnan(found)]
    return float(found.mean()) if found.size else float('nan')


class Agreement:
    """Where a student says the same as its teacher.

    Attributes:
        counts: ``(2, 2, 2)`` pixels: is the teacher right, do they agree, is
            the student right?
    """

    def __init__(self) -> None:
        self.counts = np.zeros((2, 2, 2), np.int64)

    def add(self, student: np.ndarray, teacher: np.ndarray,
            truth: np.ndarray) -> tuple[int, int]:
        """Adds one image, of labels ``(H, W)``.

        Returns:
            Pixels where the teacher alone is right, and the student alone.
        """
        valid = truth != IGNORED
        right = (teacher == truth)[valid]
        own = (student == truth)[valid]
        cells = 4 * right + 2 * (student == teacher)[valid] + own
        self.counts += np.bincount(cells, minlength=8).reshape(2, 2, 2)
        return int((right & ~own).sum()), int((own & ~right).sum())

    def shares(self) -> dict[str, float]:
        """In percent; NaN where a part is empty.

        ``teacher right``: of all pixels. ``follows right``: of the pixels
        where the teacher is right, those where the student agrees. ``follows
        wrong``: the same where the teacher is wrong: errors taken over.
        ``corrects``: of those, where the student is right.
        """
        wrong, right = self.counts
        return {
            'teacher right': _percent(right.sum(), self.counts.sum()),
            'follows right': _percent(right[1].sum(), right.sum()),
            'follows wrong': _percent(wrong[1].sum(), wrong.sum()),
            'corrects': _percent(wrong[:, 1].sum(), wrong.sum()),
            'agrees': _percent(self.counts[:, 1].sum(), self.counts.sum())
        }


def _percent(part: float, whole: float) -> float:
    return 100 * float(part) / float(whole) if whole else float('nan')
