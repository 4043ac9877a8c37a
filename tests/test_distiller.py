"""Plain PyTorch: two modules, terms between them, any loop."""
import copy
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from processes import together
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

import seg_kd
from seg_kd.errors import UserError
from seg_kd.losses import CRDLoss, FitNetLoss, KALoss, KDLoss

ROOT = Path(__file__).parents[1]
IMAGE = torch.zeros(1, 3, 16, 32)


class Net(nn.Module):

    def __init__(self, width):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.body = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.classifier = nn.Conv2d(2 * width, 4, 1)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return self.classifier(self.body(self.norm(self.stem(x)).relu()))


def task(output, labels):
    output = F.interpolate(output, labels.shape[1:], mode='bilinear')
    return F.cross_entropy(output, labels, ignore_index=255)


def batch(n=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(n, 3, 16, 32, generator=generator)
    labels = torch.randint(4, (n, 16, 32), generator=generator)
    labels[:, :4] = 255
    return images, labels


TERMS = dict(
    fitnet=lambda **s: seg_kd.Term(
        FitNetLoss, student='body', teacher='body', **s),
    ka=lambda **s: seg_kd.Term(KALoss, student='body', teacher='body', **s),
    kd=lambda **s: seg_kd.Term(
        KDLoss, student='classifier', teacher='classifier', **s))


def built(*names, **settings):
    torch.manual_seed(0)
    student, teacher = Net(4), Net(8)
    return seg_kd.Distiller(student,
                            teacher,
                            [TERMS[name](**settings) for name in names],
                            image=IMAGE,
                            task=task)


def test_no_framework_is_imported():
    code = ('import sys, seg_kd; assert "torch" not in sys.modules; '
            'seg_kd.Distiller, seg_kd.Term, seg_kd.Teacher; '
            'found = {m.split(".")[0] for m in sys.modules}; '
            'assert not found & {"mmengine", "mmseg", "mmcv", "cv2"}, found')
    subprocess.run([sys.executable, '-c', code], check=True, cwd=ROOT)


def test_the_document_runs(tmp_path, monkeypatch):
    text = (ROOT / 'docs/plain_pytorch.md').read_text()
    code, = re.findall(r'```python\n(.*?)```', text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    found = {}
    exec(compile(code, 'plain_pytorch.md', 'exec'), found)
    assert list(found['losses']) == ['task', 'fitnet', 'kd']
    own = code[code.index('distiller = '):code.index('optimizer')]
    assert len(own.splitlines()) <= 12
    _, state = torch.load('checkpoint.pth')
    assert state['_extra_state'] == {'iteration': 10}


def test_the_losses_are_those_of_the_parts():
    distiller = built('ka', 'kd', weight=2.)
    images, labels = batch()
    student = copy.deepcopy(distiller.student)
    losses = distiller(images, labels)
    assert list(losses) == ['task', 'ka', 'kd']
    sum(losses.values()).backward()
    torch.testing.assert_close(losses['task'], task(student(images), labels))
    teacher = distiller.teachers['teacher'].network
    mine, theirs = student(images), teacher(images)
    expected = 2 * KDLoss()(mine, theirs, labels != 255)
    torch.testing.assert_close(losses['kd'], expected)
    logged = distiller.logged
    torch.testing.assert_close(losses['ka'].detach(),
                               logged['ka_adaptation'] + logged['ka_affinity'])
    assert all(p.grad is not None for p in distiller.student.parameters())
    assert all(p.grad is not None for p in distiller.parameters())
    assert all(p.grad is None for p in teacher.parameters())


def test_the_teacher_is_frozen_once_and_nobodys():
    distiller = built('fitnet', 'kd')
    teacher = distiller.teachers['teacher'].network
    teacher.train()
    calls = teacher.calls, distiller.student.calls
    before = copy.deepcopy(teacher.state_dict())
    distiller(*batch())
    assert (teacher.calls, distiller.student.calls) == (calls[0] + 1,
                                                        calls[1] + 1)
    assert not any(m.training for m in teacher.modules())
    for key, value in teacher.state_dict().items():
        assert torch.equal(value, before[key])
    assert not any(p.requires_grad for p in teacher.parameters())
    mine = {id(p) for p in distiller.parameters()}
    others = [*teacher.parameters(), *distiller.student.parameters()]
    assert mine and not mine & {id(p) for p in others}
    assert all(
        k.startswith(('parts.', '_extra')) for k in distiller.state_dict())
    for network in (teacher, distiller.student):
        assert not any(m._forward_hooks or m._forward_pre_hooks
                       for m in network.modules())
    joined = copy.deepcopy(distiller.joined())
    assert joined.distiller.student is joined.student
    assert joined.distiller.teachers['teacher'].network is teacher


def train(distiller, steps, start=0):
    parameters = [*distiller.student.parameters(), *distiller.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=.1)
    for k in range(start, start + steps):
        losses = distiller(*batch(seed=k))
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    return losses


def test_resume_is_bit_for_bit():
    settings = dict(weight='auto', auto_iters=2, warmup=3, end=5)
    whole = built('fitnet', **settings)
    train(whole, 6)
    first, second = (built('fitnet', **settings) for _ in range(2))
    train(first, 3)
    second.load_state_dict(first.state_dict())
    second.student.load_state_dict(first.student.state_dict())
    train(second, 3, start=3)
    for one, other in ((whole, second), (whole.student, second.student)):
        state = other.state_dict()
        for key, value in one.state_dict().items():
            if key == '_extra_state':
                assert value == state[key] == {'iteration': 6}
            else:
                assert torch.equal(value, state[key]), key
    assert whole.parts['fitnet_weight'].measured == 2


@pytest.mark.parametrize('end, levels', [(0, [0, 0, 0]), (2, [0, 1, 0]),
                                         (None, [0, 1, 1])])
def test_schedule(end, levels):
    term = TERMS['kd'](start=1, end=end)
    assert [term.level(k) for k in range(3)] == levels


def test_a_warm_up_begins_above_0_and_grows_evenly():
    term = TERMS['kd'](start=1, warmup=4)
    assert [term.level(k) for k in range(6)] == [0, .25, .5, .75, 1, 1]


def test_parts_depend_on_the_seed_alone():
    found = []
    for before, seed in ((0, 7), (1, 7), (0, 8)):
        torch.manual_seed(before)
        distiller = seg_kd.Distiller(Net(4),
                                     Net(8), [TERMS['fitnet']()],
                                     IMAGE,
                                     seed=seed)
        found.append(distiller.parts['fitnet'].regressor[0].weight)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_evaluation_is_no_iteration():
    distiller = built('kd')
    for counted, mode in enumerate((False, True)):
        distiller.train(mode)(*batch())
        assert distiller.iteration == counted


def test_a_label_of_ones_own_does_not_count():
    torch.manual_seed(0)
    distiller = seg_kd.Distiller(Net(4),
                                 Net(8), [TERMS['kd']()],
                                 IMAGE,
                                 ignore_index=3)
    images, labels = batch()
    value = distiller(images, labels)['kd']
    assert distiller(images, labels.where(labels != 3, 3))['kd'] == value
    assert distiller(images, labels.where(labels != 2, 3))['kd'] != value
    assert distiller(images, torch.full_like(labels, 3))['kd'] == 0


def test_the_connector_comes_first():
    """It learns, and the student has nothing but its task meanwhile."""
    settings = dict(start=1, connector_iters=2, weight='auto', auto_iters=1)
    distiller = built('fitnet', **settings)
    part, images, labels = distiller.parts['fitnet'], *batch()
    body, expected = distiller.student.body.weight, []
    for _ in range(4):
        losses = distiller(images, labels)
        alone, = torch.autograd.grad(losses['task'], body, retain_graph=True)
        distiller.zero_grad()
        body.grad = None
        sum(losses.values()).backward()
        learns = part.regressor[0].weight.grad.abs().sum() > 0
        expected.append((bool(learns), torch.equal(body.grad, alone)))
    assert expected == [(False, True), (True, True), (True, True),
                        (True, False)]
    assert distiller.parts['fitnet_weight'].measured == 1


def test_a_rate_of_its_own():
    distiller = built('fitnet', 'kd', lr_mult=10.)
    group, = distiller.parameter_groups(.2)
    assert group['lr'] == 2.
    assert group['params'] == list(distiller.parts['fitnet'].parameters())
    with pytest.raises(UserError, match='fitnet: lr_mult and connector_iters'):
        built('fitnet', lr_mult=-1.)


def test_ignored_pixels_and_no_labels():
    distiller = built('kd')
    images, labels = batch()
    whole = distiller(images)
    assert list(whole) == ['kd']
    masked = distiller(images, labels)['kd']
    labels = torch.full_like(labels, 255)
    assert distiller(images, labels)['kd'] == 0
    assert masked != whole['kd'] > 0


def test_numbers_of_images():
    torch.manual_seed(0)
    term = seg_kd.Term(CRDLoss,
                       'body',
                       'body',
                       instances='image',
                       n_data=9,
                       k=4)
    distiller = seg_kd.Distiller(Net(4), Net(8), [term], IMAGE)
    before = distiller.parts['crd'].contrast.student.clone()
    distiller(*batch(), samples=torch.tensor([3, 7]))
    changed = distiller.parts['crd'].contrast.student != before
    assert changed.any(1).nonzero().flatten().tolist() == [3, 7]


def test_several_teachers():
    torch.manual_seed(0)
    teachers = dict(small=Net(6), large=Net(8))
    terms = [
        TERMS['kd'](name=name, teacher_name=name, weight='auto')
        for name in teachers
    ]
    student = Net(4)
    distiller = seg_kd.Distiller(student, teachers, terms, IMAGE, task)
    images, labels = batch()
    losses = distiller(images, labels)
    assert list(losses) == ['task', 'small', 'large']
    expected = KDLoss()(student(images), teachers['large'](images), labels
                        != 255)
    torch.testing.assert_close(
        losses['large'] / distiller.logged['large_weight'], expected)
    pulls = [distiller.parts[f'{n}_weight'].pulls[0] for n in teachers]
    torch.testing.assert_close(*pulls)  # the one's term is no task to others
    with pytest.raises(UserError, match="teacher_name= is one of .*'small'"):
        seg_kd.Distiller(student, teachers, [TERMS['kd']()], IMAGE)


class OwnWeight(nn.Module):

    def __init__(self, weight=3., broken=False):
        super().__init__()
        self.weight = weight
        if broken:
            len(3)

    def forward(self, student, teacher, mask=None):
        return self.weight * student.mean()


def term_of(loss, **settings):
    term = seg_kd.Term(loss, 'body', 'body', **settings)
    return seg_kd.Distiller(Net(4), Net(8), [term], IMAGE)


def test_an_argument_that_two_could_mean():
    with pytest.raises(UserError, match=r'loss=dict\(weight=...\)'):
        term_of(OwnWeight, weight=2.)
    distiller = term_of(OwnWeight, weight=2., arguments=dict(weight=5.))
    assert distiller.terms[0].weight == 2
    assert distiller.parts['ownweight'].weight == 5


def test_errors_keep_what_caused_them():
    with pytest.raises(UserError, match="'sclae'; OwnWeight takes weight"):
        term_of(OwnWeight, sclae=1.)
    with pytest.raises(TypeError, match='has no len') as caught:
        term_of(OwnWeight, broken=True)
    assert '__init__' in [entry.name for entry in caught.traceback]
    with pytest.raises(UserError, match='KALoss: .*'):
        term_of(KALoss, p=-1)
    with pytest.raises(UserError, match='kd: KDLoss: .* 8 .*16'):
        term_of(KDLoss)  # before any step
    with pytest.raises(UserError, match='two terms are named'):
        built('kd', 'kd')
    with pytest.raises(UserError, match='has no layer .*nearest are'):
        seg_kd.Distiller(Net(4), Net(4), [seg_kd.Term(KDLoss, 'a', 'b')],
                         IMAGE)


def train_on_one_of(count, rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group('gloo',
                                   init_method=f'file://{folder}/{count}',
                                   rank=rank,
                                   world_size=count)
    distiller = built('fitnet', weight='auto', auto_iters=2)
    for net in (distiller.student, distiller.teachers['teacher'].network):
        net.norm.momentum = 0.
    distiller.student.norm.eval()
    model = DistributedDataParallel(distiller.joined())
    model.train()
    distiller.student.norm.eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=.1)
    for k in range(4):
        images, labels = batch(4, seed=k)
        part = slice(rank * 4 // count, (rank + 1) * 4 // count)
        losses = model(images[part], labels[part])
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    torch.save([distiller.student.state_dict(),
                distiller.state_dict()], f'{folder}/{count}_{rank}.pth')
    del model  # outliving its group, it may wait for gloo for good
    distributed.destroy_process_group()


def test_two_processes_end_as_one(tmp_path):
    """The same batch in halves; each image has as many valid pixels."""
    for count in (1, 2):
        together(train_on_one_of,
                 *((count, rank, tmp_path) for rank in range(count)))
    one, *two = (torch.load(tmp_path / f'{name}.pth')
                 for name in ('1_0', '2_0', '2_1'))
    for states in two:
        for expected, found, same in zip(one, states, two[0]):
            for key, value in expected.items():
                if isinstance(value, dict) or 'pulls' in key:
                    continue
                torch.testing.assert_close(found[key], value), key
                assert torch.equal(found[key], same[key]), key


def test_gradient_ratios_are_what_an_automatic_weight_sets():
    """And to measure them leaves no trace in the gradients."""
    images, labels = batch()
    found = []
    for measuring in (False, True):
        distiller = built('ka', 'kd', weight='auto', auto_ratio=.3)
        distiller.measuring = measuring
        sum(distiller(images, labels).values()).backward()
        found.append([p.grad for p in distiller.student.parameters()])
        ratios = {
            name: value.item()
            for name, value in distiller.logged.items()
            if name.endswith('_gradient_ratio')
        }
    assert all(map(torch.equal, *found))
    assert ratios == pytest.approx(
        dict(ka_gradient_ratio=.3, kd_gradient_ratio=.3))
    alone = built('ka')
    alone.measuring = True
    alone(images)  # no task to compare with
    assert 'ka_weight' in alone.logged
    assert 'ka_gradient_ratio' not in alone.logged
