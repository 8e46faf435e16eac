"""Configurations are read strictly; a schedule is shown as a table."""

import pytest

from dcvc.config import from_dict, to_dict
from dcvc.errors import InputError
from dcvc.inter.dcvc2021.config import DCVCConfig
from dcvc.inter.dcvc2021.recipes import STAGES, stage
from dcvc.intra.config import IntraConfig
from dcvc.schedule import schedule_table
from dcvc.training.config import TrainConfig


def test_configuration_is_strict_and_round_trips():
    config = DCVCConfig(channels=8)
    assert from_dict(DCVCConfig, to_dict(config)) == config
    with pytest.raises(InputError, match="unknown key 'chanels'; did you mean 'channels'"):
        from_dict(DCVCConfig, {"chanels": 3})
    with pytest.raises(InputError, match=r"DCVCConfig.channels: found '3'"):
        from_dict(DCVCConfig, {"channels": "3"})
    with pytest.raises(InputError, match="--vqgan_config: missing"):
        IntraConfig(type="vqgan")
    with pytest.raises(InputError, match="--ema_decay: found 2"):
        TrainConfig(ema_decay=2.0)
    with pytest.raises(InputError, match="stage: found 6"):
        stage(6)


def test_schedule_prints_as_a_table():
    lines = schedule_table(tuple(STAGES.values()), {"stage1_gop2": 12}).splitlines()
    assert len(lines) == 7
    assert "12" in lines[2].split()
    assert "mv_y mv_z y z" in lines[5]
