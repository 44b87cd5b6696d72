"""The tar stream, judged by two readers that are not ours: Python's tarfile and GNU tar."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

from bundler.format.tar import BLOCK, END_OF_ARCHIVE, TarPlan, tar_plan
from bundler.plan.lock import Lock
from tests.support.bundles import lock_of, locked_repo

LONG = "deeply/" * 20 + "nested/file.json"
CONTENTS = {"a.txt": b"abc", LONG: b"long", "ünï.txt": b"unicode", "empty": b"", "block": b"x" * 512}


def _example() -> Lock:
    return lock_of(
        locked_repo("org/m", CONTENTS, aliases=["m"], absent=["none.json"]),
        locked_repo("org/n", {"same.txt": b"abc"}, revision="v1"),
    )


def _stream(plan: TarPlan, contents: dict[str, bytes]) -> bytes:
    by_sha = {f.sha256: contents[f.path] for r in _example().repos for f in r.files if f.path in contents}
    parts = []
    for member in plan.members:
        content = by_sha[member.blob.sha256] if member.blob else member.content
        assert sum(map(len, parts)) + len(member.header) == member.offset
        parts += [member.header, content, bytes(member.padding)]
    return b"".join([*parts, END_OF_ARCHIVE])


def test_python_reads_every_member_as_it_was_meant() -> None:
    plan = tar_plan(_example())
    stream = _stream(plan, CONTENTS)
    assert len(stream) == plan.size_bytes
    with tarfile.open(fileobj=io.BytesIO(stream)) as archive:
        found = archive.getmembers()
    assert [member.name for member in found] == [member.path for member in plan.members]
    assert {(m.mtime, m.uid, m.gid, m.uname) for m in found} == {(0, 0, 0, "")}
    links = {m.name: m.linkname for m in found if m.issym()}
    assert links["hub/models--m"] == "models--org--m"
    assert any(name.endswith(LONG) and "../blobs/" in target for name, target in links.items())


def test_gnu_tar_unpacks_it_without_a_word(tmp_path: Path) -> None:
    archive = tmp_path / "x.tar"
    archive.write_bytes(_stream(tar_plan(_example()), CONTENTS))
    done = subprocess.run(["tar", "-xf", archive, "-C", tmp_path], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    snapshot = tmp_path / "hub" / "models--org--m" / "snapshots" / ("c" * 40)
    assert {path: (snapshot / path).read_bytes() for path in CONTENTS} == CONTENTS


def test_content_that_stands_in_two_repos_is_held_once(tmp_path: Path) -> None:
    plan = tar_plan(_example())
    with tarfile.open(fileobj=io.BytesIO(_stream(plan, CONTENTS))) as archive:
        hard = [(m.name, m.linkname) for m in archive if m.islnk()]
    [(name, target)] = hard
    assert name.startswith("hub/models--org--n/blobs/")
    assert target.startswith("hub/models--org--m/blobs/")


def test_a_file_of_eight_gigabytes_and_more_has_its_size_in_a_pax_record() -> None:
    size = 9 << 30
    repo = locked_repo("org/m", {"w": b"w"})
    huge = type(repo.files[0])(path="w", size_bytes=size, blob_id="a" * 40, sha256="b" * 64, blake3="c" * 64)
    lock = lock_of(type(repo)(**{**vars(repo), "files": (huge,)}))
    [member] = [m for m in tar_plan(lock).members if m.blob]
    with tarfile.open(fileobj=io.BytesIO(member.header + bytes(10 * BLOCK))) as archive:
        info = archive.next()
    assert info is not None
    assert info.size == size
