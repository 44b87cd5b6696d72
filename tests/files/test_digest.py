"""bundler.files.digest against independent implementations and published vectors."""

from __future__ import annotations

import hashlib
import subprocess
from io import BytesIO
from pathlib import Path

import pytest
from blake3 import blake3

from bundler.files.digest import (
    Algorithm,
    Hasher,
    blake3_bytes,
    blake3_file,
    git_blob_sha1,
    hash_bytes,
    hash_file,
    hash_stream,
    sha256_bytes,
)


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1, 9 << 20])
def test_digests_of_a_file_are_those_of_its_content_at_any_size(tmp_path: Path, size: int) -> None:
    content = bytes(range(251)) * (size // 251 + 1)
    content = content[:size]
    path = tmp_path / "file"
    path.write_bytes(content)
    digests = hash_file(path, "sha256", "git_sha1", "blake3")
    assert digests.size_bytes == size
    assert digests.sha256 == hashlib.sha256(content).hexdigest() == sha256_bytes(content)
    assert digests.git_sha1 == git_blob_sha1(content)
    assert digests.blake3 == blake3(content).hexdigest() == blake3_bytes(content).hex()
    assert blake3_file(path).blake3 == digests.blake3


def test_the_git_digest_is_what_git_says(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a\r\nb\0c")
    said = subprocess.run(
        ["git", "hash-object", "--no-filters", str(path)], capture_output=True, text=True, check=True
    )
    assert hash_file(path, "git_sha1").git_sha1 == said.stdout.strip()


def test_the_empty_blake3_digest_is_the_published_one() -> None:
    # https://github.com/BLAKE3-team/BLAKE3, test_vectors/test_vectors.json, input_len 0
    assert blake3_bytes(b"").hex() == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"


def test_a_stream_of_another_length_has_no_git_digest() -> None:
    assert hash_stream(BytesIO(b"abc"), "git_sha1", "sha256", size_bytes=4).git_sha1 is None


def test_only_the_digests_asked_for_are_taken() -> None:
    hasher = Hasher(("sha256",), size_bytes=3)
    hasher.update(b"abc")
    result = hasher.result()
    assert (result.blake3, result.git_sha1) == (None, None)
    assert result.sha256 == hashlib.sha256(b"abc").hexdigest()


@pytest.mark.parametrize("algorithms", [("sha256",), ("git_sha1", "blake3"), ("blake3", "sha256", "git_sha1")])
def test_a_content_in_memory_has_the_digests_of_its_file(
    tmp_path: Path, algorithms: tuple[Algorithm, ...]
) -> None:
    content = b"some text" * 1000
    (tmp_path / "x").write_bytes(content)
    assert hash_bytes(memoryview(content), *algorithms) == hash_file(tmp_path / "x", *algorithms)


def test_progress_adds_up_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * (3 << 20))
    seen: list[int] = []
    blake3_file(path, progress=seen.append)
    assert sum(seen) == 3 << 20
