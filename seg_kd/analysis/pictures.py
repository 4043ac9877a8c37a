"""Pictures: what networks see in images, and their losses as curves."""

import matplotlib
import numpy as np

from seg_kd.analysis.logs import read_scalars
from seg_kd.analysis.trained import Trained
from seg_kd.drawing import colours
from seg_kd.registry import DATASETS

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.patches import Patch  # noqa: E402


def draw_predictions(models: dict[str, Trained],
                     path: str,
                     count: int = 4) -> None:
    """Rows of image, truth, and what each network sees in the image.

    The legend names the classes of the truth.
    """
    first = next(iter(models.values()))
    dataset = DATASETS.build(first.cfg.test_dataloader.dataset)
    palette = np.array(dataset.metainfo['palette'], np.uint8)
    columns = ['image', 'truth', *models]
    samples = first.samples(count)
    seen: set[int] = set()  # the classes of the legend
    height, width = samples[0]['inputs'].shape[-2:]
    figure, axes = plt.subplots(count,
                                len(columns),
                                figsize=(2.6 * len(columns),
                                         2.6 * count * height / width + 0.4),
                                squeeze=False,
                                layout='constrained')
    for row, sample in zip(axes, samples):
        truth = sample['data_samples'].gt_sem_seg.data[0].numpy()
        image = sample['inputs'].permute(1, 2, 0).numpy()[..., ::-1]
        shown = [image, colours(truth, palette)]
        shown += [colours(m.predict(sample), palette) for m in models.values()]
        for axis, picture in zip(row, shown):
            axis.imshow(picture)
            axis.set_axis_off()
        seen.update(np.unique(truth[truth < len(palette)]).tolist())
    for axis, title in zip(axes[0], columns):
        axis.set_title(title)
    names = dataset.metainfo.get('classes') or range(len(palette))
    figure.legend([Patch(color=palette[k] / 255) for k in sorted(seen)],
                  [str(names[k]) for k in sorted(seen)],
                  loc='outside lower center',
                  ncols=2 * len(columns),
                  fontsize=8,
                  frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_curves(folders: dict[str, str], path: str) -> None:
    """One plot a logged loss term, and one of the mIoU; one line a run."""
    runs = {name: read_scalars(folder) for name, folder in folders.items()}
    terms = sorted({
        term
        for scalars in runs.values()
        for term in scalars if 'loss' in term
    })
    terms += ['mIoU'] if any('mIoU' in found
                             for found in runs.values()) else []
    figure, axes = plt.subplots(1,
                                len(terms),
                                figsize=(3.6 * len(terms), 3.2),
                                squeeze=False,
                                layout='constrained')
    for axis, term in zip(axes[0], terms):
        for name, scalars in runs.items():
            if term in scalars:
                few = len(scalars[term]) < 3  # a line alone would not show
                axis.plot(*zip(*scalars[term]),
                          marker='o' if few else None,
                          label=name)
        axis.set_title(term)
        axis.set_xlabel('iteration')
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)
