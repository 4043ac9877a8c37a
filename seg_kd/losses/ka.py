"""Knowledge Adaptation (He et al., CVPR 2019), the two terms together.

After "Knowledge Adaptation for Efficient Semantic Segmentation"; there is no
official code.
"""

from torch import Tensor, nn

from seg_kd.losses._functional import check_norm, input_of, valid_positions
from seg_kd.losses._maps import MapLoss, conv_bn
from seg_kd.losses.adaptation import AdaptationLoss
from seg_kd.losses.affinity import AffinityLoss
from seg_kd.losses.translator import encoded, frozen


class KALoss(MapLoss):
    r"""Student's last map against the teacher's, translated.

    .. math::
        50\, L_\text{adaptation}(C_f(S), E(T))
        + 1\, L_\text{affinity}(C_a(S), E(T))

    :math:`C_f, C_a` are two adapters of their own, each a 3x3 conv, BN and
    ReLU, trained with the student. :math:`E` is the frozen encoder of a
    ``Translator``. The known port applies a stride-1 autoencoder to the
    logits, and one affinity per channel; neither is the paper's.

    Dense: masked positions count in no term, but BN and the 3x3 convs see
    them. A student on another grid than :math:`E(T)` is resized after its
    adapter.

    Args:
        student_channels: Of the student's map.
        teacher_channels: Of the teacher's map.
        translator: A trained ``Translator`` or its encoder, any module with
            ``out_channels``. None takes the teacher's map as it is.
        adaptation_weight: Paper: 50.
        affinity_weight: Paper: 1, and for ``affinity_per='map'``.
        p: Order of the adaptation's distance. Paper: 1.
        q: Order of its normalization. Paper: 2.
        affinity_per: ``'map'``, or ``'position'``; see ``AffinityLoss``.

    Attributes:
        adapter_feature: :math:`C_f`.
        adapter_affinity: :math:`C_a`.
        translator: The encoder: no gradient, in eval mode whatever the mode
            of its parents. None without.

    Shape:
        ``(N, Cs, h, w), (N, Ct, H, W), (N, ., .) -> dict(adaptation=(),
        affinity=())``, both weighted: without unit, the first a mean over the
        positions of the batch, the second over images.

    Raises:
        ValueError: For p or q below 1, another ``affinity_per``, maps of
            other channels or batches, or a mask that is not ``(N, ., .)``
            bool; in training also for a single 1x1 map, which BN cannot
            normalize.
    """

    shown = ('weights', )

    def __init__(self,
                 student_channels: int,
                 teacher_channels: int,
                 translator: nn.Module | None = None,
                 adaptation_weight: float = 50.,
                 affinity_weight: float = 1.,
                 p: float = 1,
                 q: float = 2,
                 affinity_per: str = 'map') -> None:
        super().__init__(student_channels, teacher_channels)
        encoder, width = frozen(translator, teacher_channels)
        self.adapter_feature = adapter(student_channels, width)
        self.adapter_affinity = adapter(student_channels, width)
        self.translator = encoder
        self.adaptation = AdaptationLoss(p, q)
        self.affinity = AffinityLoss(affinity_per)
        self.weights = dict(adaptation=adaptation_weight,
                            affinity=affinity_weight)
        self.train()

    def train(self, mode: bool = True) -> 'KALoss':
        super().train(mode)
        if self.translator is not None:
            self.translator.eval()
        return self

    def compare(self, student: Tensor, teacher: Tensor,
                mask: Tensor | None) -> dict[str, Tensor]:
        check_norm(self, student)
        student = input_of(self, student, mask)
        target = encoded(self.translator, input_of(self, teacher, mask))
        mask = valid_positions(target, mask)
        adaptation = self.adaptation(self.adapter_feature(student), target,
                                     mask)
        affinity = self.affinity(self.adapter_affinity(student), target, mask)
        return dict(adaptation=self.weights['adaptation'] * adaptation,
                    affinity=self.weights['affinity'] * affinity)


def adapter(in_channels: int, out_channels: int) -> nn.Sequential:
    """3x3 conv, BN, ReLU; BN has the bias.

    Shape:
        ``(N, in_channels, H, W) -> (N, out_channels, H, W)``.
    """
    return conv_bn(in_channels, out_channels, 3).append(nn.ReLU(inplace=True))
