"""What the tests of relation losses share."""

from . import reference


def gradient(loss, student, teacher, *rest):
    """Value and gradient of a loss on two maps."""
    student = student.detach().clone().requires_grad_()
    value = loss(student, teacher, *rest)
    value.backward()
    return value.item(), student.grad


def as_map(vectors):
    """Instances ``(M, C)`` as images of one position."""
    return vectors[:, :, None, None]


def on_maps(loss):
    """A loss on lists of vectors, as one on maps and a mask."""

    def wrapped(student, teacher, mask=None):
        return loss(reference.instances(student, mask),
                    reference.instances(teacher, mask))

    return wrapped


def error(got, want):
    """Relative errors of value and gradient."""
    distance = (got[1].double() - want[1]).norm() / want[1].norm()
    return max(abs(got[0] / want[0] - 1), distance.item())


def largest(loss, student, teacher):
    with reference.Largest() as found:
        gradient(loss, student, teacher)
    return found.elements
