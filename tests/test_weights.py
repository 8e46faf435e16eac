"""Files of weights: every kind of damage ends in one line that names the file, for every kind of weights."""

import argparse
import collections
import dataclasses
import functools
import pathlib
import pickle
import random
import re
import sys
import types
from typing import Any

import numpy as np
import pytest
import torch
from kit.light_models import tiny_light_codec
from safetensors.torch import save_file

from dcvc.checkpoint import load_codec, load_p_frame_model, save_pretrained
from dcvc.errors import DcvcError, InputError, MissingError, ReadError
from dcvc.evaluation.lpips import LPIPS, load_lpips
from dcvc.inter.dcvc2021.config import SIZES
from dcvc.inter.dcvc2021.model import DCVC
from dcvc.inter.registry import inter_entry
from dcvc.intra import VQGANIFrameModel, build_intra_codec
from dcvc.intra.compressai import import_zoo
from dcvc.intra.config import IntraConfig
from dcvc.intra.vqgan.config import VQGANConfig
from dcvc.intra.vqgan.model import VQGAN
from dcvc.weights import (
    Foreign,
    Misfit,
    bare_weights,
    check_entries,
    check_finite_inside,
    read_checkpoint,
    write_checkpoint,
    write_model,
)

TINY = VQGANConfig(variant="EMAVQ", n_embed=64, embed_dim=8, ch=32, ch_mult=(1, 2), num_res_blocks=1,
                   attn_resolutions=(), z_channels=16)
ZOO_MODEL = "bmshj2018-hyperprior"


def _p_frame():
    return DCVC(SIZES["tiny"]).state_dict(), load_p_frame_model


def _vqgan():
    state = {key: value + 0.05 * torch.randn(value.shape) for key, value in VQGAN(TINY).state_dict().items()}
    return state, lambda path: VQGANIFrameModel(TINY, path)


def _compressai():
    import_zoo()
    from compressai.models import ScaleHyperprior

    return ScaleHyperprior(8, 12).state_dict(), lambda path: build_intra_codec(
        IntraConfig(model_name=ZOO_MODEL, quality=1, checkpoint=str(path)))


def _lpips():
    metric = LPIPS("alex")
    state = {key: value for key, value in metric.state_dict().items() if key.startswith("features.")}
    return state | {f"lin{k}.model.1.weight": torch.rand(head.shape) for k, head in enumerate(metric.heads)}, \
        lambda path: load_lpips((str(path),))


# kind of weights -> how they are made, and an entry to spoil.
KINDS = {"p_frame": (_p_frame, "mvEncoder.2.weight"), "vqgan": (_vqgan, "decoder.conv_in.weight"),
         "compressai": (_compressai, "h_s.0.weight"), "lpips": (_lpips, "features.3.weight")}


@pytest.fixture(scope="module", params=KINDS)
def weights(request):
    """(kind, state dict, function that loads a file, entry to spoil)"""
    make, entry = KINDS[request.param]
    torch.manual_seed(2)
    return request.param, *make(), entry


