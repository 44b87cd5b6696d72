"""bundler.files.owner: a process is told from those that had its number before, or have it elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from bundler.files.owner import UNKNOWN_START, Owner, read_start_ticks, read_stat_fields


def may_be_alive(owner: Owner) -> bool:
    return owner.may_be_alive(idle_seconds=100, patience_seconds=10)


def test_this_process_is_alive_and_keeps_its_mark() -> None:
    owner = Owner.current()
    assert owner.pid == os.getpid() and owner.start_ticks == read_start_ticks(os.getpid()) != UNKNOWN_START
    assert Owner.parse(owner.mark) == Owner.parse(f"{owner.mark}-and more") == owner
    assert may_be_alive(owner)


def test_a_forked_child_has_a_mark_of_its_own() -> None:
    Owner.current()
    code = (
        "import os; from bundler.files.owner import Owner; Owner.current()\n"
        "if os.fork(): os.wait()\n"
        "print(Owner.current(), flush=True)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(set(done.stdout.splitlines())) == 2


def test_a_process_that_ended_is_not_alive() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert not may_be_alive(replace(Owner.current(), pid=child.pid))


@pytest.mark.skipif(sys.platform != "linux", reason="it asks /proc")
def test_a_process_that_ended_and_that_nobody_has_asked_how_is_not_alive() -> None:
    """The first process of a container may never ask."""
    with subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.PIPE) as child:
        owner = replace(Owner.current(), pid=child.pid, start_ticks=read_start_ticks(child.pid))
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not may_be_alive(owner)


def test_a_number_that_is_used_again_is_another_process() -> None:
    owner = Owner.current()
    assert not may_be_alive(replace(owner, start_ticks=owner.start_ticks - 1))


def test_a_process_whose_start_nobody_knows_counts_as_alive() -> None:
    assert may_be_alive(replace(Owner.current(), start_ticks=UNKNOWN_START))


def test_another_systems_process_is_alive_until_its_file_rests() -> None:
    foreign = replace(Owner.current(), system="00000000")
    assert foreign.may_be_alive(idle_seconds=9.9, patience_seconds=10)
    assert not foreign.may_be_alive(idle_seconds=10, patience_seconds=10)


def test_a_process_of_an_earlier_boot_is_gone_whoever_has_its_number_now() -> None:
    assert not may_be_alive(replace(Owner.current(), boot="00000000"))
    assert not may_be_alive(replace(Owner.current(), boot="00000000", start_ticks=UNKNOWN_START))


@pytest.mark.parametrize("text", ["", "1", "x01234567-89abcdef-1-2", "01234567-1-2", "01234567-89abcdeg-1-2"])
@pytest.mark.parametrize("end", ["", "-file"])
def test_what_is_no_mark_is_none(text: str, end: str) -> None:
    assert Owner.parse(text + end) is None


@pytest.mark.parametrize("numbers", ["1", "1-", "0-1", "1-2x", "1--2", "01-2"])
def test_what_has_no_numbers_is_no_mark(numbers: str) -> None:
    assert Owner.parse(f"01234567-89abcdef-{numbers}") is None


def test_a_name_with_parentheses_and_spaces_does_not_shift_the_fields() -> None:
    code = "from pathlib import Path; Path('/proc/self/comm').write_text('a) (b c'); import sys; sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as child:
        assert read_stat_fields(child.pid)[1] == str(os.getpid()), "its parent"
