"""Train and judge every combination of a sweep file (recipes, settings, seeds), and make one table
of them; the same command goes on after a stop."""

import argparse
import shlex
from collections.abc import Collection
from pathlib import Path

from dcvc.commands import eval as eval_command
from dcvc.commands import train as train_command
from dcvc.commands.arguments import ArgumentParser, add_flag
from dcvc.commands.output import check_target
from dcvc.data.prepare_options import Shard
from dcvc.errors import ReadError
from dcvc.training.sweep_file import Sweep, read_sweep, runs_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sweep", metavar="SWEEP.toml", help="the sweep file (docs/recipes.md)")
    parser.add_argument("-o", "--output", default="runs/sweep", metavar="DIR",
                        help="for the runs and the summary")
    parser.add_argument("--shard", metavar="I/N",
                        help="do only part I of N of the runs: start the others on other machines "
                             "with the same DIR")
    add_flag(parser, "dry_run", False, "print the commands of all runs and do nothing")
    add_flag(parser, "quiet", False, "print the summary only")


def _flags_of(module) -> Collection[str]:
    """Names of a command's options, and `videos`."""
    parser = ArgumentParser()
    module.add_arguments(parser)
    return [*parser.option_names, "videos"]


def run(options: argparse.Namespace) -> int | None:
    from dcvc.training.sweep_run import do_runs, run_folder

    sweep = read_sweep(options.sweep, _flags_of(train_command), _flags_of(eval_command))
    shard = Shard.parse(options.shard) if options.shard else None
    output = Path(options.output)
    folders = [run_folder(sweep, run, output) for run in runs_of(sweep)]
    mine = [folder for number, folder in enumerate(folders) if not shard or shard.holds(number)]
    if options.dry_run:
        for folder in mine:
            print(*(f"dcvc {shlex.join(words)}" for words in (folder.train, folder.evaluate)),
                  sep="\n")
        return 0
    check_target(options, "output", folder=True)
    failed = do_runs(mine, (lambda line: None) if options.quiet else print)
    # Of other shards' runs, those that are done by now.
    _write_summary(sweep, folders, output)
    if failed:
        raise ReadError(f"{len(failed)} of {len(mine)} runs failed: {'; '.join(failed)}")
    return 0


def _write_summary(sweep: Sweep, folders: list, output: Path) -> None:
    from dcvc.files import write_text
    from dcvc.report.results import read_results
    from dcvc.report.sweep_summary import summary_table
    from dcvc.report.tables import FORMATS
    from dcvc.training.sweep_run import is_done

    runs: dict[str, dict[int, dict]] = {}
    missing = []
    for folder in folders:
        by_seed = runs.setdefault(folder.run.variant, {})
        if is_done(folder):
            by_seed[folder.run.seed] = read_results(folder.results)
        else:
            missing.append(folder.run.name)
    if not any(runs.values()):
        return
    table = summary_table(runs, sweep.metric, sweep.baseline, missing)
    for name, ending in (("csv", "csv"), ("latex", "tex"), ("markdown", "md")):
        write_text(output / f"summary.{ending}", FORMATS[name](table))
    print(FORMATS["markdown"](table), output / "summary.md", sep="\n")
