"""Fakes that ship: run the whole daemon with no camera, no model and no broker."""

from __future__ import annotations

from edge.testing.frames import flat_frame
from edge.testing.inspecting import ScriptedInspector
from edge.testing.listener import Heard, Listener
from edge.testing.publishing import RecordingPublisher
from edge.testing.replay import ReplayCamera

__all__ = ["Heard", "Listener", "RecordingPublisher", "ReplayCamera", "ScriptedInspector", "flat_frame"]
