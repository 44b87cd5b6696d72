"""The environment variables of an offline launch, as a pure function.

huggingface_hub, transformers and datasets read most of their settings once, at import, so the variables must stand
before the first Python line of a program runs; setting them later does nothing.

Rule book:

* every variable that moves a cache away from HF_HOME is cleared: the verified cache must be the one that is read;
* proxies and tokens are dropped: nothing offline has a use for them, and a proxy that does not answer turns the
  listing of chat templates into fifty seconds of retries;
* what is not about Hugging Face or the network is left alone;
* folders that a library insists on writing get a stand-in only when the real one is not writable.

`offline_environment` touches neither `os.environ` nor a file. `bundler.offline.launch.writable_overlay` makes the
folders.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SITE_FOLDER = Path(__file__).parent / "site"

# Names of our own, shared with the guard, which may not import this module.
OFFLINE = "BUNDLE_OFFLINE"
VERIFIED = "BUNDLE_VERIFIED"
VERIFIED_HOME = "BUNDLE_HF_HOME"
VERIFIED_HUB = "BUNDLE_HUB_CACHE"
ATTEMPTS_DIR = "BUNDLE_ATTEMPTS_DIR"
ALLOW_NET = "BUNDLE_ALLOW_NET"
ISOLATION = "BUNDLE_ISOLATION"

_SET = {
    # TRANSFORMERS_OFFLINE and HF_DATASETS_OFFLINE: older versions know only these, and HF_DATASETS_OFFLINE=0 wins
    # over HF_HUB_OFFLINE=1 in `datasets`.
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_EVALUATE_OFFLINE": "1",
    # Three names of one switch; with any of them the client does not ask the Hub for its registry of user agents.
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    # Trackers that report on their own use, each by a switch of its own.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Without it `get_token` may refresh a token over the network.
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    # The user's token is dropped; in its place stands one that is none, since code that says `token=True`, as for
    # gated repos, wants to see some token before it looks into the cache.
    "HF_TOKEN": "no-token-offline",
    # hf_xet is compiled code with sockets and telemetry of its own.
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    # Stops a HEAD request to S3 by `datasets`.
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    # Stops the background conversion of `.bin` weights, which looks at the offline mode but not at local_files_only.
    "DISABLE_SAFETENSORS_CONVERSION": "1",
}

# Set unless the user has chosen. Weights & Biases retries an unreachable server for minutes; offline it logs to disk.
_DEFAULTS = {"WANDB_MODE": "offline"}

_CACHES = (
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_ASSETS_CACHE",
    "HUGGINGFACE_ASSETS_CACHE",
    "HF_XET_CACHE",
    "HF_DATASETS_CACHE",
    "HF_MODULES_CACHE",
    "TRANSFORMERS_CACHE",
    "PYTORCH_TRANSFORMERS_CACHE",
    "PYTORCH_PRETRAINED_BERT_CACHE",
    "KERNELS_CACHE",
)
# Variable -> its folder below that of files of other hosts.
FILE_VARIABLES = {
    "TIKTOKEN_CACHE_DIR": "tiktoken",
    "TORCH_HOME": "torch",
    "NLTK_DATA": "nltk_data",
    "BUNDLE_FILES": "files",
}
_TOKENS = (
    "HUGGING_FACE_HUB_TOKEN",
    "HF_TOKEN_PATH",
    # Asks the CI provider for a token over the network, before any other source is looked at.
    "HF_OIDC_RESOURCE",
)
_ENDPOINTS = ("HF_ENDPOINT", "HF_INFERENCE_ENDPOINT", "HUGGINGFACE_CO_STAGING", "HF_HUB_ENABLE_HF_TRANSFER")
_PROXIES = tuple(
    name
    for scheme in ("http", "https", "ftp", "all", "ws", "wss", "socks", "no")
    for name in (f"{scheme}_proxy", f"{scheme}_proxy".upper())
)


def put_first_on_python_path(environment: Mapping[str, str], folder: str) -> str:
    """Return PYTHONPATH with `folder` at its beginning, and nowhere else."""
    others = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path and path != folder]
    return os.pathsep.join([folder, *others])


@dataclass(frozen=True, kw_only=True)
class OfflineEnvironment:
    """What an offline launch changes in an environment.

    Attributes:
        values: Variables to set, whatever they were.
        defaults: Variables to set where the user has not.
        cleared: Variables to remove.
        python_path: Folder to put first on PYTHONPATH: it installs the guard in every Python process.
    """

    values: Mapping[str, str]
    defaults: Mapping[str, str]
    cleared: tuple[str, ...]
    python_path: str

    def apply(self, base: Mapping[str, str]) -> dict[str, str]:
        """Return `base` with the changes made; applying twice is the same as once."""
        environment = {name: value for name, value in base.items() if name not in self.cleared}
        environment |= {name: value for name, value in self.defaults.items() if name not in environment}
        environment |= self.values
        environment["PYTHONPATH"] = put_first_on_python_path(base, self.python_path)
        return environment

    def shell(self) -> str:
        """Return the changes as lines for a POSIX shell."""
        lines = [f"unset {name}" for name in self.cleared]
        lines += [f"export {name}={shlex.quote(value)}" for name, value in sorted(self.values.items())]
        lines += [f'export {name}="${{{name}:-{value}}}"' for name, value in sorted(self.defaults.items())]
        folder = shlex.quote(self.python_path)
        lines.append(
            # Where it stands first already, evaluating the lines again changes nothing.
            f'case "${{PYTHONPATH:-}}" in {folder}|{folder}:*) ;; '
            f'*) PYTHONPATH={folder}"${{PYTHONPATH:+:$PYTHONPATH}}" ;; esac\nexport PYTHONPATH'
        )
        return "\n".join(lines) + "\n"

    def as_json(self) -> dict[str, object]:
        """Return the changes as a JSON object."""
        return {
            "set": dict(sorted(self.values.items())),
            "default": dict(sorted(self.defaults.items())),
            "prepend": {"PYTHONPATH": self.python_path},
            "unset": list(self.cleared),
        }


@dataclass(frozen=True, kw_only=True)
class WritableOverlay:
    """Writable folders for libraries that insist on writing; None where HF_HOME itself will do.

    Attributes:
        modules: For HF_MODULES_CACHE, where `trust_remote_code` copies its modules.
        datasets: For HF_DATASETS_CACHE, where `datasets` makes its locks.
        metrics: For HF_METRICS_CACHE, where `evaluate` keeps what it is about to count.
        evaluate: For HF_EVALUATE_CACHE, where it makes its locks.
        files: The folder of files of other hosts, with what is in it: tiktoken, torch, nltk_data, files.
    """

    modules: Path | None = None
    datasets: Path | None = None
    metrics: Path | None = None
    evaluate: Path | None = None
    files: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What one launch adds to the environment, beyond what every offline launch has.

    Attributes:
        verified: Bundle name -> digest, of the bundles in HF_HOME that the launcher has verified.
        attempts_dir: Folder in which every guarded process notes the connections that it refused.
        allow_net: Networks besides loopback that the guard lets through, as CIDR.
    """

    verified: Mapping[str, str] = field(default_factory=dict)
    attempts_dir: Path | None = None
    allow_net: tuple[str, ...] = ()


