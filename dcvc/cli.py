"""The command `dcvc`: a word, and its file in `dcvc/commands/`, imported when it is asked for."""

import importlib
import sys
from collections.abc import Sequence

from dcvc import __version__
from dcvc.commands.arguments import ArgumentParser, run_reporting_errors
from dcvc.commands.options import stream_models_told
from dcvc.config import nearest

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
}


def usage() -> str:
    rows = "\n".join(f"  {name:<14}{text}" for name, (_, text) in COMMANDS.items())
    return f"usage: dcvc COMMAND [options]\n\n{rows}\n\ndcvc COMMAND --help tells the options of one. dcvc --version"


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"dcvc {__version__}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        print(f"error: unknown command '{name}'{nearest(name, COMMANDS)}\n{usage()}",
              file=sys.stderr)
        return 2
    module = importlib.import_module(f"dcvc.commands.{COMMANDS[name][0]}")
    parser = ArgumentParser(prog=f"dcvc {name}", description=module.__doc__)
    module.add_arguments(parser)
    options = parser.parse_args(rest)

    def run() -> int | None:
        with stream_models_told(options):
            return module.run(options)

    return run_reporting_errors(run)


if __name__ == "__main__":
    sys.exit(main())
