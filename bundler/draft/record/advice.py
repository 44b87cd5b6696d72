"""What a recording found that a manifest cannot say, with what to do about it."""

from __future__ import annotations

from bundler.draft.record.gather import Gathered
from bundler.draft.record.notes import DatasetUse, Notes
from bundler.draft.record.web_files import make_files
from bundler.plan.manifest_rules import config_problem, data_dir_problem, data_files_problem


def list_advice(notes: Notes, found: Gathered) -> tuple[str, ...]:
    """Return a line for each thing that will not be found offline as it was asked for."""
    advice = [line for use in notes.datasets for line in _advise_on_dataset(use)]
    advice += [
        f"{use.repo_type} {use.repo_id}: the program has files put into {use.local_dir}; offline it gets what lies "
        "there, and no bundle fills that folder: leave local_dir out, so that it reads the cache"
        for use in notes.files
        if use.local_dir
    ]
    advice += [
        f"{name}: no manifest has entries for repos of this type; take its files along in another way"
        for name in found.unlisted
    ]
    advice += [
        f"{client} asked for files of {name} by HTTP, which nothing answers offline: read them from the cache, in the "
        f"folder that `bundle path {name.partition(' ')[2]}` prints"
        for name, client in notes.http
    ]
    advice += [
        f"{use.library} reads {use.url}, in {use.where}: it is not of the Hub, and a launch does not reach its host; "
        f"take along what {use.library} keeps of it"
        for use in make_files(notes.urls)[1]
    ]
    advice += [f"{name}; it is left out" for name in found.unknown]
    return tuple(dict.fromkeys(advice))


def _advise_on_dataset(use: DatasetUse) -> list[str]:
    call = f"load_dataset({use.asked!r}, …) in {use.where}"
    if not use.repo_id:
        repos = ", ".join(sorted({file.repo_id for file in use.files})) or "the Hub"
        return [
            f"{call} names files of {repos} by hf:// paths, which are questions to the Hub that no bundle answers: "
            "pass the name of the repo, and data_files relative to it"
        ]
    lines = []
    for key, value, problem in (
        ("data_files", use.data_files, use.data_files and data_files_problem(use.data_files)),
        ("data_dir", use.data_dir, use.data_dir and data_dir_problem(use.data_dir)),
        (
            "configuration",
            use.config,
            use.data_files is None and use.data_dir is None and config_problem(use.config),
        ),
    ):
        if problem:
            lines.append(f"{call}: {key} {value!r} cannot be said in a manifest: {problem}")
    if use.other:
        lines.append(
            f"{call}: {', '.join(use.other)} cannot be said in a manifest; a launch prepares it then, from the files "
            "in the bundle"
        )
    return lines
