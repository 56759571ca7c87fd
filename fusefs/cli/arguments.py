"""What commands take that need no store."""

from typing import Any

import click


class Mountpoint(click.ParamType[str]):
    """A path. An empty one, of a variable that is not set, would mean the working directory."""

    name = "mountpoint"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value:
            self.fail("it is empty", param, ctx)
        return str(value)


MOUNTPOINT = Mountpoint()
