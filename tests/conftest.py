"""What all tests share: one thread a process, repeatable property tests, golden text files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

# Before NumPy is first imported: the tests run as several processes, each of which would start a thread a core.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

GOLDEN = Path(__file__).parent / "golden"

settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-golden` writes the golden files instead of comparing with them."""
    parser.addoption(
        "--update-golden", action="store_true", help="write the golden files of tests/golden again"
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden(name, text)`: `text` is what tests/golden/`name` holds (or becomes it, with --update-golden)."""
    update = bool(request.config.getoption("--update-golden"))

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        assert path.is_file(), f"tests/golden/{name} is missing; make it with: pytest --update-golden"
        assert text == path.read_text(), (
            f"differs from tests/golden/{name}; accept with: pytest --update-golden"
        )

    return compare
