"""How many of a tokenizer's codes a sequence used, and how evenly.

    codes 3 3 3 5     used 2, perplexity 2^(entropy) = 2^0.81 = 1.75

Of a tokenizer with several codes at a position (D levels) both are the mean over the levels.
"""

import numpy as np


class CodeCount:
    """Counts codes of any number: of 2^18 possible ones only those are held that occurred."""

    def __init__(self) -> None:
        self.levels: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, codes: np.ndarray) -> None:
        """codes: integers `(B, D, h, w)`."""
        for level in range(codes.shape[1]):
            found, counts = np.unique(codes[:, level], return_counts=True)
            if level < len(self.levels):
                before, earlier = self.levels[level]
                merged, place = np.unique(np.concatenate([before, found]), return_inverse=True)
                counts = np.bincount(place, np.concatenate([earlier, counts])).astype(np.int64)
                self.levels[level] = merged, counts
            else:
                self.levels.append((found, counts))

    def result(self) -> dict[str, float]:
        """codes_used, perplexity; nothing where nothing was counted."""
        if not self.levels:
            return {}
        shares = [counts / counts.sum() for _, counts in self.levels]
        entropies = [float(-(share * np.log2(share)).sum()) for share in shares]
        return {"codes_used": float(np.mean([len(share) for share in shares])),
                "perplexity": float(np.mean([2.0**entropy for entropy in entropies]))}
