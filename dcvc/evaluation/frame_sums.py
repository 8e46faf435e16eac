"""Sums over frames, for all that is averaged or added up: qualities, bits of each term."""

from collections.abc import Mapping


class FrameSums:
    """Sums of named numbers, added one frame at a time; memory does not grow with the frames.

        sums = FrameSums()
        sums.add({"i": 900.0})
        sums.add({"y": 60.0, "z": 10.0})
        sums.total                          {"i": 900.0, "y": 60.0, "z": 10.0}
        sums.means()                        {"i": 450.0, "y": 30.0, "z": 5.0}: over both frames
    """

    def __init__(self) -> None:
        self.frames = 0
        self.total: dict[str, float] = {}

    def add(self, values: Mapping[str, float]) -> None:
        """The numbers of one more frame; a name that it lacks counts as 0 in it."""
        self.frames += 1
        for name, value in values.items():
            self.total[name] = self.total.get(name, 0.0) + float(value)

    def means(self) -> dict[str, float]:
        return {name: value / self.frames for name, value in self.total.items()}