def offline_environment(
    hf_home: Path,
    *,
    hub: Path | None = None,
    datasets: Path | None = None,
    overlay: WritableOverlay | None = None,
    launch: Launch | None = None,
) -> OfflineEnvironment:
    """Return what to change in an environment so that the Hugging Face libraries read `hf_home` and nothing else.

    Args:
        hf_home: The cache root, absolute.
        hub: Where repos are read, if that is not `hf_home/hub`.
        datasets: Where prepared datasets are read, if that is not `hf_home/datasets`.
        overlay: Writable folders, if these cannot be written.
        launch: What the launcher knows; without it the variables are those of `bundle env`.
    """
    overlay, launch = overlay or WritableOverlay(), launch or Launch()
    values = _SET | {"HF_HOME": str(hf_home), OFFLINE: "1", VERIFIED_HOME: str(hf_home)}
    values[VERIFIED_HUB] = str(hub or hf_home / "hub")
    if hub and hub != hf_home / "hub":
        values["HF_HUB_CACHE"] = str(hub)
    if datasets and datasets != hf_home / "datasets":
        values["HF_DATASETS_CACHE"] = str(datasets)
    if overlay.modules:
        values["HF_MODULES_CACHE"] = str(overlay.modules)
    if overlay.datasets:
        values["HF_DATASETS_CACHE"] = str(overlay.datasets)
    if overlay.files:
        # Only for libraries that the bundles have something for: a program may have a cache of its own elsewhere.
        there = {name for name in FILE_VARIABLES.values() if (overlay.files / name).is_dir()}
        values |= {
            variable: str(overlay.files / name) for variable, name in FILE_VARIABLES.items() if name in there
        }
    if launch.verified:
        values[VERIFIED] = format_verified(launch.verified)
    if launch.attempts_dir:
        values[ATTEMPTS_DIR] = str(launch.attempts_dir)
    if launch.allow_net:
        values[ALLOW_NET] = ",".join(launch.allow_net)
    # What an outer launch left must not outlive it: a digest that this launch did not verify, its attempts folder.
    ours = (VERIFIED, ATTEMPTS_DIR, ALLOW_NET)
    cleared = (*_PROXIES, *_TOKENS, *_ENDPOINTS, *_CACHES, *ours)
    # What `evaluate` keeps there is its own work, which a user may have elsewhere.
    folders = {"HF_METRICS_CACHE": overlay.metrics, "HF_EVALUATE_CACHE": overlay.evaluate}
    return OfflineEnvironment(
        values=values,
        defaults=_DEFAULTS | {name: str(folder) for name, folder in folders.items() if folder},
        cleared=tuple(name for name in cleared if name not in values),
        python_path=str(SITE_FOLDER),
    )


def format_verified(verified: Mapping[str, str]) -> str:
    """Return the value of BUNDLE_VERIFIED: ``NAME=sha256:<hex>``, joined by spaces."""
    return " ".join(f"{name}={digest}" for name, digest in sorted(verified.items()))


def parse_verified(text: str) -> dict[str, str]:
    """Return name -> digest from a value of BUNDLE_VERIFIED; anything malformed counts as not verified."""
    pairs = (item.partition("=") for item in text.split())
    return {name: digest for name, _, digest in pairs if name and digest}
