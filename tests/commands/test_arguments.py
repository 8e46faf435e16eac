"""What all command lines share: dashes, near matches, one line for an error, defaults in the help."""

import pytest

from dcvc.commands.arguments import ArgumentParser, SubcommandParser, add_flag, add_options, read_options
from dcvc.intra.config import IntraConfig


def parser() -> ArgumentParser:
    made = ArgumentParser(prog="dcvc try")
    made.add_argument("--max_frames", type=int)
    made.add_argument("--size", choices=("full", "small"), default="full", help="of the networks")
    made.add_argument("--no_cache", action="store_true")
    add_flag(made, "keep_going", True, "keep what there is")
    return made


def refused(parser: ArgumentParser, words: list[str], capsys) -> str:
    with pytest.raises(SystemExit) as stopped:
        parser.parse_args(words)
    assert stopped.value.code == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    return text


def test_dashes_stand_for_underscores_everywhere():
    options = parser().parse_args(["--max-frames=3", "--no-cache", "--no-keep-going"])
    assert (options.max_frames, options.no_cache, options.keep_going) == (3, True, False)
    assert options.given == {"max_frames", "no_cache", "keep_going"}
    assert parser().parse_args(["--no_keep_going"]).keep_going is False


def test_an_error_is_one_line_with_the_nearest_word(capsys):
    assert "did you mean '--max_frames'" in refused(parser(), ["--max_frame", "3"], capsys)
    line = refused(parser(), ["--size", "smal"], capsys)
    assert line == ("error: dcvc try: argument --size: found 'smal', needed one of full, small; did you mean 'small'?; "
                    "dcvc try --help lists the options\n")


def test_a_subcommand_suggests_its_own_options(capsys):
    made = ArgumentParser(prog="dcvc try")
    kinds = made.add_subparsers(dest="kind", required=True, parser_class=SubcommandParser)
    kinds.add_parser("coding").add_argument("--batch_size", type=int)
    options = made.parse_args(["coding", "--batch-size", "2"])
    assert (options.kind, options.batch_size) == ("coding", 2)
    assert "batch_size" in options.given
    line = refused(made, ["coding", "--batch_sizes", "2"], capsys)
    assert line.startswith("error: dcvc try coding: unknown argument --batch_sizes; did you mean '--batch_size'?")
    assert "did you mean 'coding'" in refused(made, ["codign"], capsys)


def test_the_help_names_values_and_tells_defaults():
    text = " ".join(parser().format_help().split())
    assert "--max_frames N" in text
    assert "of the networks (default: full)" in text
    assert "keep what there is (default: on)" in text


def test_a_configuration_is_read_as_its_fields_declare_it():
    made = ArgumentParser()
    add_options(made, IntraConfig, type={"default": None})
    options = made.parse_args(["--i_frame_type", "compressai", "--i_frame_quality", "3", "--no-i_frame_pretrained"])
    assert IntraConfig(**read_options(IntraConfig, options)) == IntraConfig(quality=3, pretrained=False)
    # A preset stands where nothing was given.
    assert read_options(IntraConfig, options, {"quality": 5, "model_name": "x"})["quality"] == 3
    assert read_options(IntraConfig, options, {"quality": 5, "model_name": "x"})["model_name"] == "x"