class Malicious:
    """Would write a file when unpickled the usual way."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def _truncated(path, state, entry):
    torch.save(state, path)
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])


def _flipped(path, state, entry):
    torch.save(state, path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def _spoiled(**changes):
    """A whole file in which the entry is changed: `value` makes its new value, None leaves it out."""

    def damage(path, state, entry):
        state = {key: value for key, value in state.items() if key != entry or changes["value"]}
        if changes["value"]:
            state[entry] = changes["value"](state[entry].clone())
        torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 3}, path)

    return damage


def _with_nan(value):
    value.view(-1)[7] = torch.nan
    return value


def _extra(path, state, entry):
    spare = "lin7.model.1.weight" if "lin0.model.1.weight" in state else "spare.weight"
    torch.save({**state, spare: torch.zeros(3)}, path)


def _malicious(path, state, entry):
    torch.save(Malicious(path.with_name("mark")), path)


def _bare_malicious(path, state, entry):
    path.write_bytes(pickle.dumps(Malicious(path.with_name("mark")), 2))


# kind of damage -> how it is done, the kind of error, and what its message says ({entry}: the spoilt one).
DAMAGE = {
    "truncated zip": (_truncated, ReadError, "not readable as a checkpoint"),
    "flipped bit": (_flipped, ReadError, "damaged .checksum of entry"),
    "pickle with code": (_malicious, DcvcError, "nothing in it was executed|found Foreign"),
    "bare pickle with code": (_bare_malicious, ReadError, "nothing in it was executed|not readable"),
    "NaN": (_spoiled(value=_with_nan), InputError, "{entry}: found NaN or infinite values"),
    "infinite": (_spoiled(value=lambda value: value / 0), InputError, "{entry}: found NaN or infinite values"),
    "wrong shape": (_spoiled(value=lambda value: value[..., :1]), InputError, "{entry}"),
    "missing entry": (_spoiled(value=None), InputError, "{entry}"),
    "extra entry": (_extra, InputError, "spare.weight|heads.7"),
    "empty file": (lambda path, state, entry: path.write_bytes(b""), ReadError, "empty file"),
    "text file": (lambda path, state, entry: path.write_text("no weights"), ReadError, "checkpoint"),
    "no file": (lambda path, state, entry: None, MissingError, "no such"),
    "empty state": (lambda path, state, entry: torch.save({"model": {}}, path), InputError, "no tensors"),
    "a list": (lambda path, state, entry: torch.save([1, 2], path), InputError, "found list"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_one_line_that_names_the_file(weights, tmp_path, damage):
    _, state, load, entry = weights
    spoil, error, words = DAMAGE[damage]
    path = tmp_path / "given.pt"
    spoil(path, state, entry)
    with pytest.raises(error, match=words.replace("{entry}", entry)) as caught:
        load(path)
    assert "given.pt" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("layout", ["bare", "wrapped", "safetensors"])
def test_undamaged_files_load(weights, tmp_path, layout):
    _, state, load, _ = weights
    path = tmp_path / ("given.safetensors" if layout == "safetensors" else "given.pt")
    if layout == "safetensors":
        save_file({key: value.contiguous() for key, value in state.items()}, path)
    elif layout == "wrapped":
        wrapped = {f"_orig_mod.module.{key}": value for key, value in state.items()}
        torch.save({"state_dict": {}, "model": wrapped, "step": 7}, path)
    else:
        torch.save(state, path)
    load(path)


def test_code_beside_the_weights_is_put_aside_and_never_run(weights, tmp_path):
    _, state, load, _ = weights
    torch.save({"state_dict": state, "callback": Malicious(tmp_path / "mark")}, tmp_path / "given.pt")
    load(tmp_path / "given.pt")
    assert isinstance(read_checkpoint(tmp_path / "given.pt")["callback"], Foreign)
    assert not (tmp_path / "mark").exists()


def test_our_own_checkpoints_are_checked_alike(tmp_path):
    model = DCVC(SIZES["tiny"])
    state, path = model.state_dict(), tmp_path / "latest.pt"
    for change, words in (({}, None), ({"mvEncoder.2.weight": state["mvEncoder.2.weight"] * torch.nan}, "NaN"),
                          ({"mvEncoder.2.weight": torch.zeros(2)}, r"has shape \(2,\), needed"),
                          ({"spare.weight": torch.zeros(2)}, "entry spare.weight is not part of this model")):
        write_checkpoint(path, {"model": {**state, **change}, "inter": inter_entry(model.config), "progress": {}})
        if words is None:
            assert load_p_frame_model(path).config == model.config
            continue
        with pytest.raises(InputError, match=r"latest\.pt: .*" + words):
            load_p_frame_model(path)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("part", ["model", "intra_model"])
@pytest.mark.parametrize("write", [write_checkpoint, write_model, functools.partial(write_model, half=True)],
                         ids=["pt", "safetensors", "half"])
def test_a_model_of_both_codecs_with_what_is_no_number_is_refused_at_loading(tmp_path, write, part, value):
    save_pretrained(tiny_light_codec(), tmp_path / "whole")
    content = read_checkpoint(next((tmp_path / "whole").glob("*.safetensors")))
    content.pop("format")
    entry = next(name for name, tensor in content[part].items() if tensor.is_floating_point() and tensor.ndim > 1)
    content[part][entry].view(-1)[-1] = value
    path = tmp_path / ("given.pt" if write is write_checkpoint else "given.safetensors")
    write(path, content)
    with pytest.raises(InputError, match=rf"given\.\w+: .*{re.escape(entry)}: found NaN or infinite values") as caught:
        load_codec(path)
    assert "\n" not in str(caught.value)


def test_the_first_misfit_is_a_wrong_shape_then_a_missing_then_a_spare_entry():
    needed = {"a": torch.zeros(2), "b": torch.zeros(3), "c": torch.zeros(4)}
    found = {"spare": torch.zeros(1), "b": torch.zeros(5), "c": torch.zeros(4)}

    def first(state):
        with pytest.raises(InputError) as caught:
            check_entries(state, needed, "file", lambda misfit: repr(dataclasses.astuple(misfit)))
        return str(caught.value)

    assert first(found) == "file: " + repr(dataclasses.astuple(Misfit("b", (5,), (3,))))
    assert first({**found, "b": torch.zeros(3)}) == "file: ('a', None, (2,))"
    assert first({**needed, "spare": torch.zeros(1)}) == "file: ('spare', (1,), None)"
    check_entries(needed, needed, "file")


def test_what_is_no_plain_tensor_is_no_weight():
    kept = torch.zeros(2)
    odd = {"sparse": kept.to_sparse(), "shell": torch.empty(2, device="meta"), "number": 3, 5: kept}
    assert list(bare_weights(odd, "file")) == ["5"]


@pytest.mark.filterwarnings("ignore")
def test_torchscript_is_not_run(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(tmp_path / "script.pt"))
    with pytest.raises(ReadError, match=r"script\.pt: not readable"):
        read_checkpoint(tmp_path / "script.pt")


# ---- whatever weights lie in

CONV = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}
MEAN = {key: value + 0.5 for key, value in CONV.items()}


def named(prefix, weights):
    return {prefix + key: value for key, value in weights.items()}


def lit_ema(weights):
    """LitEma's buffers: names without dots."""
    return {"model_ema." + key.replace(".", ""): value for key, value in weights.items()} | {
        "model_ema.decay": torch.tensor(0.99), "model_ema.num_updates": torch.tensor(7)}


