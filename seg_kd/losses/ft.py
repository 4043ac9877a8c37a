"""FT, factor transfer (Kim et al., NeurIPS 2018).

After "Paraphrasing Complex Network: Network Compression via Factor Transfer"
and ``train_Paraphraser.py``, ``train_student.py`` and
``Models/FeatureProjection.py`` of Jangho-Kim/Factor-Transfer-pytorch.
"""
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_kd.losses._functional import (check_form, input_of, inverse_root,
                                       keep, mask_invalid, number_of, prepare)
from seg_kd.losses._maps import MapLoss, convolution
from seg_kd.losses.translator import (SLOPE, Autoencoder, encoded, frozen,
                                      initialize)


class Paraphraser(Autoencoder):
    r"""Autoencoder whose code, the factor, says what a teacher's map says.

    .. math:: \operatorname{mean} | F - D(E(F)) |

    Three 3x3 convs and three transposed ones, all of stride 1, with LeakyReLU
    0.1. Trained alone on the teacher's map; then the decoder is dropped and
    ``encoder`` frozen (``FTLoss``).

    Dense: F is standardized (``Encoder``), the decoder's last layer is linear
    and starts at zero, so that the paper's learning rate of 0.1 serves maps of
    any magnitude. With ``form='paper'`` F is as it is, and a LeakyReLU ends
    the decoder. Ignored positions count in no term, but the 3x3 convs see
    them.

    Args:
        channels: Of the teacher's map.
        ratio: k, width of the factor relative to ``channels``. Paper: 0.5.
        widths: Of the three convs; default ``(C, round(kC), round(kC))``.
        form: ``'dense'`` or ``'paper'``.

    Attributes:
        encoder: What is kept.
        decoder: What is dropped.
        out_channels: Width of the factor.
        relative_error: As that of ``Translator``.

    Shape:
        ``(N, C, H, W), (N, ., .) -> dict(reconstruction=())``, per element of
        the teacher's map, in units of its deviation (``'paper'``: in its own).

    Raises:
        ValueError: For another ``form``, not three widths, a map of other
            channels, or a mask that is not ``(N, ., .)`` bool.
    """

    def __init__(self,
                 channels: int,
                 ratio: float = .5,
                 widths: Sequence[int] | None = None,
                 form: str = 'dense') -> None:
        super().__init__(channels, 1, ratio, widths)
        check_form(form)
        self.form = form
        if form == 'paper':  # mean 0 and deviation 1 for good
            self.encoder.measured.fill_(True)

    def _terms(self, teacher: Tensor, valid: Tensor,
               mask: Tensor | None) -> dict[str, Tensor]:
        code, sizes = self.encoder.trace(teacher)
        back = self.decoder(code, sizes)
        if self.form == 'paper':
            back = F.leaky_relu(back, SLOPE)
        error = back - self.encoder.standardize(teacher)
        error = keep(error, valid)
        self._compare(error.detach().square().sum(), teacher, valid)
        count = (number_of(valid) * teacher.shape[1]).to(teacher.dtype)
        return dict(reconstruction=error.abs().sum() / count)


class FTLoss(MapLoss):
    r"""Distance of the student's factor to the teacher's, both of length 1.

    .. math::
        \operatorname{mean}_{n,c,j} \Bigl| \frac{E_s(S)}{\|E_s(S)\|_2}
        - \frac{E_t(T)}{\|E_t(T)\|_2} \Bigr|^p

    :math:`E_t` is the frozen encoder of a ``Paraphraser``, :math:`E_s` the
    translator, three 3x3 convs with LeakyReLU 0.1 that are trained with the
    student. A norm is one of a whole image: c and all valid positions j.

    Dense: the norm is divided by the root of the number of elements, so it is
    a root mean square, and the value does not shrink as the map grows. It is
    the paper's times :math:`(C m)^{p/2}` for m positions; the paper's 500 at
    C = 32 channels and m = 8 * 8 is 11 here. RepDistiller's loss of this name
    compares attention maps, and is another method.

    Ignored positions count in no term, but the 3x3 convs of both encoders see
    them.

    Args:
        student_channels: Of the student's map.
        teacher_channels: Of the teacher's.
        paraphraser: A trained ``Paraphraser`` or its encoder, which is frozen
            here. None compares with the teacher's map as it is.
        p: 1 or 2. Authors: 1.
        form: ``'dense'`` or ``'paper'``.

    Attributes:
        translator: :math:`E_s`.
        paraphraser: :math:`E_t`: no gradient. None without.

    Shape:
        ``(N, Cs, h, w), (N, Ct, H, W), (N, ., .) -> ()``. A student's factor
        on another grid is resized to the teacher's. Dense: from 0 to 2 for
        p=1, to 4 for p=2.

    Raises:
        ValueError: For another ``p`` or ``form``, maps of other channels or
            unequal batches, or a mask that is not ``(N, ., .)`` bool.
    """

    shown = 'p', 'form'

    def __init__(self,
                 student_channels: int,
                 teacher_channels: int,
                 paraphraser: nn.Module | None = None,
                 p: int = 1,
                 form: str = 'dense') -> None:
        super().__init__(student_channels, teacher_channels)
        check_form(form)
        if p not in (1, 2):
            raise ValueError(f'p must be 1 or 2, not {p}')
        self.p, self.form = p, form
        encoder, width = frozen(paraphraser, teacher_channels)
        self.translator = translator(student_channels, width)
        self.paraphraser = encoder

    def compare(self, student: Tensor, teacher: Tensor,
                mask: Tensor | None) -> Tensor:
        target = encoded(self.paraphraser, input_of(self, teacher, mask))
        factor = self.translator(input_of(self, student, mask))
        factor, target, valid = prepare(factor, target, mask)
        total = self._distances(factor, target, valid).sum()
        count = number_of(valid) * factor.shape[1]
        return (total / count).to(factor.dtype)

    def _distances(self, student: Tensor, teacher: Tensor,
                   valid: Tensor) -> Tensor:
        """Sum over each image, float64: ``(N, C, H, W)`` twice to ``(N,)``."""
        root = 1.
        if self.form == 'dense':
            root = (valid.sum((1, 2)) * student.shape[1]).to(student).sqrt()
        s, t = (unit_images(mask_invalid(x, valid.unsqueeze(1)), root)
                for x in (student, teacher))
        gap = s - t
        gap = gap.abs() if self.p == 1 else gap.square()
        return gap.sum((2, 3)).sum(1, dtype=torch.double)


def unit_images(x: Tensor, scale: Tensor | float) -> Tensor:
    """Whole images of length ``scale``; of a zero one no gradient."""
    square = x.square().sum((2, 3)).sum(1, dtype=torch.double)
    return x * (inverse_root(square) * scale).to(x.dtype)[:, None, None, None]


def translator(channels: int, width: int) -> nn.Sequential:
    """Three 3x3 convs and LeakyReLUs, as the authors'.

    Shape:
        ``(N, channels, H, W) -> (N, width, H, W)``.
    """
    layers: list[nn.Module] = []
    widths = channels, channels, width, width
    for before, after in zip(widths, widths[1:]):
        conv = convolution(before, after, 3, bias=True)
        initialize(conv, SLOPE, 9 * before)
        layers += [conv, nn.LeakyReLU(SLOPE, inplace=True)]
    return nn.Sequential(*layers)
