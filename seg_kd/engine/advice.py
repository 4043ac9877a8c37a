"""What helps where a library below says something that helps nobody."""
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from seg_kd.errors import UserError

ADVICE = {
    'Expected more than 1 value per channel':
    'a batch norm gets a single value per channel, as behind the global '
    'pooling of ASPP and PSP with one image: take a larger '
    'train_dataloader.batch_size, or larger crops',
    'Expected to have finished reduction':
    'there are parameters that no loss depends on, which DDP does not allow: '
    'set find_unused_parameters=True in the config, or freeze the layers '
    'that are not used',
    'is out of bounds':
    'a label is outside of the classes: seg-kd prepare-data check CONFIG '
    'names the file, and so does CheckLabels after LoadAnnotations',
}


@contextmanager
def advised() -> Iterator[None]:
    """Known errors become a UserError that says what to do."""
    try:
        yield
    except (ValueError, RuntimeError, IndexError) as error:
        for known, advice in ADVICE.items():
            if known in str(error):
                raise UserError(f'{advice} ({known})') from error
        raise


def mend_class_weights(model: nn.Module) -> None:
    """Weighted cross entropies of MMSegmentation with ``avg_non_ignore``.

    With both it indexes the weights of the valid pixels by the mask of all,
    and fails. Without ``avg_non_ignore`` a weighted loss is the mean over
    valid pixels already.
    """
    for module in model.modules():
        weighted = getattr(module, 'class_weight', None) is not None
        if weighted and getattr(
                module, 'avg_non_ignore',
                False) and not (module.use_sigmoid or module.use_mask):
            module.avg_non_ignore = False
