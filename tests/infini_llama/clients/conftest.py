from __future__ import annotations

import pytest

# Of transformers' own tests, which their repository declares in a file that no distribution of theirs has.
FOREIGN_MARKERS = (
    "accelerate_tests",
    "flash_attn_test",
    "flash_attn_3_test",
    "flash_attn_4_test",
    "torch_compile_test",
)


def pytest_configure(config: pytest.Config) -> None:
    for marker in FOREIGN_MARKERS:
        config.addinivalue_line("markers", f"{marker}: of transformers' own tests")
