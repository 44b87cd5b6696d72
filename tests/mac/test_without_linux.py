"""The online machine may be a Mac: its work where what only Linux has is missing, all of it and piece by piece.

Simulated: see `tests.mac.macos` for what that is.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundler.errors import ProofError
from bundler.files.links import ignores_case
from bundler.make.proof.process import home as home_module
from bundler.plan.layout import layout
from tests.support.bundles import blob_store, lock_of, locked_repo
from tests.support.hub import RunningHub
from tests.support.keys import make_key
from tests.support.process import run, run_python, script
from tests.support.remote import write_repo

_ROOT = Path(__file__).parents[2]
PIECES = (
    "os.sched_getaffinity",
    "os.pipe2",
    "os.posix_fadvise",
    "os.fdatasync",
    "os.O_PATH",
    "mmap.MAP_POPULATE",
    "pwritev2",
    "libc",
    "/proc",
    "platform",
)


def test_every_module_imports_where_all_of_it_is_missing() -> None:
    run_python(
        """
        import importlib, pkgutil
        from tests.mac.macos import EVERYTHING, take_away
        take_away(EVERYTHING)
        import bundler
        # What stands in others' interpreters, loaded alone there; and programs.
        apart = (".site.", ".watch.", ".__main__")
        names = [module.name for module in pkgutil.walk_packages(bundler.__path__, "bundler.")]
        for name in names:
            if not any(part in f"{name}." for part in apart):
                importlib.import_module(name)
        assert len(names) > 200, names
        """,
        env={"PYTHONPATH": str(_ROOT)},
    )


@pytest.mark.parametrize("piece", PIECES)
def test_a_bundle_is_made_verified_split_and_signed_without(piece: str, tmp_path: Path) -> None:
    make_key(tmp_path)
    run_python(
        """
        import sys
        from pathlib import Path
        from tests.mac.macos import take_away
        take_away([sys.argv[1]])
        from bundler.files.hash_many import LARGE_BYTES, blake3_files
        from bundler.make.sign import sign_bundle
        from bundler.make.split import split_bundle
        from bundler.verify.files import verify_files
        from tests.support.bundles import locked_repo, tiny_bundle
        work = Path(sys.argv[2])
        # More than a large write, and enough to be hashed by a child.
        files = {"a.bin": bytes(9 << 20), "b.txt": b"b"}
        bundle = tiny_bundle(work, locked_repo("org/m", files), contents=files.values())
        (work / "large").write_bytes(bytes(LARGE_BYTES))
        [(_, digests)] = blake3_files([work / "large"], jobs=2)
        assert digests.size_bytes == LARGE_BYTES, digests
        verify_files(bundle).raise_if_failed()
        sign_bundle(bundle, work / "key")
        split = split_bundle(bundle, 1 << 16, work / "v.tar.zst")
        verify_files(split.volumes).raise_if_failed()
        """,
        piece,
        tmp_path,
        env={"PYTHONPATH": str(_ROOT)},
    )


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    root = tmp_path_factory.mktemp("hub")
    content = random.Random(5).randbytes(3_000_000)
    header = json.dumps(
        {"t": {"dtype": "U8", "shape": [len(content)], "data_offsets": [0, len(content)]}}
    ).encode()
    weights = len(header).to_bytes(8, "little") + header + content
    write_repo(root / "org/m", {"config.json": b"{}", "model.safetensors": weights})
    with RunningHub(root) as running:
        yield running


@pytest.mark.slow
def test_the_whole_way_from_a_recording_to_a_signed_bundle(tmp_path: Path, hub: RunningHub) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(
        f"import sys\nsys.path.append({str(_ROOT)!r})\n"
        "from tests.mac.macos import EVERYTHING, take_away\ntake_away(EVERYTHING)\n"
    )
    make_key(tmp_path)
    code = "import os, huggingface_hub as h; assert not hasattr(os, 'fdatasync'); h.snapshot_download('org/m')"
    environment = {
        "PYTHONPATH": str(tmp_path / "site"),
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(tmp_path / "hf"),
        "BUNDLE_CACHE": str(tmp_path / "cache"),
    }

    def bundle(*words: str | Path) -> str:
        return run([script("bundle"), *words], cwd=tmp_path, env=environment).stdout

    bundle("record", "-o", "m.yaml", "--", sys.executable, "-c", code)
    made = json.loads(bundle("fetch", "m.yaml", "--from-cache", tmp_path / "site", "--json"))
    # The proof says what shut its network, and that is what was there.
    assert (made["proof"]["isolation"], made["proof"]["sandbox"]) == ("guard", "none")
    assert "only Python processes are guarded" in made["proof"]["isolation_detail"]
    assert made["proof"]["network_attempts"] == 0
    bundle("inspect", "m.tar.zst")
    bundle("verify", "m.tar.zst")
    bundle("split", "m.tar.zst", "--volume-size", "4M", "-o", "v.tar.zst")
    bundle("sign", "m.tar.zst", "--key", "key")
    assert {"m.lock", "m.tar.zst", "m.tar.zst.sig", "v.tar.zst.001"} <= {path.name for path in tmp_path.iterdir()}


def test_names_that_are_one_where_case_is_ignored_end_the_proof(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"README.md": b"one", "readme.md": b"two"}
    content = layout(lock_of(locked_repo("org/m", files)))
    paths = blob_store(tmp_path / "blobs", files.values())
    home_module.assemble(tmp_path / "here", content, paths)
    monkeypatch.setattr(home_module, "ignores_case", lambda directory: True)
    with pytest.raises(ProofError, match=r"README\.md and readme\.md are one name"):
        home_module.assemble(tmp_path / "there", content, paths)
    assert list((tmp_path / "there").iterdir()) == []


def test_this_file_system_is_asked_whether_it_ignores_case(tmp_path: Path) -> None:
    (tmp_path / "A").touch()
    assert ignores_case(tmp_path) == (tmp_path / "a").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["A"], "nothing is left"
