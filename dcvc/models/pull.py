"""A model from the network into DCVC_HOME/models/NAME, whole or not at all.

    .NAME.pull/partial.safetensors     what is here of it, see dcvc/models/download.py
    .NAME.pull/whole/                  model.safetensors and model.json, for the moment before they
                                       become the folder NAME by one rename
    .NAME.pull/replaced/               the model that stood there, in the same moment (--force)
    .NAME.pull/lock                    held while a process pulls

Before the rename the file's SHA-256 is compared, and the file is opened as a model: what is no
model never gets a name.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from dcvc.config import nearest
from dcvc.errors import DcvcError, InputError, MissingError, ReadError
from dcvc.files import hold_alone, refusal_named, write_text
from dcvc.models.catalog import (
    CARD,
    MODEL_FILE,
    file_sha256,
    model_folders,
    models_home,
    read_card,
)
from dcvc.models.download import PartialFile, Progress, download, read_small

# The address below which models lie by name, where --from does not give it.
BASE_URL = "DCVC_MODELS_URL"
SUFFIX = Path(MODEL_FILE).suffix
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Address:
    """Where a model lies. listed: it is known by name, and so there is a card."""

    name: str
    url: str
    listed: bool = False

    @property
    def card_url(self) -> str:
        return urljoin(self.url, CARD)


@dataclass(frozen=True)
class Pulled:
    """A model's folder; whether it was brought just now; whether a SHA-256 was there to compare."""

    folder: Path
    new: bool
    compared: bool


def address_of(word: str, base: str | None = None, name: str | None = None) -> Address:
    """The address of a model by its URL or, below the URL `base`, by its name.

    name: what it shall be called here. Raises InputError, MissingError.
    """
    if "://" in word:
        return Address(_checked_name(name or _name_in(_checked_url(word)), word), word)
    if "/" in word or word.endswith(SUFFIX):
        raise InputError(f"{word}: no URL and no name of a model; a file that is here already is "
                         "taken by --model as it is")
    base = base or os.environ.get(BASE_URL)
    if not base:
        raise MissingError(f"{word}: no address is known for this name"
                           f"{nearest(word, model_folders())}; give the URL of its {SUFFIX} file, "
                           f"or --from (or {BASE_URL}) with the URL that models lie below")
    _checked_name(word, word)
    url = f"{base.rstrip('/')}/{word}/{MODEL_FILE}"
    return Address(_checked_name(name or word, word), _checked_url(url), listed=True)


def _checked_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise InputError(f"{url}: found {parts.scheme}://{parts.netloc}, needed a URL that begins "
                         "with http:// or https://")
    if not parts.path.endswith(SUFFIX):
        raise InputError(f"{url}: needed the URL of a {SUFFIX} file; others may execute code")
    return url


def _name_in(url: str) -> str:
    """…/light-s.safetensors and …/light-s/model.safetensors -> light-s"""
    path = PurePosixPath(unquote(urlsplit(url).path))
    return path.parent.name if path.name == MODEL_FILE else path.stem


def _checked_name(name: str, where: str) -> str:
    # It becomes the name of a folder: no other place may be reached by it.
    if not NAME.fullmatch(name):
        raise InputError(f"{where}: found {name!r} for the model's name, needed letters, digits "
                         "and -_.+; choose one with --name")
    return name


def checked_sha256(text: str, where: str) -> str:
    if not SHA256.fullmatch(text.strip().lower()):
        raise InputError(f"{where}: found {text!r}, needed a SHA-256, which has 64 hexadecimal "
                         "digits")
    return text.strip().lower()


def pull(address: Address, describe: Callable[[Path], dict[str, Any]], *, sha256: str | None = None,
         force: bool = False, progress: Progress = lambda here, total: None,
         tell: Callable[[str], None] = lambda text: None) -> Pulled:
    """Bring a model here, unless it is here already.

    describe: what a file's own contents say for its card; raises DcvcError where it is no model.
    sha256: what the file's must be; else what its card says. force: take the place of another model
    of this name. Raises InputError, MissingError, ReadError; then nothing has changed but the part
    of the file that is here.
    """
    card = _card_at(address, tell)
    needed = sha256 or card.get("sha256")
    if card and card.get("sha256") not in (None, needed):
        tell(f"{address.card_url} is the card of another file and left out")
        card = {}
    folder = models_home() / address.name
    with _workshop(address.name, folder) as workshop:
        if (here := _already_here(address, needed, force)) is not None:
            return Pulled(here, new=False, compared=needed is not None)
        partial = PartialFile(workshop / f"partial{SUFFIX}")
        download(address.url, partial, card.get("bytes"), progress, tell)
        try:
            _compare(partial.path, needed, address.url)
            facts = describe(partial.path)
        except DcvcError as error:
            # These bytes are wrong, and more of them would not help: the next try starts anew.
            partial.remove()
            raise type(error)(str(error).replace(str(partial.path), address.url)) from None
        # What the file says itself counts more than what was said about it.
        _put_in_place(partial, folder, {**card, **facts, "source": address.url})
    return Pulled(folder, new=True, compared=needed is not None)


