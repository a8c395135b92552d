"""Fakes that ship: run the whole daemon with no camera, no model and no broker."""

from __future__ import annotations

from edge.testing.faults import Fault, FaultyCamera
from edge.testing.frames import flat_frame
from edge.testing.inspecting import ScriptedInspector
from edge.testing.keeping import ScratchOutbox
from edge.testing.listener import Heard, Listener
from edge.testing.proxy import CuttableProxy
from edge.testing.publishing import RecordingPublisher
from edge.testing.replay import ReplayCamera
from edge.testing.running import FakeRunner, fake_bundle
from edge.testing.verdicts import sample_verdict

__all__ = [
    "CuttableProxy",
    "FakeRunner",
    "Fault",
    "FaultyCamera",
    "Heard",
    "Listener",
    "RecordingPublisher",
    "ReplayCamera",
    "ScratchOutbox",
    "ScriptedInspector",
    "fake_bundle",
    "flat_frame",
    "sample_verdict",
]
