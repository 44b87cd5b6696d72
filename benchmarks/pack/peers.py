"""The peers that install from PyPI, each in its own terms; they live in an environment of their own.

What they do differs, and so does what their figures mean:

* zipnn compresses; it hashes nothing and has no format for a folder.
* modelferry copies files into a folder, in parts of 3.9 GB, beside their SHA-256; it compresses nothing. It takes a
  repo from a Hub; the download is made before the clock starts, and kept where the tool looks for it (`--staging`).
* hf-ark's archive is the download itself, and a list of SHA-256: its pack is hashing what is there already, its
  install copies without verifying.
* airgap-bundle makes a tar.zst (level 10, one thread) of a Python project and the files that it names.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lib.measure import Step, command, remove
from benchmarks.pack.tools import Action, Case, Refusal, Tool, plain, toml_string
from bundler.files.digest import hash_file

_ZIPNN_DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
# The one wheel that airgap-bundle has to carry, see `AirgapBundle`.
WHEEL = "six==1.17.0"


@dataclass
class ZipNN:
    """zipnn on each safetensors file."""

    bin: Path
    name: str = "zipnn"

    def prepare(self, case: Case) -> Step | None:
        """Nothing to do."""
        (case.work / "zipnn").mkdir(parents=True, exist_ok=True)
        return None

    def step(self, action: Action, case: Case) -> Step | Refusal:
        """See `Tool`."""
        packed, out = case.work / "zipnn" / "packed", case.work / "zipnn" / "out"
        child = Path(__file__).with_name("zipnn_child.py")
        python, dtype = self.bin / "python", _ZIPNN_DTYPES[case.dtype]
        if action == "pack":
            argv = command(python, child, "compress", dtype, case.folder, packed)
            return Step(argv=argv, shown="ZipNN(…).compress(bytes)", reads=(case.folder,), writes=(packed,))
        if action == "install":
            argv = command(python, child, "decompress", dtype, packed, out)
            return Step(argv=argv, shown="ZipNN(…).decompress(bytes)", reads=(packed,), writes=(out,))
        return Refusal("it keeps no digests", "verifies nothing")

    def locate_files(self, case: Case) -> dict[str, Path] | None:
        """See `Tool`."""
        return plain(case.work / "zipnn" / "out")

    def clear(self, case: Case) -> None:
        """See `Tool`."""
        remove(case.work / "zipnn" / "out")


@dataclass
class _FromHub:
    """What the peers that download from a Hub need."""

    bin: Path
    endpoint: str

    def _env(self) -> dict[str, str]:
        return {"HF_ENDPOINT": self.endpoint, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


@dataclass
class Modelferry(_FromHub):
    """`modelferry pack`, `unpack`, `verify`."""

    name: str = "modelferry"

    def _pack(self, case: Case) -> Step:
        place = case.work / "modelferry"
        return Step(
            argv=[
                *(self.bin / "modelferry", "pack", case.repo_id, "--dest", place / "packed"),
                *("--staging", place / "staging"),
            ],
            shown="modelferry pack REPO --dest DIR --staging STAGED",
            reads=(place / "staging",),
            writes=(place / "packed",),
            env=self._env(),
        )

    def prepare(self, case: Case) -> Step | None:
        """Download, which its pack does when the files are not staged."""
        (case.work / "modelferry").mkdir(parents=True, exist_ok=True)
        return self._pack(case)

    def step(self, action: Action, case: Case) -> Step | Refusal:
        """See `Tool`."""
        if action == "pack":
            return self._pack(case)
        place = case.work / "modelferry"
        # It names the folder after the repo and its commit.
        (packed,) = (place / "packed").iterdir()
        if action == "install":
            argv = command(self.bin / "modelferry", "unpack", packed, place / "out")
            return Step(argv=argv, shown="modelferry unpack BUNDLE DIR", reads=(packed,), writes=(place / "out",))
        argv = command(self.bin / "modelferry", "verify", packed)
        return Step(argv=argv, shown="modelferry verify BUNDLE (not what is installed)", reads=(packed,))

    def locate_files(self, case: Case) -> dict[str, Path] | None:
        """See `Tool`."""
        return plain(case.work / "modelferry" / "out")

    def clear(self, case: Case) -> None:
        """See `Tool`."""
        remove(case.work / "modelferry" / "out")


@dataclass
class HfArk(_FromHub):
    """`hf-ark snapshot`, `restore`, `verify`."""

    name: str = "hf-ark"

    def _snapshot(self, case: Case) -> Step:
        ark = case.work / "hf-ark" / "ark"
        return Step(
            argv=[self.bin / "hf-ark", "snapshot", case.repo_id, "-o", ark],
            shown="hf-ark snapshot REPO -o ARK (downloaded before)",
            reads=(ark,),
            kept=(ark,),
            env=self._env(),
        )

    def prepare(self, case: Case) -> Step | None:
        """Download into the ark."""
        (case.work / "hf-ark").mkdir(parents=True, exist_ok=True)
        return self._snapshot(case)

    def step(self, action: Action, case: Case) -> Step | Refusal:
        """See `Tool`."""
        if action == "pack":
            return self._snapshot(case)
        ark, out = case.work / "hf-ark" / "ark", case.work / "hf-ark" / "out"
        if action == "install":
            argv = command(self.bin / "hf-ark", "restore", ark, "--target", out)
            shown = "hf-ark restore ARK --target DIR (verifies nothing)"
            return Step(argv=argv, shown=shown, reads=(ark,), writes=(out,))
        argv = command(self.bin / "hf-ark", "verify", ark)
        return Step(argv=argv, shown="hf-ark verify ARK", reads=(ark,))

    def locate_files(self, case: Case) -> dict[str, Path] | None:
        """See `Tool`."""
        (snapshot,) = (case.work / "hf-ark" / "out").glob("models--*/snapshots/*")
        return plain(snapshot)

    def clear(self, case: Case) -> None:
        """See `Tool`."""
        remove(case.work / "hf-ark" / "out")


@dataclass
class AirgapBundle:
    """`airgap-bundle build`, `install`, `verify`.

    Its bundle is a Python project: it needs uv to build, and one wheel at least, without which its install fails. So
    it carries the smallest there is; finding and installing that costs it about a second.
    """

    bin: Path
    wheels: Path
    name: str = "airgap-bundle"

    def _env(self) -> dict[str, str]:
        return {
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "UV_OFFLINE": "1",
        }

    def prepare(self, case: Case) -> Step | None:
        """Write the project that names the files."""
        project = case.work / "airgap-bundle" / "project"
        project.mkdir(parents=True, exist_ok=True)
        (wheel,) = self.wheels.glob("*.whl")
        digest = hash_file(wheel, "sha256").sha256
        (project / "requirements.lock").write_text(f"{WHEEL} --hash=sha256:{digest}\n")
        lines = [
            "[bundle]",
            f"name = {toml_string(case.name)}",
            'version = "1.0.0"',
            "[python]",
            'lockfile = "requirements.lock"',
        ]
        for path in case.files:
            lines += [
                "[[models]]",
                f"name = {toml_string(path.name)}",
                f"uri = {toml_string(path.as_uri())}",
                f"sha256 = {toml_string(hash_file(path, 'sha256').sha256 or '')}",
                f"dest = {toml_string(f'models/{path.name}')}",
            ]
        (project / "airgap.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return None

    def step(self, action: Action, case: Case) -> Step | Refusal:
        """See `Tool`."""
        place = case.work / "airgap-bundle"
        archive, out, program = place / "out.tar.zst", place / "out", self.bin / "airgap-bundle"
        if action == "pack":
            return Step(
                argv=[program, "build", place / "project", "--out", archive],
                shown="airgap-bundle build PROJECT --out FILE",
                reads=(case.folder,),
                writes=(archive,),
                env=self._env(),
            )
        if action == "install":
            return Step(
                argv=[program, "install", archive, "--prefix", out],
                shown="airgap-bundle install FILE --prefix DIR",
                reads=(archive,),
                writes=(out,),
                env=self._env(),
            )
        argv = command(program, "verify", archive, "--deep")
        shown = "airgap-bundle verify FILE --deep (not what is installed)"
        return Step(argv=argv, shown=shown, reads=(archive,), env=self._env())

    def locate_files(self, case: Case) -> dict[str, Path] | None:
        """See `Tool`."""
        return plain(case.work / "airgap-bundle" / "out" / "models")

    def clear(self, case: Case) -> None:
        """See `Tool`."""
        remove(case.work / "airgap-bundle" / "out")


def peers(bin_: Path, *, endpoint: str, wheels: Path) -> list[Tool]:
    """Return all peers.

    Args:
        bin_: The commands of their environment.
        endpoint: A Hub that serves the cases.
        wheels: A folder with the wheel of `WHEEL`.
    """
    return [
        ZipNN(bin_),
        Modelferry(bin_, endpoint),
        HfArk(bin_, endpoint),
        AirgapBundle(bin_, wheels),
    ]
