"""`bundle install`."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.cache import default_hf_home
from bundler.cli.output import hf_home_option, jobs_option, json_option, print_json, progress_bar, say, size
from bundler.errors import FormatError


@click.command()
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@hf_home_option
@jobs_option
@json_option
def install(bundle: Path | None, hf_home: Path | None, jobs: int | None, as_json: bool) -> None:
    """Verify BUNDLE and unpack it into HF_HOME.

    Without BUNDLE, takes the one file NAME.tar.zst in this folder. Nothing becomes visible before every byte is
    verified; a run that was interrupted is finished by the next one.

    \b
    Example:
      bundle install demo.tar.zst --hf-home /scratch/hf
    """
    from bundler.install import install as install_bundle

    source = bundle if bundle is not None else only_bundle_in(Path())
    target = default_hf_home(hf_home)
    with progress_bar(f"installing {source.name}") as (advance, set_total):
        result = install_bundle(source, target, jobs=jobs, on_total=set_total, progress=advance)
    for path, old, new in result.moved_refs:
        say(f"note: {path} named commit {old[:12]} before, now {new[:12]}")
    installed = result.bundle
    say(
        f"installed {installed.name} in {target}: {result.files} files, {size(result.size_bytes)} verified, "
        f"{result.written_files} written ({size(result.written_bytes)})\n{installed.digest}"
    )
    if as_json:
        print_json(
            {
                "name": installed.name,
                "digest": installed.digest,
                "hf_home": str(target),
                "files": result.files,
                "bytes": result.size_bytes,
                "written_files": result.written_files,
                "written_bytes": result.written_bytes,
                "symlinks": result.symlinks,
            }
        )


def only_bundle_in(folder: Path) -> Path:
    """Return the one bundle in `folder`.

    Raises:
        FormatError: There is none, or there are several.
    """
    found = sorted(path for path in folder.glob("*.tar.zst") if path.is_file())
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise FormatError(
            f"expected exactly one *.tar.zst in {folder.absolute()}, found {names}",
            hint="name the bundle to install",
        )
    return found[0]
