"""The I-frame codec as checkpoints name it."""

import dataclasses

from dcvc.intra.config import IntraConfig, intra_entry, resolved_intra


def test_an_i_frame_codec_is_named_by_file_or_by_name(tmp_path):
    """A moved run finds its files beside it; a VQGAN's configuration may be a name and no file."""
    run, moved = tmp_path / "run", tmp_path / "moved"
    (run / "stage").mkdir(parents=True)
    (run / "vqgan.pt").write_text("weights")
    config = IntraConfig(type="vqgan", vqgan_config="llamagen-vq16", vqgan_checkpoint=str(run / "vqgan.pt"))
    entry = intra_entry(config, run / "stage")
    assert resolved_intra(entry, run / "stage" / "latest.pt") == config
    run.rename(moved)
    found = resolved_intra(entry, moved / "stage" / "latest.pt")
    assert found == dataclasses.replace(config, vqgan_checkpoint=str(moved / "vqgan.pt"))
    assert resolved_intra(None, run) is None
