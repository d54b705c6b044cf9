"""One address range on one device: where a model's memory lies there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from rtswap import _core, weights
from rtswap.collect import Kind
from rtswap.errors import quietly
from rtswap.units import limit_ns
from rtswap.weights import Source

# Eviction starts at the end: what must be written back goes to the front and leaves last.
_SEGMENT_ORDER = (Kind.MUTABLE, Kind.READ_ONLY, Kind.SCRATCH)


class Arena:
    """Threads: any, with the GIL; growing: one at a time."""

    def __init__(
        self, session: _core.Session, device: int, torch_device: torch.device, label: str
    ) -> None:
        """``device``: index in the session."""
        self._session = session
        self._label = label
        self.torch_device = torch_device
        self._chunk_bytes = int(session.devices[device]["chunk_bytes"])
        self.id = session.open_arena(device, label)

    def prepare(
        self,
        tensors: _core.TensorSet,
        timeout: float | None,
        sources: Sequence[Source] = (),
    ) -> None:
        """Reserves addresses and fills host images, from the tensors and then from the sources.

        The tensors stay as they are until they are committed.
        """
        with self._growing(timeout):
            for kind in _SEGMENT_ORDER:
                size = tensors.bytes(kind)
                if size:
                    segment = self._session.add_segment(self.id, int(kind), size)
                    tensors.fill(int(kind), segment)
            weights.fill(tensors, sources)

    def add_space(self, size: int, kind: Kind, timeout: float | None) -> _core.Segment:
        with self._growing(timeout):
            return self._session.add_segment(self.id, int(kind), size)

    @contextmanager
    def _growing(self, timeout: float | None) -> Iterator[None]:
        """Segments added inside become part of the arena, or are gone again with the exception."""
        limit = limit_ns(timeout)
        self._session.discard_growth(self.id)  # of a wait that was given up
        try:
            yield
            self._session.publish_arena(self.id, limit)
        except BaseException:
            quietly(lambda: self._session.discard_growth(self.id), f"the growth of {self._label}")
            raise

    def keep_scratch(self, segment: _core.Segment, ranges: Sequence[tuple[int, int]]) -> None:
        """Contents of the chunks under these addresses and sizes outlive jobs from now on, those of
        the segment's other chunks do not. REQUIRES: it is scratch; inside a job."""
        self._session.keep_scratch(self.id, segment.address, ranges)

    def keep_addresses(self, segment: _core.Segment) -> None:
        """Nothing else in this process ever lies at the addresses of the segment."""
        self._session.keep_addresses(self.id, segment.address)

    def resident_chunks(self) -> int:
        return self._session.arena_stats(self.id)["resident_chunks"]

    def stats(self) -> dict[str, int]:
        """Bytes, with the names of :class:`rtswap.TaskStats`."""
        found = self._session.arena_stats(self.id)
        found["arena_bytes"] = found.pop("chunks") * self._chunk_bytes
        found["resident_bytes"] = found.pop("resident_chunks") * self._chunk_bytes
        found["kept_scratch_bytes"] = found.pop("kept_chunks") * self._chunk_bytes
        found["guarded_bytes"] = found.pop("guarded_chunks") * self._chunk_bytes
        return found

    def save(self) -> None:
        """Brings every byte that only the device has to the host images. REQUIRES: its tasks are
        closed; it can only be closed afterwards."""
        self._session.save_arena(self.id)

    def close(self) -> None:
        """REQUIRES: its tasks are closed. What goes wrong is only logged."""
        quietly(lambda: self._session.close_arena(self.id), f"closing the memory of {self._label}")