# what a trainer wrote -> which of both sets its own tools take.
BOTH = {
    "LlamaGen": ({"model": CONV, "ema": MEAN, "discriminator": {"x": torch.zeros(1)}}, "ema"),
    "timm": ({"state_dict": CONV, "state_dict_ema": MEAN, "epoch": 3}, "ema"),
    "ConvNeXt": ({"model": CONV, "model_ema": MEAN}, "ema"),
    "BasicSR": ({"params": CONV, "params_ema": named("module.", MEAN)}, "ema"),
    "ema_state_dict": ({"model_state_dict": named("_orig_mod.", CONV), "ema_state_dict": MEAN}, "ema"),
    "shadow parameters": ({"net": CONV, "ema": {"decay": 0.9, "num_updates": torch.tensor(3), "shadow": MEAN}}, "ema"),
    "torch.optim.swa_utils": ({"model": CONV, "averaged_model": {"n_averaged": torch.tensor(5),
                                                                 **named("module.", MEAN)}}, "ema"),
    "taming": ({"state_dict": {**CONV, **lit_ema(MEAN)}}, "raw"),
    "Lightning with a callback's": ({"pytorch-lightning_version": "2.1", "state_dict": named("model.", CONV),
                                     "ema_state_dict": named("model.", MEAN)}, "raw"),
    "Lightning's WeightAveraging": ({"pytorch-lightning_version": "2.6", "state_dict": named("model.", MEAN),
                                     "current_model_state": named("model.", CONV)}, "ema"),
}


@pytest.mark.parametrize("trainer", BOTH)
def test_of_two_sets_of_weights_the_owners_is_taken_and_it_is_said(trainer, capsys):
    content, default = BOTH[trainer]
    sets = {"raw": CONV, "ema": MEAN}
    for choice in ("raw", "ema", None):
        found = bare_weights(content, f"{trainer}.pt", choice=choice)
        assert found.keys() == CONV.keys()
        assert all(torch.equal(found[key], value) for key, value in sets[choice or default].items())
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{trainer}.pt: holds weights as they were trained and averaged" in said
    assert ("those that were trained" in said) == (default == "raw")


SETS_OF = {"p_frame": lambda path, choice: load_p_frame_model(path, weights=choice),
           "compressai": lambda path, choice: build_intra_codec(
               IntraConfig(model_name=ZOO_MODEL, quality=1, checkpoint=str(path), weights=choice)),
           "vqgan": lambda path, choice: VQGANIFrameModel(TINY, path, weights=choice)}


