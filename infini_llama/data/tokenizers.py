"""Choose the tokenizer of a run, and record where it came from, for the log, the checkpoint and the summary.

Rule book:

* with a bundle, the tokenizer comes from the bundle; if that fails, it is an error, and no other is used;
* a name that begins with `./`, `../`, `~` or `/` is a folder that `save_pretrained` wrote;
* without a bundle, it comes from the local cache. Only an `online` run asks the Hub, for the present commit, and fails
  if the Hub does not answer;
* built-in bytes replace a missing tokenizer only if `tokenizer_fallback: byte` is set;
* a run that continues from a checkpoint must have the tokenizer of the checkpoint.

Importing this module imports transformers, so the network must be shut, or checked, before.
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
        source: Where it came from.
        name: The name in the configuration, even if another tokenizer was used instead.
        place: The folder that it was read from; empty for the built-in one.
        commit: Commit of its repository, if known.
        sha256: SHA-256 over the files that `save_pretrained` would write.
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
    """Load the tokenizer of a run, and log which one it is.

    Args:
        name: Repo id or alias, or a folder.
        bundle: The verified bundle to take it from, if the run has one.
        fallback: What to use, without a bundle, if the tokenizer is not available.
        online: Whether to ask the Hub.

    Raises:
        NotInstalledError: It is neither in the bundle nor in the local cache.
        HubError: The Hub refused it.
        NetworkError: The Hub cannot be reached.
        IntegrityError: It is there, but does not load.
    """
    if is_folder(name):
        chosen = _load_from_folder(name)
    elif bundle is not None:
        if fallback != "none":
            say(f"note: tokenizer_fallback: {fallback} is not used: a bundle has its tokenizer, or the run ends")
        chosen = _load_from_bundle(name, bundle)
    else:
        try:
            chosen = _load_from_hub(name) if online else _load_from_cache(name)
        except (NotInstalledError, HubError, NetworkError) as error:
            if fallback != "byte":
                raise
            say(f"WARNING: no tokenizer {name!r} ({error.message}): training on the built-in bytes, as configured")
            chosen = _describe_choice(byte_tokenizer(), "built-in", name)
    say(f"tokenizer {chosen.origin}, {len(chosen.tokenizer):,} tokens")
    return chosen


def is_folder(name: str) -> bool:
    """Return whether a name in a configuration means a folder; `a/b` means a repo, even if such a folder exists."""
    return name.startswith(("./", "../", "/", "~"))


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of the 256 bytes and an end-of-text token; it needs no file and encodes any text exactly.

    The end-of-text token is never found in text: its spelling is encoded as bytes.
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
    """Check that a resumed run has the tokenizer of its checkpoint.

    Raises:
        ConfigError: It has another one, so every token would mean something else.
    """
    recorded = json.loads((checkpoint / PROVENANCE).read_bytes()).get("tokenizer_origin") or {}
    if recorded.get("sha256") not in (None, "", origin.sha256):
        before = TokenizerOrigin(**recorded)
        raise ConfigError(
            f"{checkpoint} was trained with the tokenizer {before}, and now there is {origin}: its weights would "
            "mean other tokens",
            hint="continue where that tokenizer is available, or start a new run in another --output-dir",
        )


def origin_record(origin: TokenizerOrigin) -> dict[str, Any]:
    """Return an origin as plain values for a checkpoint's provenance."""
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
    """Return a digest of what a tokenizer's ids mean; the place of its files does not matter."""
    return sha256_bytes(json.dumps(sorted(tokenizer.get_vocab().items()), ensure_ascii=False).encode())


def _load_from_bundle(name: str, bundle: InstalledBundle) -> ChosenTokenizer:
    snapshot = bundle.snapshot_path(name)
    loaded = _load(
        str(snapshot),
        f"{snapshot}: the files of {name!r} match the lock, but no tokenizer loads from them",
        f"`bundle verify {bundle.name}` hashes them, which --quick does not; if they are right, fetch the bundle "
        "again with a `tokenizers` entry for it: `bundle fetch` proves that it loads",
    )
    return _describe_choice(loaded, "bundle", name, snapshot, snapshot.name)


def _load_from_folder(name: str) -> ChosenTokenizer:
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise NotInstalledError(
            f"{name}: expected a folder with a tokenizer, found {'a file' if folder.exists() else 'nothing'} "
            f"(looked in {Path.cwd()})",
            hint="write one with tokenizer.save_pretrained(FOLDER); a repo's name does not begin with . or /",
        )
    loaded = _load(str(folder), f"{name}: no tokenizer loads from this folder", "write it with save_pretrained")
    return _describe_choice(loaded, "folder", name, folder.resolve())


def _load_from_hub(name: str) -> ChosenTokenizer:
    # Resolve the commit first: given a branch, the library would silently use the cache if the Hub does not answer.
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
    return _describe_choice(_refuse_empty(loaded, name), "hub", name, _find_snapshot(name, commit), commit)


def _load_from_cache(name: str) -> ChosenTokenizer:
    try:
        loaded: Any = AutoTokenizer.from_pretrained(name, local_files_only=True)
    except Exception as error:
        raise NotInstalledError(
            f"no tokenizer {name!r} in the local cache {constants.HF_HUB_CACHE}", hint=_REMEDY
        ) from error
    snapshot = _find_snapshot(name)
    return _describe_choice(
        _refuse_empty(loaded, name), "cache", name, snapshot, snapshot.name if snapshot else ""
    )


def _find_snapshot(name: str, revision: str | None = None) -> Path | None:
    """Return the snapshot folder in the cache that has a tokenizer's files; None if there is none."""
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
    except Exception as error:  # transformers raises many kinds of errors; what to do is the same for all.
        raise IntegrityError(f"{problem}: {error}", hint=hint) from error


def _refuse_empty(tokenizer: Any, place: str) -> PreTrainedTokenizerBase:
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    if len(tokenizer) == 0:
        raise IntegrityError(f"{place}: its tokenizer has an empty vocabulary")
    return tokenizer
