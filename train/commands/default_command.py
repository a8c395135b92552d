"""A command line with several commands, of which one need not be named."""

from __future__ import annotations

from typing import Any, ClassVar

from typer.core import TyperGroup

__all__ = ["DefaultCommandGroup"]


class DefaultCommandGroup(TyperGroup):
    """`prog --option` is `prog <default> --option`; `prog other` and `prog --help` are as ever.

    Give it as `cls` to `typer.Typer`, with the default command's name in a subclass.
    """

    default: ClassVar[str]

    # Any: click's context, which some releases of typer take from click and others bring along.
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = bool(args) and (args[0] in self.commands or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if named else [self.default, *args])
