"""What both demos are told, and the folder that they write into."""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from dcvc.errors import InputError

# What a demo leaves; by these a folder is known as one.
RECORD, CLIPS, PARTS = "demo.json", "clips", ("clips", "run", "tuned")


@dataclass(frozen=True)
class Demo:
    """folder: for everything that is written. videos: the user's own; empty: synthetic clips."""

    folder: Path
    videos: tuple[str, ...] = ()
    val_videos: str | None = None
    seed: int = 0
    device: str = "auto"
    quiet: bool = False

    def tell(self, text: str) -> None:
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """An empty folder; what an earlier demo left is removed, but nothing else. Raises InputError
        for a folder of something else."""
        if self.folder.exists() and any(self.folder.iterdir()):
            if not (self.folder / RECORD).exists() and not (self.folder / CLIPS).exists():
                raise InputError(f"{self.folder}: found a folder with other files, needed an empty or "
                                 "new one; choose another with --checkpoint_dir")
            self.tell(f"beginning anew in {self.folder}")
            for name in PARTS:
                shutil.rmtree(self.folder / name, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
