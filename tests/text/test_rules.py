"""bundler.text.rules: what values must be, beyond their shape."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bundler.text.rules import Limits

NUMBERS = st.one_of(st.integers(), st.floats())
LIMITS = st.one_of(st.none(), st.integers(-3, 3))


@given(
    st.one_of(st.integers(-4, 4), NUMBERS),
    st.builds(Limits, at_least=LIMITS, above=LIMITS, at_most=LIMITS, below=LIMITS),
)
def test_limits_accept_the_numbers_that_have_no_problem(number: float, limits: Limits) -> None:
    assert limits.accept(number) == (limits.problem(number) is None)
