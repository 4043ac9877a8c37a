"""CRD, contrastive representation distillation (Tian et al., ICLR 2020).

The paper's form follows ``crd/`` of HobbitLong/RepDistiller; the dense form,
on pixels or classes, is a variant of our own.
"""

import torch
from torch import Tensor, nn

from seg_kd.losses._contrast import Banks, Queue
from seg_kd.losses._functional import (check_choice, full_precision, prepare,
                                       unit)
from seg_kd.losses._logits import check_temperature
from seg_kd.losses._maps import Loss
from seg_kd.losses.instances import (Images, Instances, as_instances, known,
                                     resize_labels)


class CRDLoss(Loss):
    r"""Student and teacher must recognize an instance in each other.

    Both maps become instances, and these, through a linear layer each, unit
    vectors of length ``dim``, whose products divided by ``temperature`` are
    the scores. The loss is low where the score of an instance with itself,
    across the networks, is higher than with others, the negatives.

    Paper: ``instances='image'``, vectors averaged over the valid positions of
    an image. Negatives come from memory banks, which hold a vector of every
    image of the data set for each network, by noise-contrastive estimation
    (:class:`Banks`). A 1x1 map is what the authors' code takes. They leave
    out images of the same class; of street scenes there are no classes, so
    that the draw is uniform, as their own default. The weight 0.8 of the
    paper belongs to this form.

    Dense, a variant: ``instances='pixel'``, at most ``max_instances`` valid
    positions of the batch, drawn at random, or ``'class'``, the mean of each
    class in each image. Negatives are the other instances of the batch and
    those in a queue of earlier ones (:class:`Queue`), the loss is the cross
    entropy of finding oneself among them, of student and teacher added. Only
    instances of other classes are negatives, as the authors have it, where
    the paper takes whole images; positions whose class is not known do not
    take part.

    Args:
        student_channels: ``Cs``.
        teacher_channels: ``Ct``.
        instances: ``'pixel'``, ``'class'`` or ``'image'``, or an object of a
            kind: ``Images()`` is ``'image'``, all others are dense. Each is
            to be of one class, unless ``negatives='instance'``.
        temperature: Divides the scores. Paper: 0.07.
        dim: Length of the vectors. Paper: 128.
        negatives: Of the dense form: ``'class'``, instances of other classes,
            or ``'instance'``, all others.
        max_instances: Of ``'pixel'``.
        queue: Length of the queue of the dense form; 0 for none.
        enqueue: At most so many instances does each process add to the queue
            in an iteration.
        n_data: Of ``'image'``: number of images of the data set.
        k: Of ``'image'``: negatives of each image. Paper: 16384.
        momentum: Of ``'image'``: what stays of a row of the banks when it is
            updated. Paper: 0.5.

    Shape:
        ``(N, Cs, h, w), (N, Ct, H, W), (N, ., .) bool, (N, ., .) integer
        labels, (N,) integer index -> ()``. A student on another grid is
        resized to the teacher's. ``labels`` are needed for classes, ``index``,
        the number of each image in the data set, for ``'image'``. In nats, an
        instance. With k, the first value of ``'image'`` is about
        ``2 (1 + log k)``; the dense form lies between 0 and, at first, about
        twice the logarithm of the number of negatives, but its gradient does
        not grow with that number, nor with the crop.

    Raises:
        ValueError: For other ``instances`` or ``negatives``, numbers out of
            range, missing ``labels`` or ``index``, or maps that do not fit.
    """

    shown = ('negatives', )

    def __init__(self,
                 student_channels: int,
                 teacher_channels: int,
                 instances: Instances | str = 'pixel',
                 temperature: float = .07,
                 dim: int = 128,
                 negatives: str = 'class',
                 max_instances: int = 1024,
                 queue: int = 2048,
                 enqueue: int = 128,
                 n_data: int | None = None,
                 k: int = 16384,
                 momentum: float = .5) -> None:
        super().__init__()
        if isinstance(instances,
                      str) and instances not in ('pixel', 'class', 'image'):
            raise ValueError("instances must be 'pixel', 'class' or 'image', "
                             f'or an object of a kind, not {instances!r}')
        images = instances == 'image' or isinstance(instances, Images)
        check_choice('negatives', negatives, 'class', 'instance')
        if images and n_data is None:
            raise ValueError("instances='image' needs n_data, the number of "
                             'images of the data set')
        if min(max_instances, enqueue, k, dim, queue + 1) < 1:
            raise ValueError('max_instances, enqueue, k and dim must be at '
                             'least 1, queue at least 0')
        check_temperature(temperature)
        self.negatives = negatives
        self.instances = as_instances(
            instances, max_instances if instances == 'pixel' else None, (1, 1))
        self.by_class = negatives == 'class' and not images
        self.student_head = nn.Linear(student_channels, dim)
        self.teacher_head = nn.Linear(teacher_channels, dim)
        if images:
            self.contrast = Banks(n_data, dim, k, temperature, momentum)
        else:
            self.contrast = Queue(queue, dim, enqueue, temperature)

    @property
    def by_label(self) -> bool:
        """Whether it needs labels; ``mask`` then says where they are known."""
        return self.by_class or self.instances.by_label

    def forward(self,
                student: Tensor,
                teacher: Tensor,
                mask: Tensor | None = None,
                labels: Tensor | None = None,
                index: Tensor | None = None) -> Tensor:
        with full_precision(teacher):
            student, teacher, valid = prepare(student, teacher, mask)
            if self.by_label:
                labels = resize_labels(labels, valid.shape)
                valid = known(valid, mask)
            # one value per instance: any mean is it
            maps = [student, teacher, *self._owner(valid, labels, index)]
            (s, t,
             *owner), there = self.instances.matrices(maps, valid, labels)
            owner = owner[0].squeeze(1).round().long() if owner else None
            both = torch.stack((self.student_head(s), self.teacher_head(t)))
            return self.contrast(*unit(both), owner, there)

    def _owner(self, valid: Tensor, labels: Tensor | None,
               index: Tensor | None) -> list[Tensor]:
        """A map of the image's number, or of the classes to tell apart.

        Shape:
            ``(N, H, W) -> [(N, 1, H, W)]``, as float64, or an empty list.
        """
        if isinstance(self.contrast, Banks):
            if index is None or index.shape != valid.shape[:1]:
                raise ValueError("instances='image' needs index, the number "
                                 f'of each of the {len(valid)} images')
            index = index.to(valid.device).double().view(-1, 1, 1, 1)
            return [index.expand(-1, 1, *valid.shape[1:])]
        return [labels.double().unsqueeze(1)] if self.by_class else []
