"""Errors that only a training raises; they are part of the project's tree of exceptions (`bundler.errors`)."""

from __future__ import annotations

from bundler.errors import BundleError


class ConfigError(BundleError):
    """A training configuration is malformed; the message lists every fault with its key path."""

    exit_code = 12


class TrainingDataError(BundleError):
    """The text to train on is missing, empty or not UTF-8."""

    exit_code = 14


class DivergenceError(BundleError):
    """A training has diverged: the loss or the weights are not finite."""

    exit_code = 19
