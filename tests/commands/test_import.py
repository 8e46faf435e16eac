"""`dcvc import`: published weights, made by rule, become a folder that every command takes."""

import json

import pytest
import torch
from kit.uf_weights import uf_weights

from dcvc.checkpoint import load_codec
from dcvc.cli import main
from dcvc.commands import train
from dcvc.commands.arguments import ArgumentParser
from dcvc.data import VideoReader
from dcvc.data.config import DataConfig
from dcvc.demo.synthetic import write_synthetic_clips
from dcvc.inter.light.config import SIZES
from dcvc.inter.light.model import LightPFrameModel
from dcvc.intra.light.config import SIZES as INTRA_SIZES
from dcvc.intra.light.model import LightIFrameModel
from dcvc.schedule import Stage
from dcvc.training.config import TrainConfig
from dcvc.training.job import Job
from dcvc.training.trainer import train_stage


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Files of the published names and layouts: one bare of a trainer's things, one a snapshot."""
    folder = tmp_path_factory.mktemp("published")
    models = {"ld": LightPFrameModel(SIZES["uf-ld"]), "intra": LightIFrameModel(INTRA_SIZES["uf-intra"])}
    weights = {kind: uf_weights(kind, {name: list(value.shape) for name, value in model.state_dict().items()})
               for kind, model in models.items()}
    wrapped = {f"module.{name}": value for name, value in weights["ld"].items()}
    torch.save({"state_dict": weights["intra"]}, folder / "cvpr2026_image.pth.tar")
    torch.save({"epoch": 3, "net": wrapped, "opt": {}}, folder / "cvpr2026_video_ld.pth.tar")
    return folder, weights


@pytest.fixture(scope="module")
def imported(published, tmp_path_factory):
    folder, _ = published
    run = tmp_path_factory.mktemp("runs") / "uf"
    # The other way round than documented: files are known by their entries.
    assert main(["import", str(folder / "cvpr2026_video_ld.pth.tar"), str(folder / "cvpr2026_image.pth.tar"),
                 "-o", str(run)]) == 0
    return run


def test_the_folder_holds_both_codecs(imported, published):
    codec = load_codec(imported)
    for model, kind in ((codec.p_frame, "ld"), (codec.intra, "intra")):
        assert all(torch.equal(value, published[1][kind][name]) for name, value in model.state_dict().items())
    assert [path.name for path in imported.iterdir()] == ["model.pt"]


def test_a_moved_folder_codes_and_decodes(imported, tmp_path):
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (moved / "model.pt").symlink_to(imported / "model.pt")
    clip, = write_synthetic_clips(tmp_path / "clips", 1, 3, (48, 40))
    rest = ["--model", str(moved), "--quiet", "--device", "cpu"]
    assert main(["encode", str(clip), str(tmp_path / "a.dcvc"), *rest, "--verify"]) == 0
    assert main(["decode", str(tmp_path / "a.dcvc"), str(tmp_path / "a.mkv"), *rest]) == 0
    assert len(VideoReader(tmp_path / "a.mkv")) == 3


