"""What a dry run says of the room that each stage needs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from bundler.console.output import say
from bundler.files.space import Room, find_shortage
from bundler.text.wording import size


def print_rooms(rooms: Iterable[Room]) -> None:
    """Print a line for each stage."""
    for room in rooms:
        place = "on the other machine, if it has none of it" if room.place is None else f"in {room.place}"
        free = "" if room.free_bytes is None else f", {size(room.free_bytes)} free"
        click.echo(f"{room.stage:9}  at most {size(room.needed_bytes)} {place}{free}")


def rooms_json(rooms: Iterable[Room]) -> list[dict[str, Any]]:
    """Return the same for `--json`."""
    return [
        {
            "stage": room.stage,
            "place": None if room.place is None else str(room.place),
            "needed_bytes": room.needed_bytes,
            "free_bytes": room.free_bytes,
        }
        for room in rooms
    ]


def end_by_room(ctx: click.Context, rooms: Iterable[Room]) -> None:
    """End the command with exit code 10 where there is too little room."""
    if error := find_shortage(rooms):
        say(f"error: {error}")
        ctx.exit(error.exit_code)
