"""`dcvc pull` from a real server on loopback: whole or not at all, resumed, checked, one line for every trouble."""

import errno
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from kit.light_models import tiny_light_codec
from model_server import serving
from safetensors.torch import load_file, save

from dcvc.checkpoint import from_pretrained, save_pretrained
from dcvc.cli import main
from dcvc.models import catalog, download

ROOT = Path(__file__).resolve().parents[2]
FILE, CARD = "/tiny/model.safetensors", "/tiny/model.json"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> dict[str, bytes]:
    """A small model as a server has it: path -> bytes."""
    file = save_pretrained(tiny_light_codec(), tmp_path_factory.mktemp("tiny") / "tiny")
    card = json.loads((file.parent / "model.json").read_text())
    return {FILE: file.read_bytes(), CARD: json.dumps({**card, "training": "none"}).encode()}


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """DCVC_HOME/models, empty; nothing in the package; no waiting between tries."""
    monkeypatch.setenv("DCVC_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DCVC_MODELS_URL", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(catalog, "BOXED", tmp_path / "boxed")
    monkeypatch.setattr(download, "WAITS", (0, 0, 0))
    return tmp_path / "home" / "models"


@pytest.fixture
def server(tiny):
    with serving(files=dict(tiny)) as server:
        yield server


def names(home: Path) -> list[str]:
    return sorted(path.name for path in home.iterdir()) if home.is_dir() else []


def fails(capsys, *words: str) -> str:
    """The one line with which `dcvc pull` ends."""
    capsys.readouterr()
    assert main(["pull", *words, "--quiet"]) == 1
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("error: ")
    assert error.count("\n") == 1, error
    return error


def test_a_name_is_pulled_whole_and_found(home, server, tiny, capsys, monkeypatch):
    assert main(["pull", "tiny", "--from", server.url + "/"]) == 0
    out, error = capsys.readouterr()
    assert str(home / "tiny") in out
    assert "pull: 100%" in error
    assert names(home) == ["tiny"]
    assert names(home / "tiny") == ["model.json", "model.safetensors"]
    assert (home / "tiny" / "model.safetensors").read_bytes() == tiny[FILE]
    card = json.loads((home / "tiny" / "model.json").read_text())
    assert card == {**json.loads(tiny[CARD]), "source": server.url + FILE}
    assert from_pretrained("tiny").inter_hash == tiny_light_codec().inter_hash
    # Again: nothing is brought. The environment variable does what --from does.
    monkeypatch.setenv("DCVC_MODELS_URL", server.url)
    assert main(["pull", "tiny"]) == 0
    assert "is here already" in capsys.readouterr().out
    assert len(server.ranges_of(FILE)) == 1


def test_a_url_needs_no_card_and_is_known_again(home, server, tiny, capsys):
    server.files = {"/deep/my-model.safetensors": tiny[FILE]}
    url = server.url + "/deep/my-model.safetensors"
    assert main(["pull", url + "?download=true", "--quiet"]) == 0
    out, error = capsys.readouterr()
    assert error == ""
    assert hashlib.sha256(tiny[FILE]).hexdigest() in out
    card = catalog.read_card(home / "my-model")
    assert {**json.loads(tiny[CARD]), "source": url + "?download=true"} == {**card, "training": "none"}
    assert main(["pull", url + "?download=true", "--quiet"]) == 0
    assert "is here already" in capsys.readouterr().out
    assert len(server.ranges_of("/deep/my-model.safetensors")) == 1
    assert main(["pull", url, "--name", "second", "--sha256", card["sha256"].upper(), "--quiet"]) == 0
    assert names(home) == ["my-model", "second"]


def test_a_redirect_is_followed_but_not_to_other_protocols(home, server, capsys, tmp_path):
    server.redirects = {"/go/model.safetensors": server.url + FILE}
    server.cut_after = [1000]                  # the second try asks for a range, through the redirect
    assert main(["pull", server.url + "/go/model.safetensors", "--quiet"]) == 0
    assert names(home) == ["go"]
    assert server.ranges_of(FILE) == [None, "bytes=1000-"]
    for place in ("file:///etc/passwd", "ftp://127.0.0.1/x.safetensors"):
        server.redirects = {"/off/model.safetensors": place}
        fails(capsys, server.url + "/off/model.safetensors")
    assert names(home) == ["go"]


@pytest.mark.parametrize(("words", "message"), [
    (["tinny"], "no address is known for this name"),
    (["ftp://x/model.safetensors"], "needed a URL that begins with http:// or https://"),
    (["file:///etc/passwd"], "needed a URL that begins with http:// or https://"),
    (["https://x/model.pt"], "needed the URL of a .safetensors file; others may execute code"),
    (["runs/a/model.safetensors"], "no URL and no name of a model"),
    (["https://x/model.safetensors"], "choose one with --name"),
    (["https://x/..%2F..%2Fetc.safetensors", "--name", "../up"], "found '../up' for the model's name"),
    (["https://x/.hidden.safetensors"], "found '.hidden' for the model's name"),
    (["tiny", "--sha256", "abc"], "--sha256: found 'abc', needed a SHA-256"),
])
def test_what_is_no_address_is_one_line(home, words, message, capsys):
    assert message in fails(capsys, *words)
    assert names(home) == []


def test_without_an_address_a_name_that_is_here_is_enough(home, capsys):
    save_pretrained(tiny_light_codec(), home / "tiny")
    assert main(["pull", "tiny"]) == 0
    assert "is here already" in capsys.readouterr().out
    assert "did you mean 'tiny'" in fails(capsys, "tinny")


# ---- broken connections


def test_a_broken_connection_is_tried_three_times_and_resumed(home, server, tiny):
    server.cut_after = [5000, 3000, 1000]
    assert main(["pull", "tiny", "--from", server.url, "--quiet"]) == 0
    assert server.ranges_of(FILE) == [None, "bytes=5000-", "bytes=8000-", "bytes=9000-"]
    assert (home / "tiny" / "model.safetensors").read_bytes() == tiny[FILE]


def test_a_server_that_stays_away_is_one_line_and_the_same_command_continues(home, server, capsys):
    server.cut_after = [5000, 0, 0, 10]
    assert "5010 bytes are here, the same command continues" in fails(capsys, "tiny", "--from", server.url)
    assert names(home) == [".tiny.pull"]
    assert catalog.model_folders() == {}
    assert main(["pull", "tiny", "--from", server.url, "--quiet"]) == 0
    assert server.ranges_of(FILE)[-1] == "bytes=5010-"
    assert names(home) == ["tiny"]


@pytest.mark.parametrize("habit", ["no ranges", "changed", "changed, If-Range not known", "shorter", "no validator"])
def test_where_the_rest_does_not_fit_it_starts_anew(home, server, tiny, habit, capsys):
    whole = len(tiny[FILE])
    server.etag, server.ranges = None if habit == "no validator" else '"one"', habit != "no ranges"
    server.files = {FILE: bytes(2 * whole)}
    server.cut_after = 4 * [1000] if habit in ("no ranges", "no validator") else [1000, 0, 0, 0]
    if habit == "shorter":
        server.cut_after[0] = whole + 1
    fails(capsys, server.url + FILE)
    assert names(home) == [".tiny.pull"]
    server.files = {FILE: tiny[FILE]}
    if habit.startswith("changed"):
        server.etag = '"two"'
    # The others tell a changed file by If-Range.
    server.if_range = habit not in ("changed, If-Range not known", "shorter")
    assert main(["pull", server.url + FILE, "--quiet"]) == 0
    assert (home / "tiny" / "model.safetensors").read_bytes() == tiny[FILE]
    assert names(home) == ["tiny"]


def test_all_bytes_are_here_already(home, server, tiny, monkeypatch, capsys):
    """A command that is killed while it checks the file."""
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dcvc.models.pull._compare", killed)
        assert main(["pull", "tiny", "--from", server.url, "--quiet"]) == 130
    assert names(home) == [".tiny.pull"]
    assert main(["pull", "tiny", "--from", server.url, "--quiet"]) == 0
    assert server.ranges_of(FILE) == [None, f"bytes={len(tiny[FILE])}-"]
    assert names(home) == ["tiny"]


def test_busy_servers_are_asked_again_and_refusals_are_not(home, server, capsys):
    server.status = [503, 429]
    assert main(["pull", "tiny", "--from", server.url, "--quiet"]) == 0
    assert len(server.ranges_of(FILE)) == 3
    for status, message in ((403, "the server does not give it (HTTP 403"), (404, "has no such file")):
        server.status = [status]
        assert message in fails(capsys, server.url + FILE, "--name", "other")
    assert len(server.ranges_of(FILE)) == 5
    assert "the server has no such card; is the name right?" in fails(capsys, "tinny", "--from", server.url)
    assert names(home) == ["tiny"]


def test_without_a_network_it_is_one_line(home, capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for words in ([f"http://127.0.0.1:{port}{FILE}"], ["tiny", "--from", f"http://127.0.0.1:{port}"],
                  ["http://no-such-host.invalid/a.safetensors"]):
        assert "is there a network" in fails(capsys, *words)
    assert names(home) == []


def test_a_silent_server_is_given_up(home, server, monkeypatch, capsys):
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    server.cut_after, server.pause = 4 * [100], threading.Event()
    assert "timed out; 400 bytes are here, the same command continues" in fails(capsys, server.url + FILE)


def test_kill_minus_9_in_the_middle_and_the_same_command_continues(home, server, tiny, capsys):
    server.cut_after, server.pause = [7000], threading.Event()
    words = [sys.executable, "-m", "dcvc.cli", "pull", "tiny", "--from", server.url, "--quiet"]
    process = subprocess.Popen(words, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    partial = home / ".tiny.pull" / "partial.safetensors"
    for _ in range(300):
        if partial.exists() and partial.stat().st_size == 7000:
            break
        time.sleep(0.05)
    # A second command does not write into the same file.
    assert "another process is pulling this model" in fails(capsys, "tiny", "--from", server.url)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert catalog.model_folders() == {}
    server.pause.set()
    server.pause = None
    assert main(["pull", "tiny", "--from", server.url, "--quiet"]) == 0
    assert server.ranges_of(FILE) == [None, "bytes=7000-"]
    assert (home / "tiny" / "model.safetensors").read_bytes() == tiny[FILE]
    assert names(home) == ["tiny"]


# ---- wrong files


def cut(data: bytes) -> bytes:
    return data[:-100]


def flipped(data: bytes) -> bytes:
    """One bit of one weight."""
    return data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]


def plain(data: bytes) -> bytes:
    return save({"weight": torch.zeros(3)})


def foreign(data: bytes) -> bytes:
    """Our format, and a configuration that is none."""
    return save({"model.a": torch.zeros(3)}, {"dcvc": json.dumps({"format": "dcvc-checkpoint-1", "inter": 3})})


def resealed(data: bytes) -> bytes:
    """A whole file of ours whose I-frame codec lacks its name."""
    from safetensors import safe_open

    path = Path(os.environ["DCVC_HOME"]).with_name("resealed.safetensors")
    path.write_bytes(data)
    with safe_open(path, "pt") as file:
        content = json.loads(file.metadata()["dcvc"])
    del content["intra_codec"]["codec"]
    return save(load_file(path), {"dcvc": json.dumps(content)})


@pytest.mark.parametrize(("change", "message"), [
    (cut, "not readable as a checkpoint"), (flipped, "damaged (the checksum of its tensors is wrong)"),
    (plain, "found no model of I-frames and P-frames"), (foreign, "error: http://"),
    (resealed, "cannot be built as a model (KeyError"), (lambda data: b"<html>", "not readable as a checkpoint"),
    (lambda data: b"", "empty file"),
])
def test_a_file_that_is_no_model_gets_no_name(home, server, tiny, change, message, capsys):
    server.files = {FILE: change(tiny[FILE])}
    error = fails(capsys, server.url + FILE)
    assert message in error
    assert "partial" not in error
    assert names(home) == []


@pytest.mark.parametrize("words", [[], ["--sha256", 64 * "0"]])
def test_a_wrong_sum_deletes_what_had_come(home, server, tiny, words, capsys):
    # The card's sum is that of the whole file; --sha256 that of no file.
    server.files[FILE] = tiny[FILE] if words else flipped(tiny[FILE])
    error = fails(capsys, server.url + FILE, *words)
    needed = words[1] if words else json.loads(tiny[CARD])["sha256"]
    assert f"found {hashlib.sha256(server.files[FILE]).hexdigest()}, needed {needed}" in error
    assert names(home) == []


def test_wrong_lengths_are_noticed(home, server, tiny, capsys):
    whole = len(tiny[FILE])
    server.length = whole + 5                  # the server promises more than it has, or other than its card says
    assert f"found a file of {whole + 5} bytes, needed {whole}" in fails(capsys, "tiny", "--from", server.url)
    server.files[CARD], server.ranges = b"{}", False
    assert f"of {whole + 5} bytes; {whole} bytes are here" in fails(capsys, server.url + FILE)
    server.length = whole - 5
    assert "not readable as a checkpoint" in fails(capsys, server.url + FILE, "--name", "other")
    assert names(home) == [".tiny.pull"]


@pytest.mark.parametrize(("card", "message"), [
    (b"<html>", "cannot be read as JSON"), (b"[]", "has no sha256"), (b"{}", "has no sha256"),
    (b'{"sha256": "12"}', "needed a SHA-256"), (b'{"sha256": "%s", "bytes": "9"}' % (64 * b"a"), "a whole number"),
    (b"{" + bytes(1 << 21), "needed a card"),
])
def test_a_card_that_is_none(home, server, card, message, capsys):
    server.files[CARD] = card
    assert message in fails(capsys, "tiny", "--from", server.url)
    assert names(home) == []


def test_a_card_of_another_file_counts_less_than_the_users_own_sum(home, server, tiny, capsys):
    server.files[CARD] = json.dumps({"sha256": 64 * "a", "bytes": 3, "training": "another"}).encode()
    assert main(["pull", server.url + FILE, "--sha256", json.loads(tiny[CARD])["sha256"]]) == 0
    assert "is the card of another file" in capsys.readouterr().err
    assert "training" not in catalog.read_card(home / "tiny")


# ---- the place


def test_another_model_of_the_name_is_replaced_by_force_alone(home, server, tiny, capsys):
    save_pretrained(tiny_light_codec(seed=1), home / "tiny")
    old = (home / "tiny" / "model.safetensors").read_bytes()
    assert "another model of this name is here" in fails(capsys, "tiny", "--from", server.url)
    assert "another model of this name is here" in fails(capsys, server.url + FILE)
    server.files[FILE] = cut(tiny[FILE])
    fails(capsys, "tiny", "--from", server.url, "--force")
    assert (home / "tiny" / "model.safetensors").read_bytes() == old
    server.files[FILE] = tiny[FILE]
    assert main(["pull", "tiny", "--from", server.url, "--force", "--quiet"]) == 0
    assert (home / "tiny" / "model.safetensors").read_bytes() == tiny[FILE]
    assert names(home) == ["tiny"]
    (home / "tiny" / "model.safetensors").write_bytes(flipped(tiny[FILE]))
    assert "is here, but damaged" in fails(capsys, "tiny", "--from", server.url)


def test_a_model_of_the_package_keeps_its_name(home, server, tiny, capsys):
    save_pretrained(tiny_light_codec(seed=1), catalog.BOXED / "tiny")
    assert "the package has another model of this name" in fails(capsys, "tiny", "--from", server.url, "--force")
    assert main(["pull", "tiny", "--from", server.url, "--name", "tiny2", "--quiet"]) == 0
    shutil.rmtree(catalog.BOXED)
    save_pretrained(tiny_light_codec(), catalog.BOXED / "tiny")
    assert main(["pull", "tiny", "--from", server.url, "--quiet"]) == 0
    assert names(home) == ["tiny2"]


def test_a_kill_between_the_renames_loses_no_model(home, server, tiny):
    save_pretrained(tiny_light_codec(seed=1), home / ".tiny.pull" / "replaced")
    (home / ".tiny.pull" / "whole").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dcvc.models.pull.download", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert main(["pull", "tiny", "--from", server.url, "--force", "--quiet"]) == 130
    assert names(home) == ["tiny"]
    assert from_pretrained("tiny").inter_hash == tiny_light_codec(seed=1).inter_hash


def test_no_room_is_told_before_the_first_byte(home, server, monkeypatch, capsys):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1000, 0, 1000))
    error = fails(capsys, "tiny", "--from", server.url)
    assert "needs 0." in error
    assert "MB left; free space or set DCVC_HOME to another place" in error
    assert catalog.model_folders() == {}


def test_a_full_disk_is_one_line(home, server, monkeypatch, capsys):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert "cannot be written (No space left on device)" in fails(capsys, "tiny", "--from", server.url)
    assert catalog.model_folders() == {}
    assert main(["pull", "tiny", "--from", server.url, "--quiet"]) == 0


def test_a_home_that_is_no_folder_is_one_line(home, server, capsys):
    home.parent.write_text("a file")
    assert "cannot be written" in fails(capsys, "tiny", "--from", server.url)
