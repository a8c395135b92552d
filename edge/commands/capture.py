"""`edge-capture`: collect good and bad parts on the rig, and learn its empty tray."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from edge.camera.factory import kept_source_from_config
from edge.captures import GOOD, check_label
from edge.capturing.collecting import Collector, Plan
from edge.capturing.concerns import Concern, Limits
from edge.capturing.events import Ended, Event, Summary
from edge.capturing.folder import CaptureFolder
from edge.capturing.keys import Keyboard
from edge.capturing.live_view import LiveView
from edge.capturing.measuring import foreground_for
from edge.capturing.pace import AtIntervals, OnDemand, Pace, PartsAtRest
from edge.capturing.panel import TerminalPanel
from edge.capturing.session import Session
from edge.capturing.showing import Shows
from edge.capturing.tray import TrayLearner, replace_tray
from edge.commands.common import INTERRUPTED, ended_by_errors
from edge.config import RigConfig, load_rig_config
from edge.errors import CameraError, CaptureError, ConfigError
from edge.rig import stopped_by_signals
from edge.scene.tray import LEAST_FRAMES
from edge.state_folder import state_dir_of
from edge.trigger_config import PartPresentTrigger

__all__ = ["app", "main"]

app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)


class When(str, Enum):
    """What takes a frame by itself."""

    PART_PRESENT = "part_present"


@dataclass(frozen=True, slots=True)
class _Asked:
    """The command line, checked."""

    labels: tuple[str, ...]
    count: int | None
    every_s: float | None
    when: When | None
    min_area_mm2: float | None
    keep: frozenset[Concern]
    limits: Limits
    serial: str | None
    ask_serial: bool
    view: int | None
    as_json: bool

    @property
    def by_key(self) -> bool:
        return self.every_s is None and self.when is None


@app.command()
def capture(
    *,
    rig: Annotated[
        Path, typer.Option(help="The rig's YAML; its camera is used, and its part_present trigger.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="The folder of one lot: a new one, or one to go on with. With --tray: the file."),
    ] = None,
    good: Annotated[bool, typer.Option("--good", help="Collect good parts.")] = False,
    bad: Annotated[
        list[str] | None, typer.Option(help="Collect parts with this defect; repeatable, Tab changes over.")
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, help="End after so many captures.")] = None,
    every: Annotated[
        float | None, typer.Option(min=0, help="Take one every so many seconds; 0: each frame.")
    ] = None,
    when: Annotated[
        When | None, typer.Option(help="Take one by itself: part_present, once a part lies still.")
    ] = None,
    min_area_mm2: Annotated[
        float | None, typer.Option(min=1, help="For part_present: the least area of a part; else the rig's.")
    ] = None,
    part_height_mm: Annotated[
        float, typer.Option(min=0.1, max=500, help="What stands higher above the tray is the part.")
    ] = 4.0,
    min_fill: Annotated[
        float, typer.Option(min=0, max=1, help="The least share of the part that must have depth.")
    ] = 0.6,
    keep_same: Annotated[
        bool, typer.Option("--keep-same", help="Keep a frame that is nearly the same as one before.")
    ] = False,
    keep: Annotated[
        list[Concern] | None, typer.Option(help="Keep frames of which this is said; repeatable.")
    ] = None,
    serial: Annotated[
        str | None, typer.Option(help="Number the parts: with LOT7- they are LOT7-0001, LOT7-0002, …")
    ] = None,
    ask_serial: Annotated[
        bool, typer.Option("--ask-serial", help="Type or scan each part's serial; Enter takes it.")
    ] = False,
    view: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Show the live picture on this port of 127.0.0.1; 0: any."),
    ] = None,
    tray: Annotated[
        bool, typer.Option("--tray", help="Learn the empty tray instead, and level the camera by it.")
    ] = False,
    frames: Annotated[
        int, typer.Option(min=LEAST_FRAMES, max=1000, help="With --tray: learn from so many frames.")
    ] = 30,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per event and line on stdout; the rest on stderr.")
    ] = False,
) -> None:
    """Collect captures of good and bad parts with a rig's camera, or learn its empty tray.

    In a terminal space takes the part under the camera, u takes the last one back, q ends. `--every` and
    `--when part_present` take parts by themselves. A frame that something speaks against (blurred, nearly
    the same as one before, no part, …) is kept only when told. Numbers go on after those in the folder;
    nothing is ever overwritten.

    **Example:** `edge-capture --rig rig.yaml --out captures/plate/lot-1 --good --count 20`

    **Exit codes:** 0 done, 2 wrong command line, 3 the rig's YAML, 4 camera or folder (also where the source
    ended before `--count`), 17 the tray, 130 interrupted; what was kept until then stays.
    """
    asked = _Asked(
        labels=((GOOD,) if good else ()) + tuple(dict.fromkeys(bad or ())),
        count=count,
        every_s=every,
        when=when,
        min_area_mm2=min_area_mm2,
        keep=frozenset(keep or ()) | ({Concern.SAME} if keep_same else frozenset()),
        limits=Limits(fill=min_fill, part_height_m=part_height_mm * 1e-3),
        serial=serial,
        ask_serial=ask_serial,
        view=view,
        as_json=as_json,
    )
    with ended_by_errors():
        if tray:
            if asked.labels or count or serial or ask_serial or not asked.by_key:
                raise typer.BadParameter("--tray learns the empty tray; leave out what collects parts")
            _learn_tray(rig, asked, out, frames)
            return
        if out is None:
            raise typer.BadParameter("--out is missing: the folder of this lot, such as captures/plate/lot-1")
        if GOOD in (bad or ()):
            raise typer.BadParameter("--bad good: a defect can't be called good; use --good")
        _check(asked)
        folder = CaptureFolder(out)
        folder.check()
        _collect(load_rig_config(rig), asked, folder)


def _check(asked: _Asked) -> None:
    """What does not go together is a wrong command line."""
    if not asked.labels:
        raise typer.BadParameter("say what the parts are: --good, or --bad NAME")
    for label in asked.labels:
        try:
            check_label(label)
        except CaptureError as error:
            raise typer.BadParameter(f"--bad {error}") from error
    if asked.every_s is not None and asked.when is not None:
        raise typer.BadParameter("--every and --when don't go together; give one of them")
    if asked.serial is not None and asked.ask_serial:
        raise typer.BadParameter("--serial and --ask-serial don't go together; give one of them")
    if asked.ask_serial and not asked.by_key:
        raise typer.BadParameter("--ask-serial waits for a person; leave out --every and --when")
    if Concern.STALE in asked.keep:
        raise typer.BadParameter("--keep stale: a frame that shows the past is never kept")
    if not sys.stdin.isatty():
        if asked.by_key:
            raise typer.BadParameter("stdin is no terminal, so no key can be pressed; give --every or --when")
        if len(asked.labels) > 1:
            raise typer.BadParameter("stdin is no terminal, so the label can't be changed; give one")


def _collect(config: RigConfig, asked: _Asked, folder: CaptureFolder) -> None:
    camera = config.camera
    plan = Plan(
        labels=asked.labels,
        count=asked.count,
        keep=asked.keep,
        live=camera.source == "live",
        read_s=camera.read_timeout_s,
        asks_serial=asked.ask_serial,
    )
    pace = _pace(config, asked)
    title = f"edge-capture · {folder.path}"
    session = Session(
        folder, asked.limits, rests=camera.source in ("live", "recording"), serial_prefix=asked.serial
    )
    source = kept_source_from_config(camera, max_age_s=config.daemon.max_frame_age_s)
    with ExitStack() as stack:
        stack.callback(session.close)
        stack.enter_context(source)
        panel, shows = stack.enter_context(_shown(asked, title, bell=not asked.by_key))
        collector = Collector(
            source,
            session,
            plan,
            pace,
            keyboard=stack.enter_context(Keyboard(sys.stdin, text=asked.ask_serial))
            if sys.stdin.isatty()
            else None,
            shows=shows,
            on_event=_json_line if asked.as_json else lambda event: None,
            on_resume=_resuming(panel),
        )
        with stopped_by_signals(collector.stop):
            summary = collector.run()
    _end(summary, asked.count)


def _pace(config: RigConfig, asked: _Asked) -> Pace:
    if asked.every_s is not None:
        return AtIntervals(asked.every_s)
    if asked.when is None:
        return OnDemand(live=config.camera.source == "live")
    book = config.recipe_book()
    triggers = [book.recipes[name].trigger for name in (book.first, *book.names)]
    found = next((trigger for trigger in triggers if isinstance(trigger, PartPresentTrigger)), None)
    if asked.min_area_mm2 is not None:
        found = PartPresentTrigger(
            **{
                **(found.model_dump() if found is not None else {"kind": "part_present"}),
                "min_area_mm2": asked.min_area_mm2,
                "rearm_area_mm2": None,
            }
        )
    if found is None:
        raise ConfigError(
            "--when part_present: the rig's YAML has no trigger of that kind, so it is not known how large a "
            "part is; give --min-area-mm2"
        )
    return PartsAtRest(found, foreground_for(asked.limits.part_height_m))


def _learn_tray(rig: Path, asked: _Asked, out: Path | None, frames: int) -> None:
    config = load_rig_config(rig)
    path = out or config.scene.tray_file(state_dir_of(config, rig))
    source = kept_source_from_config(config.camera, max_age_s=config.daemon.max_frame_age_s)
    with ExitStack() as stack:
        stack.enter_context(source)
        panel, shows = stack.enter_context(_shown(asked, "edge-capture · empty tray", bell=False))
        learner = TrayLearner(
            source,
            frames=frames,
            part_height_m=asked.limits.part_height_m,
            live=config.camera.source == "live",
            read_s=config.camera.read_timeout_s,
            keyboard=stack.enter_context(Keyboard(sys.stdin)) if sys.stdin.isatty() else None,
            shows=shows,
        )
        with stopped_by_signals(learner.stop):
            tray = learner.run()
        if tray is None:
            raise typer.Exit(INTERRUPTED)
        copy = replace_tray(tray, path)
        if asked.as_json:
            sys.stdout.write(tray.model_dump_json() + "\n")
        if copy is not None:
            panel.say(f"the tray of before is in {copy}")
        plane = tray.plane
        panel.say(
            f"{path}: the empty tray of {tray.camera}, {plane.distance_mm:.0f} mm away, tilted by "
            f"{plane.tilt_x_deg:.1f}° and {plane.tilt_y_deg:.1f}°, {tray.fill_share:.0%} of it with depth"
        )


@contextmanager
def _shown(asked: _Asked, title: str, *, bell: bool) -> Iterator[tuple[TerminalPanel, list[Shows]]]:
    console = Console(stderr=asked.as_json)
    panel = TerminalPanel(
        console,
        title=title,
        bell=bell and console.is_terminal,
        lines=console.is_terminal or not asked.as_json,
    )
    shows: list[Shows] = [panel]
    with ExitStack() as stack:
        if asked.view is not None:
            live_view = stack.enter_context(LiveView(asked.view))
            shows.append(live_view)
            panel.say(f"live view: {live_view.url}")
        stack.enter_context(panel)
        yield panel, shows


def _resuming(panel: TerminalPanel) -> Callable[[int, int], None]:
    def progress(done: int, of: int) -> None:
        if done == 0:
            panel.say(f"{of} captures are there; looking at them, and going on")

    return progress


def _json_line(event: Event) -> None:
    sys.stdout.write(event.model_dump_json() + "\n")
    sys.stdout.flush()


def _end(summary: Summary, count: int | None) -> None:
    if summary.ended is Ended.SIGNAL:
        raise typer.Exit(INTERRUPTED)
    if summary.ended is Ended.SOURCE and count is not None and summary.kept < count:
        raise CameraError(
            f"the source has ended after {summary.kept} of {count} captures; those are kept in "
            f"{summary.folder}"
        )


def main() -> None:
    """The console entry."""
    app()


if __name__ == "__main__":
    main()
