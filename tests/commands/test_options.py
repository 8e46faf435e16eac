"""Options that several commands share are the same options everywhere."""

import importlib
import re

import pytest

from dcvc.checkpoint import load_codec
from dcvc.cli import COMMANDS
from dcvc.commands.arguments import ArgumentParser
from dcvc.commands.options import INTRA_FLAGS, add_model, intra_from, intra_period_from
from dcvc.errors import InputError
from dcvc.intra import build_intra_codec
from dcvc.intra.config import IntraConfig
from dcvc.weights import weights_hash


def parser_of(command: str) -> ArgumentParser:
    parser = ArgumentParser(prog=f"dcvc {command}")
    importlib.import_module(f"dcvc.commands.{COMMANDS[command][0]}").add_arguments(parser)
    return parser


def options_of(command: str) -> dict:
    """Option string -> action."""
    return parser_of(command)._option_string_actions


@pytest.mark.parametrize("command", ["train", "encode", "decode", "info"])
def test_the_options_of_the_i_frame_codec_are_those_of_its_configuration(command):
    options = options_of(command)
    texts = {flag: options[f"--{flag}"].help for flag in INTRA_FLAGS}
    assert texts == {flag: options_of("train")[f"--{flag}"].help for flag in INTRA_FLAGS}
    assert all(texts.values())


def test_an_i_frame_codec_is_read_where_its_type_is_given():
    parser = ArgumentParser()
    add_model(parser)
    common = ["--model", "RUN", "--i_frame_quality", "2"]
    assert intra_from(parser.parse_args(common)) is None
    chosen = intra_from(parser.parse_args([*common, "--i_frame_type", "compressai"]))
    assert chosen == IntraConfig(quality=2)


@pytest.mark.parametrize(("words", "kind", "name"), [
    ("", "light", "light-m"),
    ("--i_frame_type light", "light", "light-m"),
    ("--i_frame_model_name light-s", "light", "light-s"),
    ("--i_frame_size s", "light", "light-m"),
    # As the zoo's codecs were named when they were the default.
    ("--i_frame_model_name bmshj2018-factorized", "compressai", "bmshj2018-factorized"),
    ("--i_frame_quality 3", "compressai", "cheng2020-anchor"),
    ("--i_frame_checkpoint FILE", "compressai", "cheng2020-anchor"),
    ("--i_frame_type compressai", "compressai", "cheng2020-anchor"),
    ("--vqgan_checkpoint FILE", "vqgan", "cheng2020-anchor")])
def test_training_takes_an_i_frame_codec_of_the_package_unless_another_one_is_named(words, kind, name):
    intra = intra_from(parser_of("train").parse_args(words.split()))
    assert (intra.type, intra.model_name) == (kind, name)


def test_the_i_frame_codec_of_a_model_is_found_by_its_name():
    codec = build_intra_codec(IntraConfig(type="light", model_name="light-s"))
    assert weights_hash(codec.state_dict()) == weights_hash(load_codec("light-s").intra.state_dict())
    with pytest.raises(InputError, match="--i_frame_checkpoint: missing, .* dcvc models lists"):
        build_intra_codec(IntraConfig(type="light"))


@pytest.mark.parametrize(("command", "words"), [
    ("encode", ["in.mp4", "out.dcvc", "--model", "RUN"]), ("eval", ["VIDEOS"]), ("compare", ["VIDEOS"])])
def test_the_distance_of_i_frames_has_one_name_and_an_old_one(command, words):
    parser = parser_of(command)
    for flag in ("--intra_period", "--intra-period", "--gop_size"):
        options = parser.parse_args([*words, flag, "6"])
        assert intra_period_from(options, 96) == options.intra_period == 6
    assert intra_period_from(parser.parse_args(words), 96) == 10
    assert intra_period_from(parser.parse_args(words), 96, default=12) == 12
    assert intra_period_from(parser.parse_args([*words, "--intra_period", "-1"]), 96) == 96
    with pytest.raises(InputError, match=r"--intra_period \(or --gop_size\): found 0, needed at least 1"):
        intra_period_from(parser.parse_args([*words, "--gop_size", "0"]), 96)
    assert "--gop_size is the old name" in " ".join(parser.format_help().split())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_says_what_it_does(command):
    for name, action in options_of(command).items():
        assert action.help, f"dcvc {command} {name}"


def test_old_spellings_of_a_size_are_taken_but_not_advertised():
    parser = parser_of("train")
    assert parser.parse_args(["--model_size", "dcvc2021"]).model_size == "dcvc2021"
    sizes = re.search(r"--model_size {(.*?)}", " ".join(parser.format_help().split()))[1]
    assert {"full", "small", "tiny"} <= set(re.split(r",\s*", sizes))
    assert "dcvc2021" not in sizes