@pytest.mark.parametrize("keys", [("model", "ema"), ("state_dict", "state_dict_ema"), ("net", "model_ema")])
@pytest.mark.parametrize("kind", SETS_OF)
def test_every_reader_takes_the_weights_that_the_user_names(kind, keys, tmp_path):
    state, _ = KINDS[kind][0]()
    entry = KINDS[kind][1]
    path = tmp_path / "both.pth"
    torch.save({keys[0]: state, keys[1]: {**state, entry: state[entry] + 1}}, path)
    sums = {}
    for choice in ("raw", "ema"):
        codec = SETS_OF[kind](path, choice)
        sums[choice] = sum(float(value.double().sum()) for name, value in codec.state_dict().items()
                           if name.endswith(entry))
    assert sums["ema"] - sums["raw"] == pytest.approx(state[entry].numel(), rel=1e-3)


def test_an_average_of_the_parameters_alone_takes_the_other_entries_along():
    found = bare_weights({"model": {**CONV, "running": torch.tensor(9.0)}, "ema": MEAN}, "x")
    assert (found["running"], found["a.bias"][0]) == (9, 1.5)
    with pytest.raises(InputError, match="no averaged weights"):
        bare_weights({"model": CONV}, "x", choice="ema")
    # A table of that name with something else in it is no average.
    assert bare_weights({"model": CONV, "ema": {"other": torch.ones(1)}}, "x")["a.bias"][0] == 1


class Settings:
    """A class that only the trainer's own program has."""

    def __init__(self):
        self.rate = 3


BESIDE = {"numpy number": np.float64(1.5), "numpy array": np.arange(3), "namespace": argparse.Namespace(a=1),
          "path": pathlib.PurePosixPath("/x/y"), "class": Settings(), "function": torch.nn.functional.relu,
          "counter": collections.Counter("aab"), "device": torch.device("cpu"), "random": random.Random(3)}


@pytest.mark.parametrize(("container", "prefix"), [("net", "_orig_mod.module."), ("state_dict", "module._orig_mod.")])
def test_weights_are_read_whatever_lies_beside_them(container, prefix, weights, tmp_path):
    _, state, load, _ = weights
    path = tmp_path / "beside.pth"
    torch.save({container: named(prefix, state), **BESIDE}, path)
    assert load(path) is not None


class Node:
    """As OmegaConf's: held in each other, with the classes of typing, and a state of their own."""

    def __init__(self, parent, content):
        self.__dict__.update(_parent=parent, _content=content, _flags_cache=None, _metadata=Any)

    def __getstate__(self):
        return {**self.__dict__, "_dict": collections.defaultdict(list)}

    def __setstate__(self, state):
        raise RuntimeError("ran")


@pytest.mark.parametrize("module", ["omegaconf.dictconfig", "their.trainer.settings"])
@pytest.mark.parametrize("where", ["config", "hyper_parameters"])
def test_configurations_of_packages_that_are_not_here_are_put_aside(module, where, weights, tmp_path, monkeypatch):
    _, state, load, _ = weights
    made = types.ModuleType(module)
    made.Node = type("Node", (Node,), {"__module__": module})
    path = tmp_path / "given.ckpt"
    with monkeypatch.context() as patch:
        for end in range(1, module.count(".") + 1):
            name = ".".join(module.split(".")[:end])
            patch.setitem(sys.modules, name, types.ModuleType(name))
        patch.setitem(sys.modules, module, made)
        top = made.Node(None, {})
        top._content["lr"] = made.Node(top, {"a": pathlib.PosixPath("/x"), "b": np.int64(3)})
        torch.save({where: top, "state_dict": state, "list": [top, (top, {"x": top})]}, path)
    assert module not in sys.modules
    assert load(path) is not None


@pytest.mark.parametrize("place", ["ema.shadow", "optimizer.state"])
def test_what_is_not_finite_beside_our_weights_is_refused_too(place):
    whole = {"optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}},
             "ema": {"shadow": {"a": torch.ones(2)}, "updates": 3}}
    check_finite_inside(whole, "latest.pt", "training")
    part, inner = place.split(".")
    spoiled = whole[part][inner]
    (spoiled[0] if part == "optimizer" else spoiled).update(a=torch.tensor([1.0, -torch.inf]))
    with pytest.raises(InputError, match=rf"latest\.pt: training\.{place}.*: found NaN or infinite values"):
        check_finite_inside(whole, "latest.pt", "training")
