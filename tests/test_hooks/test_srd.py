"""The projector's correlation reaches the log."""
import json

from conftest import TAPS, build_runner


def test_the_correlation_is_logged(plain_config, teacher_hook, tmp_path):
    plain_config.train_cfg.max_iters = 2
    plain_config.custom_hooks = [
        teacher_hook,
        dict(type='SRDHook', projector='mlp', **TAPS)
    ]
    runner = build_runner(plain_config)
    runner.train()
    log, = (tmp_path / 'work').glob('*/vis_data/scalars.json')
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    rows = [row for row in rows if 'loss' in row]
    assert len(rows) == 2
    for row in rows:
        assert 0 < row['srd_correlation'] < 1
        parts = row['decode.loss_ce'] + row['loss_srd']
        assert abs(row['loss'] - parts) < 1e-4