def test_the_folder_is_evaluated_and_reported(imported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_synthetic_clips("clips", 1, 2, (48, 40))
    assert main(["eval", "clips", "--model", str(imported), "-o", "uf.json", "--quiet", "--device", "cpu"]) == 0
    point = json.loads((tmp_path / "uf.json").read_text())["points"][0]
    assert point["setting"] == "uf"
    assert main(["report", "uf.json", "-o", "report.html"]) == 0


def test_info_tells_parameters_and_cost(imported, published, capsys):
    assert main(["info", str(imported), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    sums = {kind: [sum(part[key] for part in parts) for key in ("parameters", "encoder", "decoder")]
            for kind, parts in shown["parts"].items()}
    assert sums["P"] == pytest.approx([9_650_176, 86.2, 72.0], abs=0.5)
    assert sums["I"] == pytest.approx([42_179_328, 454.35, 335.7], abs=0.5)
    assert shown["intra"]["type"] == "light"
    # The published file by itself.
    assert main(["info", str(published[0] / "cvpr2026_image.pth.tar")]) == 0
    text = capsys.readouterr().out
    assert "I-frames" in text
    assert "42,179,328" in text


def test_fine_tuning_takes_the_i_frame_codec_along(imported, tmp_path):
    """Unless another one is given. What is tuned codes with it again."""
    parser = ArgumentParser()
    train.add_arguments(parser)
    words = ["--load_pretrained", str(imported), "--recipe", "dcvc2021"]
    carried = train.recipe_job_from(parser.parse_args(words)).intra
    assert (carried.type, carried.checkpoint) == ("light", str(imported / "model.pt"))
    given = train.recipe_job_from(parser.parse_args([*words, "--i_frame_quality", "3"])).intra
    assert (given.type, given.quality) == ("compressai", 3)
    write_synthetic_clips(tmp_path / "clips", 1, 4, (64, 64))
    data = DataConfig(use_video_dataset=True, train_video_dir=(str(tmp_path / "clips"),), crop_size=64, batch_size=1)
    stage = Stage(1, 2, "all", "reconstruction", ("z", "y"), learning_rate=1e-6, max_steps=1)
    train_stage(Job(stage=stage, data=data, intra=carried, train=TrainConfig(skip_eval=True), inter=SIZES["uf-ld"],
                    checkpoint_dir=tmp_path / "tuned", load_pretrained=str(imported), device="cpu", quiet=True))
    before, after = load_codec(imported), load_codec(tmp_path / "tuned")
    assert after.intra_hash == before.intra_hash
    assert after.inter_hash != before.inter_hash
    change = (after.p_frame.recon_head.head.bias - before.p_frame.recon_head.head.bias).detach()
    assert 0 < float(change.abs().max()) < 1e-4


def refused(capsys, *words):
    assert main(["import", *map(str, words)]) == 1
    message = capsys.readouterr().err.splitlines()
    assert len(message) == 1
    return message[0]


def test_two_of_one_kind_or_one_alone_are_refused(published, tmp_path, capsys):
    image, video = (published[0] / f"cvpr2026_{name}.pth.tar" for name in ("image", "video_ld"))
    target = tmp_path / "out"
    assert "found no P-frame codec beside it" in refused(capsys, image, "-o", target)
    assert "found no I-frame codec beside it" in refused(capsys, video, "-o", target)
    assert "found a second I-frame codec" in refused(capsys, image, image, "-o", target)
    assert "found a second P-frame codec" in refused(capsys, video, image, video, "-o", target)
    assert "none.tar: no such file" in refused(capsys, image, tmp_path / "none.tar", "-o", target)
    assert not target.exists()
    target.mkdir()
    (target / "precious").touch()
    assert "out: exists already" in refused(capsys, image, video, "-o", target)


# One entry or two that tell a sibling of the family, as the published code names them.
SIBLINGS = {
    "P-frame model of DCVC-RT": ("feature_adaptor_i.dc.0.weight", "feature_adaptor_p.weight", "q_recon"),
    "P-frame model of DCVC-FM": ("feature_adaptor_I.weight", "mv_y_q_enc", "y_q_enc", "optic_flow.a"),
    "P-frame model of DCVC-DC": ("feature_adaptor_I.weight", "mv_y_q_basic_enc", "mv_y_q_scale_enc"),
    "P-frame model of DCVC-HEM": ("feature_adaptor_I.weight", "mv_y_q_basic", "y_q_basic"),
    "P-frame model of DCVC-TCM": ("feature_adaptor_I.weight", "contextual_entropy_parameter.0.weight"),
    "8 frames at a time": ("feature_adaptor_m.conv.0.dc.0.weight", "y_spatial_prior_adaptor_1.adaptor.weight"),
    "I-frame model of DCVC-RT": ("enc.enc_1.dc.0.weight", "hyper_enc.0.dc.0.weight", "q_scale_enc",
                                 "y_spatial_prior_reduction.weight"),
    "I-frame model of DCVC-FM": ("q_scale_enc", "y_spatial_prior_reduction.weight", "refine.1.weight"),
    "I-frame model of DCVC-DC": ("q_basic_enc", "q_scale_enc", "refine.1.weight"),
    "I-frame model of DCVC-HEM": ("q_basic", "q_scale", "refine.1.weight"),
    "I-frame model of CompressAI": ("g_a.0.weight", "h_a.0.weight"),
}


@pytest.mark.parametrize("name", SIBLINGS)
def test_siblings_are_named_as_what_they_are(name, tmp_path, capsys):
    torch.save({"state_dict": {key: torch.zeros(1) for key in SIBLINGS[name]}}, tmp_path / "x.pth.tar")
    message = refused(capsys, tmp_path / "x.pth.tar", "-o", tmp_path / "out")
    assert name in message
    assert "needed the I-frame or the low-delay P-frame model of DCVC-UF" in message


def test_another_size_and_damage_are_found(published, tmp_path, capsys):
    image, weights = published[0] / "cvpr2026_image.pth.tar", dict(published[1]["ld"])
    weights["encoder.down.weight"] = weights["encoder.down.weight"][:96]
    torch.save({"state_dict": weights}, tmp_path / "size.pth.tar")
    message = refused(capsys, image, tmp_path / "size.pth.tar", "-o", tmp_path / "out")
    assert "entry encoder.down.weight has shape (96, 256, 3, 3), needed (128, 256, 3, 3)" in message
    whole = (published[0] / "cvpr2026_video_ld.pth.tar").read_bytes()
    (tmp_path / "cut.pth.tar").write_bytes(whole[:len(whole) // 2])
    assert "cut.pth.tar: not readable as a checkpoint" in refused(
        capsys, image, tmp_path / "cut.pth.tar", "-o", tmp_path / "out")
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    (tmp_path / "flipped.pth.tar").write_bytes(flipped)
    assert "flipped.pth.tar: damaged" in refused(capsys, image, tmp_path / "flipped.pth.tar", "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()
