"""Programs of others that show a run's measurements: Weights & Biases and MLflow, by transformers' own callbacks.

Both write into the run's folder and ask no server, unless variables of theirs say otherwise: a node without a network
cannot wait for one. `wandb sync OUTPUT/wandb/offline-run-*` and `mlflow ui` show the files later. TensorBoard's are
written by `infini_llama.train.metrics_log`, since its callback shows steps twice after a resume.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from bundler.errors import DependencyError

_PACKAGES = ("wandb", "mlflow")


def choose_tracker(report_to: str, output_dir: Path) -> str:
    """Return `report_to` as transformers' arguments take it, and set what keeps that package offline.

    Args:
        report_to: The setting `training.report_to`.
        output_dir: The run's folder.

    Raises:
        DependencyError: The package is not installed.
    """
    if report_to not in _PACKAGES:
        return "none"
    if importlib.util.find_spec(report_to) is None:
        raise DependencyError(
            f"training.report_to: expected the package {report_to}, found none",
            hint=f"pip install {report_to}, or training.report_to: none; metrics.jsonl and report.html need no package",
        )
    folder = output_dir.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("WANDB_MODE", "offline")
    os.environ.setdefault("WANDB_DIR", str(folder))
    # It would write to stdout, which is for data, and read what is written there.
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_CONSOLE", "off")
    os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
    return report_to