def _card_at(address: Address, tell: Callable[[str], None]) -> dict[str, Any]:
    """The card beside the file. Where the model is known by name there must be one, with a SHA-256;
    beside a URL it is a help, and what is no card there is left out."""
    url, data = address.card_url, read_small(address.card_url)
    try:
        if data is None:
            raise MissingError(f"{url}: the server has no such card; is the name right?")
        try:
            card = json.loads(data)
        except (ValueError, RecursionError):
            raise ReadError(f"{url}: cannot be read as JSON, needed the card of a model") from None
        if not isinstance(card, dict) or not isinstance(card.get("sha256"), str):
            raise ReadError(f"{url}: has no sha256, needed the card of a model")
        card["sha256"] = checked_sha256(card["sha256"], f"{url}: sha256")
        if type(card.get("bytes", 0)) is not int:
            raise ReadError(f"{url}: bytes: found {card['bytes']!r}, needed a whole number")
    except DcvcError as error:
        if address.listed:
            raise
        if data is not None:
            tell(f"{error}; going on without")
        return {}
    return card


@contextmanager
def _workshop(name: str, folder: Path) -> Iterator[Path]:
    """The hidden folder in which a model is made ready, held against a second process. It stays
    where it holds a part of the file. Raises InputError, ReadError."""
    path = folder.with_name(f".{name}.pull")
    with refusal_named(path):
        path.mkdir(parents=True, exist_ok=True)
        lock = open(path / "lock", "w", encoding="utf-8")  # noqa: SIM115
    with lock:
        hold_alone(lock, f"{name}: another process is pulling this model; wait for it")
        # A kill between the two renames of `_put_in_place` left the name without a model.
        with refusal_named(folder):
            if (path / "replaced").exists() and not folder.exists():
                os.rename(path / "replaced", folder)
        for leftover in ("replaced", "whole"):
            shutil.rmtree(path / leftover, ignore_errors=True)
        try:
            yield path
        finally:
            if not (path / f"partial{SUFFIX}").exists():
                shutil.rmtree(path, ignore_errors=True)


def _already_here(address: Address, needed: str | None, force: bool) -> Path | None:
    """The folder of this very model where it is here. Raises InputError where another one has its
    name and may not be replaced."""
    name, home = address.name, models_home()
    folder = model_folders().get(name)
    if folder is None:
        if (home / name).exists() and not force:
            raise InputError(f"{home / name}: exists and holds no {MODEL_FILE}; --force replaces "
                             "it, --name gives the model another name")
        return None
    found = file_sha256(folder / MODEL_FILE)
    if found == needed:
        return folder
    if folder.parent != home:
        # Models of the package are found first: the pulled one never would be.
        raise InputError(f"{name}: the package has another model of this name (SHA-256 {found}); "
                         "give this one another --name")
    if force:
        return None
    card = read_card(folder)
    whole = found == card.get("sha256")
    if needed is None and whole and card.get("source") == address.url:
        return folder
    what = "another model of this name is here" if whole else "is here, but damaged or without card"
    raise InputError(f"{name}: {what} (found SHA-256 {found}, needed {needed or 'unknown'}); "
                     "--force replaces it, --name gives the new one another name")


def _compare(path: Path, needed: str | None, url: str) -> None:
    found = file_sha256(path)
    if needed is not None and found != needed:
        raise ReadError(f"{url}: wrong SHA-256: found {found}, needed {needed}; what had come is "
                        "deleted; try again, or ask whoever gave the sum")


def _put_in_place(partial: PartialFile, folder: Path, card: dict[str, Any]) -> None:
    workshop = partial.path.parent
    whole, replaced = workshop / "whole", workshop / "replaced"
    with refusal_named(folder):
        whole.mkdir()
        write_text(whole / CARD, json.dumps(card, indent=1, ensure_ascii=False) + "\n")
        os.replace(partial.path, whole / MODEL_FILE)
        partial.remove()
        if folder.exists():
            os.rename(folder, replaced)
        os.rename(whole, folder)
