"""The former place of `open_sequences`: scripts written before it moved still import it from here."""

from dcvc.data.eval_sequences import EvalSequence, open_sequences

__all__ = ["EvalSequence", "open_sequences"]
