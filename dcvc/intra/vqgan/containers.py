"""Read a checkpoint of any container without executing what is in it: tensors, numbers, strings, lists, dicts only.

Files with pickled classes of other packages (Lightning callbacks, configs) are read by an unpickler that knows a few
constructors of tensors and puts an inert object in the place of everything else.
"""

from typing import Any

from torch import Tensor

from dcvc.errors import InputError

CONTAINERS = ("state_dict", "model_state_dict", "model")
ANCHOR = "encoder.conv_in.weight"                            # stands in every layout; what is before it is a prefix
DROPPED = ("loss.", "colorize", "model_ema.", "quantize.codebook_used", "perceptual_loss.", "discriminator.")


def find_state(content: dict[Any, Any], where: str) -> dict[str, Tensor]:
    """The VQGAN's entries of a checkpoint: out of its container, without prefix, without what only training needs."""
    tables = [content.get(name) for name in CONTAINERS] + [content]
    tables = [table for table in tables if isinstance(table, dict)]
    states = [{str(key): value for key, value in table.items() if isinstance(value, Tensor)} for table in tables]
    state = next((state for state in states if state), None)
    if not state:
        raise InputError(f"{where}: no tensors in it (found the keys {', '.join(map(str, content)) or 'none'}), "
                         "needed the weights of a VQGAN; the file was saved empty")
    prefixes = sorted({key[:-len(ANCHOR)] for key in state if key == ANCHOR or key.endswith("." + ANCHOR)})
    if not prefixes:
        raise InputError(f"{where}: no entry ends in {ANCHOR} among {len(state)} tensors (first: {next(iter(state))}); "
                         "this is no VQGAN of a known layout")
    first_stage = [prefix for prefix in prefixes if prefix.endswith("first_stage_model.")]
    prefix = (first_stage or sorted(prefixes, key=len))[0]
    return {key.removeprefix(prefix): value for key, value in state.items()
            if key.startswith(prefix) and not key.removeprefix(prefix).startswith(DROPPED)}
