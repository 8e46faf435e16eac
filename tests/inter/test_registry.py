"""The registry of P-frame codecs: names, numbers, configurations."""

import dataclasses

import pytest
import torch

from dcvc.errors import InputError
from dcvc.inter import registry
from dcvc.inter.dcvc2021.config import SIZES, DCVCConfig
from dcvc.inter.registry import PFrameCodecEntry, codec_entry, config_from_entry, inter_entry, register


@dataclasses.dataclass(frozen=True)
class GuessConfig:
    channels: int = 4


OWN = registry.codec_names()
GUESS = PFrameCodecEntry(name="guess", stream_id=130, terms=("y",), config=GuessConfig, build=lambda config: None,
                         sizes={"one": GuessConfig()})


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch):
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))


def test_a_codec_from_outside_is_known_by_name_number_and_configuration():
    register(GUESS)
    register(GUESS)
    assert registry.codec_names() == (*OWN, "guess")
    assert codec_entry("guess") is GUESS
    assert registry.codec_name(130) == "guess"
    assert registry.entry_of_config(GuessConfig(8)) is GUESS
    assert GUESS.default_size == "one"


@pytest.mark.parametrize(("change", "message"), [
    ({"name": "dcvc2021"}, "dcvc2021: name or stream_id 130 is taken by dcvc2021"),
    ({"stream_id": 1}, "guess: name or stream_id 1 is taken by dcvc2021"),
    ({"stream_id": 0}, "found stream_id 0, needed 1...255"),
    ({"stream_id": 256}, "128 and above for codecs from outside"),
])
def test_a_taken_name_or_number_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        register(dataclasses.replace(GUESS, **change))
    assert registry.codec_names() == OWN
    assert codec_entry("dcvc2021").stream_id == 1


def test_an_unknown_codec_or_size_names_the_nearest():
    with pytest.raises(InputError, match="found 'dcvc2012', needed one of dcvc2021, light; did you mean 'dcvc2021'"):
        codec_entry("dcvc2012")
    with pytest.raises(InputError, match="found 'smal', needed one of full, small, tiny; did you mean 'small'"):
        codec_entry().size("smal")
    assert registry.codec_name(77) == "number 77, which this program does not know"


def test_a_codec_without_stages_cannot_be_trained():
    register(GUESS)
    with pytest.raises(InputError, match="found guess, which has no training stages yet; needed one of dcvc2021"):
        GUESS.require_stages()
    codec_entry("dcvc2021").require_stages()


def test_a_checkpoint_keeps_a_configuration_with_its_codec():
    values = inter_entry(SIZES["tiny"])
    assert values["codec"] == "dcvc2021"
    assert config_from_entry(values, "latest.pt") == SIZES["tiny"]
    assert values["codec"] == "dcvc2021"
    # Checkpoints from before codecs had names.
    del values["codec"]
    assert config_from_entry(values, "latest.pt") == SIZES["tiny"]


def test_entries_that_fit_no_configuration_are_refused():
    with pytest.raises(InputError, match="configuration GuessConfig, which no registered codec has"):
        inter_entry(GuessConfig())
    with pytest.raises(InputError, match="latest.pt.*unknown key 'chanels'; did you mean 'channels'"):
        config_from_entry({"codec": "dcvc2021", "chanels": 4}, "latest.pt")
    with pytest.raises(InputError, match="DCVCConfig.channels: found 0, needed at least 1"):
        DCVCConfig(channels=0)


def test_foreign_weights_that_no_codec_takes_are_refused():
    with pytest.raises(InputError, match="x.pt: found 1 entries, needed a P-frame codec that is registered"):
        registry.p_frame_from_weights({"conv.weight": torch.zeros(1)}, "x.pt")
