"""Weights go back into the layout that they came from: the same files, with other numbers in them."""

import json
import zipfile
from pathlib import Path

import pytest
import torch
from kit import vqgan_layouts
from safetensors import safe_open

from dcvc.errors import InputError
from dcvc.intra import VQGANIFrameModel
from dcvc.intra.vqgan.loading import config_and_file, read_vqgan_file
from dcvc.intra.vqgan.writing import write_as_read
from dcvc.weights import read_checkpoint

# Of the golden vectors those whose containers the small random models do not have.
VECTORS = [(None, "diffusers_movq"), (None, "cosmos_di"),
           ("vqmodel_small.yaml", "vqmodel_small_lightning_callbacks.ckpt"),
           *(pytest.param(*case, marks=pytest.mark.slow) for case in (
               ("ibq", "ibq_small.ckpt"), (None, "janus_sharded"), ("fork_rvq_small.json", "fork_rvq_small.pt"),
               ("gumbelvq_small.yaml", "gumbelvq_small.pth"), (None, "diffusers_amused")))]
# Shards, averages, fused attention, a part of a larger model.
QUICK = {"amused", "ibq", "var", "llamagen"}


def described(path):
    """Nested names -> shapes, types and numbers of one file; of a TorchScript file its zip's entries."""
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dictionary)
    if path.suffix == ".json":
        return json.loads(path.read_text())
    if path.suffix == ".jit":
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist() if "/data/" not in name}
    return read_checkpoint(path) if path.suffix in (".pt", ".pth", ".ckpt", ".bin") else path.read_bytes()


def alike(a, b, values):
    """Whether both have the same names, nesting, shapes and number formats; values: and numbers."""
    if isinstance(a, dict):
        return list(a) == list(b) and all(alike(a[key], b[key], values) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(alike(x, y, values) for x, y in zip(a, b, strict=True))
    if isinstance(a, torch.Tensor):
        same = a.shape == b.shape and a.dtype == b.dtype and a.stride() == b.stride()
        return same and (not values or torch.equal(a, b))
    return type(a) is type(b) and (a == b or type(a).__name__ == "Foreign")


def goes_back(config, source, folder, in_source):
    """Write the source's own weights, then others; return what was written last."""
    config, file = config_and_file(config, source)
    for name, change in (("same", 0.0), ("other", 0.25)):
        # A multiple of 1/4 is exact in every number format that the files have, if the weights are.
        weights = {key: (value + change).to(value.dtype).float() for key, value in file.state.items()}
        written = write_as_read(source, weights, folder / name)
        made = {path.relative_to(folder / name) for path in (folder / name).rglob("*") if path.is_file()}
        assert made == in_source.keys()
        for path in made:
            # Of IBQ the raw weights become the averages.
            values = change == 0 and config.variant != "IBQ"
            assert alike(described(in_source[path]), described(folder / name / path), values), path
            # The numbers of tensors alone may differ: of a zip not even the pickle.
            if path.suffix in (".pt", ".pth", ".ckpt", ".bin"):
                pickles = [zipfile.ZipFile(one).read(f"{zipfile.ZipFile(one).namelist()[0].split('/')[0]}/data.pkl")
                           for one in (in_source[path], folder / name / path)]
                assert pickles[0] == pickles[1]
        for choice in (None, "raw"):
            state = read_vqgan_file(written, choice, use_ema=True if choice is None else None).state
            assert all(torch.equal(state[key].float(), weights[key]) for key in weights)
    return config, written, weights


@pytest.mark.parametrize("layout", [pytest.param(layout, marks=() if layout in QUICK else pytest.mark.slow)
                                    for layout in sorted(vqgan_layouts.WRITERS)])
def test_weights_go_back_into_every_layout(tmp_path, layout):
    given, source, *_ = vqgan_layouts.write(tmp_path / "in", layout)
    files = [path for path in (tmp_path / "in").rglob("*") if path.is_file()]
    if source.is_file():                                     # its config is given and does not lie in a hub's folder
        files = [source]
    base = source if source.is_dir() else source.parent
    config, written, weights = goes_back(given, source, tmp_path / "out",
                                         {path.relative_to(base): path for path in files})
    codec = VQGANIFrameModel(config, written, "cpu")
    assert all(torch.equal(value, weights[key]) for key, value in codec.model.state_dict().items())


@pytest.mark.parametrize(("config", "name"), VECTORS)
def test_weights_go_back_into_published_containers(vectors, tmp_path, config, name):
    folder = vectors / "vqgan"
    source = folder / name
    files = list(source.iterdir()) if source.is_dir() else [source]
    # Beside the halves of this model lies another form of it, which is not the one that is read.
    files = {Path(path.name): path for path in files if path.name != "model.pt"}
    goes_back(folder / config if config and "." in config else config, source, tmp_path, files)


def test_other_weights_and_old_files(tmp_path):
    """Of another model nothing is written; a file from before zips comes back as such a file."""
    given, source, _, state = vqgan_layouts.write(tmp_path / "in", "ibq")
    with pytest.raises(InputError, match=r"encoder.conv_in.bias: found in one of the file and the weights"):
        write_as_read(source, {key: value for key, value in state.items() if key != "encoder.conv_in.bias"},
                      tmp_path / "out")
    assert not (tmp_path / "out").exists()
    old = tmp_path / "old.ckpt"
    torch.save({"state_dict": state, "epoch": 3}, old, _use_new_zipfile_serialization=False)
    written = write_as_read(old, {key: value + 1 for key, value in state.items()}, tmp_path / "out")
    content = read_checkpoint(written)
    assert not zipfile.is_zipfile(written)
    assert alike({"state_dict": state, "epoch": 3}, content, values=False)
    assert all(torch.equal(content["state_dict"][key], value + 1) for key, value in state.items())
