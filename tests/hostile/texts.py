"""Gives a hostile text to every command that reads one, and measures what each takes: `make soak-bounds`.

    python -m tests.hostile.texts [NAME …]

As in `tests.hostile.commands`. A command that takes such a text is wrong, too.
"""

from __future__ import annotations

import functools
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bundler.cli import main as bundle
from bundler.text.text_file import MAX_BYTES
from tests.hostile import bombs
from tests.hostile.commands import Taken, import_all, measure, show


def try_text(content: bytes, folder: Path) -> Iterator[Taken]:
    """Give it as a manifest, a policy, a signature and a receipt."""

    def typed(name: str, *words: str | Path) -> Taken:
        work = functools.partial(bundle, [str(word) for word in words], prog_name="bundle")
        return measure(name, work, folder, Path("/dev/null"))

    home = folder / "home"
    # One that is too long to be looked at, and the longest that is.
    for size in (len(content), MAX_BYTES):
        manifest = bombs.write(folder / "tiny.yaml", content[:size])
        yield typed(f"manifest of {size} bytes", "fetch", manifest, "--dry-run")
    policy = bombs.write(folder / "policy.yaml", content[:MAX_BYTES])
    made = bombs.write(folder / "some.tar.zst", bombs.many_chunks())
    yield typed("policy", "install", made, "--policy", policy, "--hf-home", home)
    bombs.write(folder / "some.tar.zst.sig", content)
    yield typed("signature", "install", made, "--hf-home", home)
    receipt = home / "bundles" / "tiny.json"
    receipt.parent.mkdir(parents=True, exist_ok=True)
    bombs.write(receipt, content)
    yield typed("receipt", "verify", "tiny", "--hf-home", home)


def main() -> None:
    """Print what each command takes of each text; end with 1 where it is too much, or where one is taken."""
    import_all()
    bad = 0
    texts = bombs.text_bombs()
    for name in sys.argv[1:] or texts:
        with tempfile.TemporaryDirectory(prefix="bounds-") as temporary:
            for one in try_text(texts[name], Path(temporary)):
                bad += show(name, one) or one.code < 2
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
