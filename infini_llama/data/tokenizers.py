"""Which tokenizer a run uses, and where it came from: said in the log, the checkpoint and the summary.

Rule book:

* with a bundle, the tokenizer is the bundle's, or an error: nothing is ever put in its place;
* a name that begins with `./`, `../`, `~` or `/` is a folder that `save_pretrained` wrote, in the project's own tree;
* without a bundle, it is the one in the local cache; only a run that is `online` asks the Hub, for its present commit,
  and ends when the Hub does not answer;
* built-in bytes take the place of a tokenizer that cannot be had only where `tokenizer_fallback: byte` says so;
* a run that goes on from a checkpoint has the tokenizer that the checkpoint was made with.

The network is shut, or found open, before this module is imported, since importing it imports transformers.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import constants, try_to_load_from_cache
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from bundler.errors import BundleError, HubError, IntegrityError, NetworkError, NotInstalledError
from bundler.files.digest import sha256_bytes
from bundler.home.installed import InstalledBundle
from bundler.hub.connection.client import HubClient
from infini_llama.errors import ConfigError
from infini_llama.progress import say
from infini_llama.run_folder.checkpoints import PROVENANCE

END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True, kw_only=True)
class TokenizerOrigin:
    """Where a run's tokenizer came from.

    Attributes:
        source: Which of the places it is.
        name: What the configuration names, even where that could not be had.
        place: The folder that it was read from; empty for the built-in one.
        commit: Of its repository, where that is known.
        sha256: Over the files that make it up, as it would be saved.
    """

    source: Literal["bundle", "cache", "hub", "folder", "built-in"]
    name: str
    place: str = ""
    commit: str = ""
    sha256: str = ""

    def __str__(self) -> str:
        if self.source == "built-in":
            return f"built-in bytes, in place of {self.name}"
        where = {"bundle": "bundle", "cache": "local cache", "hub": "Hub", "folder": "folder"}[self.source]
        return f"{self.name} ({where}{f', commit {self.commit[:12]}' if self.commit else ''})"


@dataclass(frozen=True, kw_only=True)
class ChosenTokenizer:
    """A tokenizer and where it came from."""

    tokenizer: PreTrainedTokenizerBase
    origin: TokenizerOrigin


def choose_tokenizer(
    name: str,
    *,
    bundle: InstalledBundle | None = None,
    fallback: Literal["none", "byte"] = "none",
    online: bool = False,
) -> ChosenTokenizer:
    """Load the tokenizer of a run, and say in the log which it is.

    Args:
        name: Repo id or alias, or a folder.
        bundle: The verified bundle to take it from, if the run has one.
        fallback: What to do without a bundle when it cannot be had.
        online: Whether the Hub may be asked.

    Raises:
        NotInstalledError: It is neither in the bundle nor in the local cache.
        HubError: The Hub was asked, and refused it.
        NetworkError: The Hub was to be asked, and could not be.
        IntegrityError: It is there, and does not load.
    """
    if is_folder(name):
        chosen = _from_folder(name)
    elif bundle is not None:
        if fallback != "none":
            say(f"note: tokenizer_fallback: {fallback} is not used: a bundle has its tokenizer, or the run ends")
        chosen = _from_bundle(name, bundle)
    else:
        try:
            chosen = _from_hub(name) if online else _from_cache(name)
        except (NotInstalledError, HubError, NetworkError) as error:
            if fallback != "byte":
                raise
            say(f"WARNING: no tokenizer {name!r} ({error.message}): training on the built-in bytes, as configured")
            chosen = _describe_choice(byte_tokenizer(), "built-in", name)
    say(f"tokenizer {chosen.origin}, {len(chosen.tokenizer):,} tokens")
    return chosen


def is_folder(name: str) -> bool:
    """Tell whether a configuration names a folder; a repo of that name is never meant, though `a/b` may exist here."""
    return name.startswith(("./", "../", "/", "~"))


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of the 256 bytes and an end-of-text token, which needs no file and loses nothing.

    Text that spells the end-of-text token is bytes like any other.
    """
    alphabet = sorted(ByteLevel.alphabet())
    core = Tokenizer(BPE(vocab={character: number for number, character in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = ByteLevel(add_prefix_space=False)
    core.decoder = ByteLevelDecoder()
    core.add_special_tokens([AddedToken(END_OF_TEXT, special=True, normalized=False)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=END_OF_TEXT,
        bos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        split_special_tokens=True,
        clean_up_tokenization_spaces=False,
    )


def check_resumed(checkpoint: Path, origin: TokenizerOrigin) -> None:
    """Make sure that a run goes on with the tokenizer that its checkpoint was made with.

    Raises:
        ConfigError: It would be another one: every token would mean something else.
    """
    recorded = json.loads((checkpoint / PROVENANCE).read_bytes()).get("tokenizer_origin") or {}
    if recorded.get("sha256") not in (None, "", origin.sha256):
        before = TokenizerOrigin(**recorded)
        raise ConfigError(
            f"{checkpoint} was trained with the tokenizer {before}, and now there is {origin}: its weights would "
            "mean other tokens",
            hint="go on where that tokenizer is to be had, or start a new run in another --output-dir",
        )


def origin_record(origin: TokenizerOrigin) -> dict[str, Any]:
    """Return an origin for a checkpoint's provenance."""
    return asdict(origin)


def _describe_choice(
    tokenizer: PreTrainedTokenizerBase,
    source: Literal["bundle", "cache", "hub", "folder", "built-in"],
    name: str,
    place: Path | None = None,
    commit: str = "",
) -> ChosenTokenizer:
    origin = TokenizerOrigin(
        source=source, name=name, place=str(place or ""), commit=commit, sha256=_fingerprint(tokenizer)
    )
    return ChosenTokenizer(tokenizer=tokenizer, origin=origin)


def _fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a digest of what a tokenizer's ids mean; where its files stand does not matter."""
    return sha256_bytes(json.dumps(sorted(tokenizer.get_vocab().items()), ensure_ascii=False).encode())


def _from_bundle(name: str, bundle: InstalledBundle) -> ChosenTokenizer:
    snapshot = bundle.snapshot_path(name)
    loaded = _load(
        str(snapshot),
        f"{snapshot}: the files of {name!r} passed for those of the lock, and still load no tokenizer",
        f"`bundle verify {bundle.name}` hashes them, which --quick does not; if they are right, fetch the bundle "
        "again with a `tokenizers` entry for it: `bundle fetch` proves that it loads",
    )
    return _describe_choice(loaded, "bundle", name, snapshot, snapshot.name)


def _from_folder(name: str) -> ChosenTokenizer:
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise NotInstalledError(
            f"{name}: expected a folder with a tokenizer, found {'a file' if folder.exists() else 'nothing'} "
            f"(looked in {Path.cwd()})",
            hint="write one with tokenizer.save_pretrained(FOLDER); a repo's name does not begin with . or /",
        )
    loaded = _load(str(folder), f"{name}: no tokenizer loads from this folder", "write it with save_pretrained")
    return _describe_choice(loaded, "folder", name, folder.resolve())


def _from_hub(name: str) -> ChosenTokenizer:
    # Resolved first, and loaded by its commit: the library would use the cache without a word when the Hub is away.
    try:
        commit = HubClient(on_note=say).revision(name, "model", "main").commit
    except (HubError, NetworkError) as error:
        error.hint = "; or ".join(filter(None, (error.hint, _REMEDY)))
        raise
    try:
        loaded: Any = AutoTokenizer.from_pretrained(name, revision=commit)
    except Exception as error:
        first_line = str(error).partition("\n")[0]
        raise HubError(
            f"{name} at commit {commit} has no tokenizer that loads: {first_line}", hint=_REMEDY
        ) from error
    return _describe_choice(_refuse_empty(loaded, name), "hub", name, _snapshot(name, commit), commit)


def _from_cache(name: str) -> ChosenTokenizer:
    try:
        loaded: Any = AutoTokenizer.from_pretrained(name, local_files_only=True)
    except Exception as error:
        raise NotInstalledError(
            f"no tokenizer {name!r} in the local cache {constants.HF_HUB_CACHE}", hint=_REMEDY
        ) from error
    snapshot = _snapshot(name)
    return _describe_choice(
        _refuse_empty(loaded, name), "cache", name, snapshot, snapshot.name if snapshot else ""
    )


def _snapshot(name: str, revision: str | None = None) -> Path | None:
    """Return the cache's folder that a tokenizer's files are in."""
    for file in ("tokenizer_config.json", "tokenizer.json", "config.json"):
        found = try_to_load_from_cache(name, file, revision=revision)
        if isinstance(found, str):
            return Path(found).parent
    return None


_REMEDY = (
    "bring a bundle that holds it (`bundle fetch` where there is internet, `bundle install` here) and name it with "
    "--bundle; or name a folder that save_pretrained wrote, as in `tokenizer: ./tokenizer`; or train on bytes, which "
    "needs no files: --tokenizer-fallback byte"
)


def _load(place: str, problem: str, hint: str) -> PreTrainedTokenizerBase:
    try:
        return _refuse_empty(AutoTokenizer.from_pretrained(place, local_files_only=True), place)
    except BundleError:
        raise
    except Exception as error:  # Whatever transformers raises, the remedy is the same.
        raise IntegrityError(f"{problem}: {error}", hint=hint) from error


def _refuse_empty(tokenizer: Any, place: str) -> PreTrainedTokenizerBase:
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    if len(tokenizer) == 0:
        raise IntegrityError(f"{place}: its tokenizer has an empty vocabulary")
    return tokenizer
