"""Which streams a job waits for, with stand-ins for those of a GPU."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

import rtswap
from rtswap import streams
from rtswap.jobs import note_stream

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Stream:
    cuda_stream: int
    device: torch.device = CPU

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class ExternalStream(Stream):
    pass


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    made_current: list[object] = []
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "ExternalStream", ExternalStream)
    monkeypatch.setattr(torch.cuda, "set_stream", made_current.append)
    noted: list[object] = []
    for _ in range(2):
        streams.note_when_current(noted.append)
    torch.cuda.set_stream(Stream(1))
    torch.cuda.set_stream(None)
    assert made_current == [Stream(1), None]
    return noted


def test_streams_are_noted_whichever_way_they_become_current(noted):
    with Stream(2) as entered:
        assert entered == Stream(2)
    assert noted == [Stream(1), Stream(2)]


def test_a_stream_that_its_owner_may_destroy_is_not_noted(noted):
    torch.cuda.set_stream(ExternalStream(3))
    with ExternalStream(4):
        pass
    assert noted == [Stream(1)]


@pytest.mark.usefixtures("arbiter")
def test_a_job_takes_streams_of_its_device_from_its_own_thread_only():
    task = rtswap.register(torch.nn.Linear(8, 8))
    note_stream(Stream(1))
    with task.job() as job:
        note_stream(Stream(2))
        note_stream(Stream(2))
        note_stream(Stream(3, torch.device("cuda:1")))
        assert job._streams == {(0, 2)}
        job._streams.clear()  # the simulated device has none
    note_stream(Stream(4))
    assert not job._streams


def test_the_streams_that_are_current_are_noted_for_each_device(monkeypatch):
    monkeypatch.setattr(
        torch._C, "_cuda_getCurrentRawStream", lambda index: 40 + index, raising=False
    )
    noted: streams.Streams = {(0, 7)}
    streams.note_current(noted, [(0, 3), (2, 1)])
    assert noted == {(0, 7), (0, 43), (2, 41)}
