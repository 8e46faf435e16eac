"""Every command of `dcvc`: its file here, and what it does in a few words. Files are imported when
they are asked for, so that the list is there at once."""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dcvc.commands.arguments import ArgumentParser

# Each module of dcvc/commands/ has add_arguments(parser) and run(options) -> int | None.
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("demo", "tune the boxed model on some clips and show what came of it"),
    "bench": ("bench", "measure speed: dcvc bench data DIR"),
    "prepare": ("prepare", "re-encode a data set once into quickly seekable segments"),
    "index": ("index", "index a data set of videos, name the files that cannot be used"),
    "train": ("train", "train the P-frame codec (the flags of train_dcvc.py)"),
    "sweep": ("sweep", "train and judge a grid of recipes, settings and seeds"),
    "train-vqgan": ("train_vqgan", "train a VQGAN, the I-frame codec, on frames of videos"),
    "train-prior": ("train_prior", "learn the statistics of a VQGAN's codes: smaller I-frames"),
    "tune": ("tune", "fine-tune a model on your own videos, in minutes"),
    "models": ("models", "list the models that are here"),
    "pull": ("pull", "bring a model here from the network"),
    "import": ("import_model", "make a model folder of published weights"),
    "encode": ("encode", "code a video into a dcvc stream"),
    "info": ("info", "show what a stream or a checkpoint holds"),
    "mux": ("mux", "put a stream and the sound of its video into one .mkv"),
    "decode": ("decode", "decode a dcvc stream into a video, PNG files or y4m"),
    "cut": ("cut", "cut frames out of a stream without coding anew"),
    "join": ("join", "join streams without coding anew"),
    "eval": ("eval", "measure trained codecs on whole videos"),
    "compare": ("compare", "measure x264, x265, AV1 and VP9 on the same frames"),
    "report": ("report", "make one HTML page of results files"),
    "table": ("table", "make a CSV, LaTeX or Markdown table of results files"),
    "plot": ("plot", "draw the curves of results files for a paper: PDF, SVG, PNG"),
    "completion": ("completion", "print what lets a shell complete these commands"),
}


def module_of(name: str) -> ModuleType:
    """The file of a command of COMMANDS."""
    return importlib.import_module(f"dcvc.commands.{COMMANDS[name][0]}")


def parser_of(name: str) -> "ArgumentParser":
    """The command line of a command of COMMANDS."""
    from dcvc.commands.arguments import ArgumentParser  # late: the list of commands needs no parser

    module = module_of(name)
    parser = ArgumentParser(prog=f"dcvc {name}", description=module.__doc__)
    module.add_arguments(parser)
    return parser
