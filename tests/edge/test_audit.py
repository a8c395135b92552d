"""The audit log: a line for each command, on disk before a change's answer; by it repeats are known."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge.audit import AuditLine, AuditLog
from edge.authority import Authority
from edge.clock import Session
from edge.letters import MAX_ORDER_BYTES, Letter
from edge.lines import Lines
from edge.order_messages import Answer, RecipeOrder, ReloadOrder, TriggerOrder
from edge.orders import OrderDesk, Reply, Respond, handler
from edge.topics import Topics
from tests.edge.small_disk import fill, mounted

TOPICS = Topics("acme/dresden/assembly/line-3/cell-2/inspection")


class Rig:
    """A desk over a state folder: triggers are accepted, recipes done, reloads wait."""

    def __init__(self, state_dir: Path, epoch: int = 1, authority: Authority | None = None) -> None:
        self.carried_out: list[str] = []
        self.answers: list[Answer] = []
        self.waiting: list[Respond] = []
        self.desk = OrderDesk(
            (
                handler(TriggerOrder, lambda order, letter, respond: self._done(order, respond, "accepted")),
                handler(RecipeOrder, lambda order, letter, respond: self._done(order, respond, "done")),
                handler(ReloadOrder, self._wait),
            ),
            TOPICS,
            Session(epoch=epoch, boot_id=f"boot-{epoch}", software_version="0"),
            lambda answer, topic, correlation: self.answers.append(answer),
            authority=authority,
            audit=AuditLog(state_dir),
        )

    def _done(self, order: Any, respond: Respond, status: Any) -> None:
        self.carried_out.append(order.request_id)
        respond(Reply(status, recipe=getattr(order, "recipe", None)))

    def _wait(self, order: ReloadOrder, letter: Letter, respond: Respond) -> None:
        self.carried_out.append(order.request_id)
        self.waiting.append(respond)

    def give(self, command: str, payload: bytes | None = None, request_id: str = "1", **letter: Any) -> None:
        said = {"request_id": request_id, "issued_by": "hmi"}
        said |= {"recipe": "gland"} if command == "recipe" else {}
        self.desk.receive(
            Letter(command, json.dumps(said).encode() if payload is None else payload, **letter)
        )

    @property
    def said(self) -> list[tuple[str, str | None]]:
        return [(answer.status, answer.reason) for answer in self.answers]


def lines_of(state_dir: Path, name: str = "audit.jsonl") -> list[AuditLine]:
    path = state_dir / name
    texts = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [AuditLine.model_validate_json(text) for text in texts if not text.isspace()]


def test_each_command_leaves_one_line_whatever_becomes_of_it(tmp_path: Path) -> None:
    rig = Rig(tmp_path, authority=Authority({"trigger": ("hmi",), "recipe": ("hmi",), "reload": ("hmi",)}))
    rig.give("trigger", client="hmi")
    rig.give("recipe", client="hmi", request_id="2")
    rig.give("recipe", client="hmi", request_id="2")
    rig.give("recipe", client="hmi", request_id="3", retained=True)
    rig.give("trigger", b"\xff{\n", client="hmi")
    rig.give("trigger", b"x" * (MAX_ORDER_BYTES + 1), client="hmi")
    rig.give("trigger", request_id="4")
    rig.give("trigger", client="plc", request_id="5")
    rig.give("explode\n", request_id="6")
    rig.desk.ask("reload", b"{}", client="dashboard")
    lines = lines_of(tmp_path)
    assert [(line.door, line.command, line.status, line.reason) for line in lines] == [
        ("cmd/trigger/hmi", "trigger", "accepted", None),
        ("cmd/recipe/hmi", "recipe", "done", None),
        ("cmd/recipe/hmi", "recipe", "repeated", None),
        ("cmd/recipe/hmi", "recipe", "ignored", "retained"),
        ("cmd/trigger/hmi", "trigger", "refused", "malformed"),
        ("cmd/trigger/hmi", "trigger", "refused", "too_large"),
        ("cmd/trigger", "trigger", "refused", "not_allowed"),
        ("cmd/trigger/plc", "trigger", "refused", "not_allowed"),
        (
            "cmd/explode\N{REPLACEMENT CHARACTER}",
            "explode\N{REPLACEMENT CHARACTER}",
            "refused",
            "unknown_command",
        ),
        ("dashboard", "reload", "refused", "not_allowed"),
    ]
    assert (lines[1].issued_by, lines[1].client, lines[1].request_id) == ("hmi", "hmi", "2")
    assert (lines[1].fields, lines[1].payload) == ({"recipe": "gland"}, None)
    assert lines[4].payload == "\N{REPLACEMENT CHARACTER}{\N{REPLACEMENT CHARACTER}"
    assert lines[5].payload == "x" * 500
    assert (lines[0].epoch, lines[0].boot_id) == (1, "boot-1")
    assert [line.monotonic_ns for line in lines] == sorted(line.monotonic_ns for line in lines)
    assert [(line.status, line.request_id) for line in lines_of(tmp_path, "audit.changes.jsonl")] == [
        ("taken", "2"),
        ("done", "2"),
    ]


def test_a_changes_line_is_on_disk_before_its_answer_goes_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []
    fsync = os.fsync

    def watched(handle: int) -> None:
        fsync(handle)
        happened.append(f"synced {Path(f'/proc/self/fd/{handle}').readlink().name}")

    monkeypatch.setattr(os, "fsync", watched)
    rig = Rig(tmp_path)
    rig.give("trigger")
    assert happened == []  # a trigger waits for no disk but the outbox's
    rig.give("reload", request_id="2")
    assert "synced audit.changes.jsonl" in happened
    happened.clear()
    monkeypatch.setattr(rig, "answers", Sent(happened))
    rig.waiting[0](Reply("done"))
    assert happened[0] == "synced audit.changes.jsonl"
    assert "synced audit.jsonl" in happened
    assert happened[-1] == "answered"


class Sent(list[Answer]):
    def __init__(self, happened: list[str]) -> None:
        super().__init__()
        self._happened = happened

    def append(self, answer: Answer) -> None:
        self._happened.append("answered")


KILLED = """
import sys
from pathlib import Path
from tests.edge.test_audit import Rig
rig = Rig(Path(sys.argv[1]))
rig.give("recipe", request_id="done")
rig.give("reload", request_id="in hand")
print("in hand" if rig.waiting else "", flush=True)
sys.stdin.read()
"""


def test_a_kill_in_the_middle_leaves_what_was_begun_and_what_was_done(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"in hand\n"
        child.kill()
    after = Rig(tmp_path, epoch=2)
    after.give("recipe", request_id="done")
    after.give("reload", request_id="in hand")
    assert after.carried_out == []
    assert after.said == [("done", None), ("refused", "interrupted")]


class TestAfterARestart:
    def test_a_change_is_not_carried_out_again_and_gets_the_same_answer(self, tmp_path: Path) -> None:
        before = Rig(tmp_path)
        before.give("recipe")
        after = Rig(tmp_path, epoch=2)
        after.give("recipe")
        after.give("recipe", request_id="2")
        assert after.carried_out == ["2"]
        assert after.answers[0] == before.answers[0]
        assert after.answers[0].epoch == 1

    def test_what_was_interrupted_is_not_begun_again(self, tmp_path: Path) -> None:
        Rig(tmp_path).give("reload")  # its answer never comes: the process ends here
        for epoch in (2, 3):
            after = Rig(tmp_path, epoch=epoch)
            after.give("reload")
            assert (after.carried_out, after.said) == ([], [("refused", "interrupted")])
        lines = [line for line in lines_of(tmp_path) if line.status == "refused"]
        assert [(line.reason, line.request_id, line.epoch) for line in lines] == [("interrupted", "1", 2)]

    def test_a_trigger_is_the_outboxs(self, tmp_path: Path) -> None:
        Rig(tmp_path).give("trigger")
        after = Rig(tmp_path, epoch=2)
        after.give("trigger")
        assert after.carried_out == ["1"]

    def test_what_was_stopped_is_known_as_stopped(self, tmp_path: Path) -> None:
        before = Rig(tmp_path)
        before.give("reload")
        before.desk.close()
        after = Rig(tmp_path, epoch=2)
        after.give("reload")
        assert (before.said, after.said) == ([("refused", "stopping")],) * 2

    def test_damaged_lines_are_passed_over(self, tmp_path: Path) -> None:
        Rig(tmp_path).give("recipe")
        with (tmp_path / "audit.changes.jsonl").open("ab") as file:
            file.write(b'{"torn": \n\xff\xfe\n[]\n{"schema_version": 2}\n' + b"[" * 5000)
        Rig(tmp_path, epoch=2).give("recipe", request_id="2")
        after = Rig(tmp_path, epoch=3)
        after.give("recipe")
        after.give("recipe", request_id="2")
        assert after.carried_out == []

    def test_no_flood_of_others_pushes_changes_out(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("edge.audit._PIECE_BYTES", 4000)
        before = Rig(tmp_path)
        before.give("recipe")
        for _ in range(300):
            before.give("trigger", b"{")
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 8 * 4000
        assert all(line.command == "trigger" for line in lines_of(tmp_path))
        after = Rig(tmp_path, epoch=2)
        after.give("recipe")
        assert after.carried_out == []


def test_on_a_full_disk_what_decides_is_refused_and_a_trigger_goes_on(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", size_mb=2) as disk:
        rig = Rig(disk)
        rig.give("recipe")
        fill(disk)
        stuff(disk)
        rig.give("recipe", request_id="2")
        rig.give("trigger", request_id="3")
        rig.give("trigger", b"{")
        assert rig.carried_out == ["1", "3"]
        rig.give("recipe", request_id="2")
        assert rig.answers.pop().reason == "not_audited"  # it is not remembered: it was never begun
        assert rig.said[1:] == [("refused", "not_audited"), ("accepted", None), ("refused", "malformed")]
        (disk / "hog").unlink()
        rig.give("recipe", request_id="2")
        assert rig.carried_out == ["1", "3", "2"]
        assert [line.request_id for line in lines_of(disk)][-1] == "2"


def stuff(disk: Path) -> None:
    """Take what is free within the log's last page."""
    for name in ("audit.jsonl", "audit.changes.jsonl"):
        log = Lines(disk / name, piece_bytes=1 << 22, pieces=4)
        size = 4096
        while size:
            try:
                log.add(b" " * size, durable=False)
            except OSError:
                size //= 2


def test_a_folder_that_is_not_there_any_more_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    rig = Rig(tmp_path / "file" / "state")
    rig.give("recipe")
    rig.give("trigger", request_id="2")
    assert rig.said == [("refused", "not_audited"), ("accepted", None)]
