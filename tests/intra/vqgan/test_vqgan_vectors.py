"""Golden vectors of other implementations: codes exactly equal, reconstructions within 1e-4."""

import json
import shutil

import numpy as np
import pytest
import torch

from dcvc.errors import DcvcError, InputError
from dcvc.intra import VQGANIFrameModel

CASES = [
    ("vqmodel_small.json", "vqmodel_small.pth", "vqmodel_small_io.npz"),
    ("vqmodel_small.yaml", "vqmodel_small.pth", "vqmodel_small_io.npz"),
    ("vqmodel_small.json", "vqmodel_small_withloss.pth", "vqmodel_small_io.npz"),
    ("vqmodel_small.yaml", "vqmodel_small_lightning_callbacks.ckpt", "vqmodel_small_io.npz"),
    ("fork_vqgan_emavq_small.json", "fork_vqgan_emavq_small.pt", "fork_vqgan_emavq_small_io.npz"),
    ("fork_rvq_small.json", "fork_rvq_small.pt", "fork_rvq_small_io.npz"),
    ("gumbelvq_small.yaml", "gumbelvq_small.pth", "gumbelvq_small_io.npz"),
]


@pytest.mark.parametrize(("config", "checkpoint", "data"), CASES)
def test_vectors(vectors, config, checkpoint, data):
    folder = vectors / "vqgan"
    codec = VQGANIFrameModel(folder / config, folder / checkpoint, "cpu")
    data = np.load(folder / data)
    x = torch.from_numpy(data["input"])
    with torch.inference_mode():
        assert np.abs(codec.model.prequant(x).numpy() - data["prequant"]).max() < 2e-5
        indices = codec.encode_indices((x + 1) / 2)
        expected = data["indices"] if "indices" in data else data["indices_argmax"]
        assert indices.shape == expected.shape
        assert np.array_equal(indices.numpy(), expected)
        decoded = codec.model.decode(indices.reshape(1, -1, *indices.shape[-2:])).numpy()
    assert np.abs(decoded - data["decoded_from_indices"]).max() < 1e-4
    out = codec((x + 1) / 2)
    assert np.abs(out.x_hat.numpy() - np.clip(data["decoded_from_indices"] / 2 + 0.5, 0, 1)).max() < 1e-4
    uniform = expected.size * np.log2(codec.codes)
    assert float(out.bits["i"]) == pytest.approx(uniform)
    assert float(-torch.log2(out["likelihoods"]["y"]).sum()) == pytest.approx(uniform)
    assert out["indices"].shape == out["likelihoods"]["y"].shape
    assert set(out.keys()) == {"x_hat", "likelihoods", "indices"}


def test_empty_checkpoint_is_refused(vectors):
    folder = vectors / "vqgan"
    with pytest.raises(InputError, match="no tensors"):
        VQGANIFrameModel(folder / "fork_vqgan_emavq_small.json", folder / "fork_vqgan_emavq_small_EMPTY.pt", "cpu")


@pytest.mark.parametrize(("change", "words"), [
    ({"n_embed": 128}, "n_embed 256, the config says 128"),
    ({"model_variant": "VQModel"}, "variant EMAVQ, the config says VQModel"),
    ({"rvq_levels": 4}, "variant EMAVQ, the config says RVQ"),
    ({"model_variant": "EMAVG"}, "did you mean 'EMAVQ'"),
    ({"n_embed": None}, "n_embed"),
    ({"ddconfig": None}, "ddconfig"),
])
def test_contradicting_config_is_refused(vectors, tmp_path, change, words):
    values = json.loads((vectors / "vqgan" / "fork_vqgan_emavq_small.json").read_text())
    values["model_args"].update(change)
    for key, value in change.items():
        if value is None:
            del values["model_args"][key]
    path = tmp_path / "config.json"
    path.write_text(json.dumps(values))
    with pytest.raises(DcvcError, match=words) as caught:
        VQGANIFrameModel(path, vectors / "vqgan" / "fork_vqgan_emavq_small.pt", "cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("change", "words"), [
    ({"n_embed": 128}, r"embedding.weight: found shape \[256, 32\], the config needs \[128, 32\]; check n_embed"),
    ({"embed_dim": 16}, r"embed_dim"),
    ({"model_variant": "EMAVQ"}, "set model_args.model_variant to VQModel"),
])
def test_file_contradicting_config_names_entry_and_key(vectors, tmp_path, change, words):
    values = json.loads((vectors / "vqgan" / "vqmodel_small.json").read_text())
    values["model_args"].update(change)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match=words):
        VQGANIFrameModel(path, vectors / "vqgan" / "vqmodel_small.pth", "cpu")


def test_missing_and_cut_files(vectors, tmp_path):
    config = vectors / "vqgan" / "vqmodel_small.json"
    with pytest.raises(FileNotFoundError, match="no such file"):
        VQGANIFrameModel(config, tmp_path / "none.pth", "cpu")
    cut = tmp_path / "cut.pth"
    shutil.copy(vectors / "vqgan" / "vqmodel_small.pth", cut)
    cut.chmod(0o600)
    cut.write_bytes(cut.read_bytes()[:100_000])
    with pytest.raises(RuntimeError, match="not readable as a checkpoint"):
        VQGANIFrameModel(config, cut, "cpu")
