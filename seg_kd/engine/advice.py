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
    'channels, but got':
    'the layers of a network do not fit each other: see in_channels, channels '
    'and in_index of its heads, and what changes the widths of its backbone',
    'index out of range':
    'a head takes a map that the backbone does not return, or a loss a class '
    'that there is none of: see in_index, out_indices and num_classes',
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

    Raises:
        UserError: There are not as many weights as classes.
    """
    for name, module in model.named_modules():
        losses = getattr(module, 'loss_decode', None)
        for loss in losses if isinstance(losses, nn.ModuleList) else [losses]:
            given = getattr(loss, 'class_weight', None)
            classes = getattr(module, 'num_classes', None)
            if given is not None and not (isinstance(given, (list, tuple))
                                          and len(given) == classes):
                raise UserError(f'{name}.loss_decode.class_weight: one number '
                                f'for each of the {classes} classes is '
                                f'wanted, not {given!r:.80}')
        weighted = getattr(module, 'class_weight', None) is not None
        if weighted and getattr(
                module, 'avg_non_ignore',
                False) and not (module.use_sigmoid or module.use_mask):
            module.avg_non_ignore = False
