"""Bad videos of a training set: each is told once, and too many of them are an error.

A few broken downloads should not stop a training. Most files unreadable means a wrong folder or a
failing disk: a training that went on would learn from the few that are left, and nobody would know.
on_bad_video="skip" allows the first and stops at the second: of 200 videos with max_bad_share =
0.1, the 21st bad one is an error.
"""

import logging
from collections.abc import Sequence

from dcvc.data.config import SamplingOptions
from dcvc.errors import DcvcError, ReadError

log = logging.getLogger("dcvc.data")


class BadVideos:
    """Counts them. errors: those known from the start, of `total` videos.

    Raises the first error itself with on_bad_video="raise"; ReadError where too many are bad."""

    def __init__(self, errors: Sequence[DcvcError], total: int, options: SamplingOptions) -> None:
        if errors and options.on_bad_video == "raise":
            raise errors[0]
        self.options, self.total, self.count = options, total, len(errors)
        self._rows: set[int] = set()            # those found bad while reading
        for error in errors:
            log.warning("video skipped: %s", error)
        if errors and len(errors) == total:
            raise self._too_many(f"the first: {errors[0]}")
        self._check(f"the first: {errors[0]}" if errors else "")

    def add(self, row: int, error: ReadError) -> None:
        """A video that turned out bad while it was read. Raises as at the start."""
        if self.options.on_bad_video == "raise":
            raise error
        # The same file is drawn again and again; it counts, and is told, once in each worker.
        if row not in self._rows:
            self._rows.add(row)
            self.count += 1
            log.warning("video skipped: %s", error)
        self._check(f"the last: {error}")

    def _check(self, example: str) -> None:
        # Divided, not multiplied: 0.29 · 100 is a little less than 29.
        if self.count and self.count / self.total > self.options.max_bad_share:
            raise self._too_many(example) from None

    def _too_many(self, example: str) -> ReadError:
        return ReadError(f"{self.count} of {self.total} videos are bad, needed at most "
                         f"{self.options.max_bad_share:.0%} (max_bad_share); {example}")
