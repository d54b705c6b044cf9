"""All memory of one model: its tensors, closed whenever no job holds a grant."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from rtswap import _core, closed_storage, streams
from rtswap.arena import Arena
from rtswap.collect import Collected
from rtswap.contents import Contents
from rtswap.devices import synchronize
from rtswap.errors import Closed, Error, EscapedTensor, Unsupported, shown
from rtswap.jobs import note_stream

if TYPE_CHECKING:
    from rtswap.region import Region

log = logging.getLogger("rtswap")


class Memory:
    """An arena on each device of the model. Shared by all tasks that ``share()`` the model.

    Threads: any, with the GIL.
    """

    def __init__(self, session: _core.Session, label: str, *, verify: bool = False) -> None:
        self.session = session
        self.label = label
        self.arenas: list[Arena] = []
        self.cuda_devices: list[tuple[int, int]] = []
        """Those of the arenas that are no simulated ones: index of the arena, torch's index."""
        self.regions: list[Region] = []
        self.saved_bytes = 0
        """Of read_only tensors that jobs wrote and that were taken over into the host image."""
        self._tensors = _core.ModelTensors(self._closed_message())
        self._contents: list[Contents] = []
        self._verify = verify
        self._warned = False
        # Of those who adopt and give back. Jobs need none: one at a time has the device.
        self._lock = threading.RLock()

    # --- growing -------------------------------------------------------------------------------

    def add_arena(self, device: int, torch_device: torch.device) -> Arena:
        """``device``: index in the session, not used by another arena of this memory."""
        if torch_device.type == "cpu":
            closed_storage.make_questions_safe()
        else:
            streams.note_when_current(note_stream)
        arena = Arena(self.session, device, torch_device, self.label)
        if torch_device.type == "cuda":
            self.cuda_devices.append((len(self.arenas), torch_device.index))
        self.arenas.append(arena)
        return arena

    def discard(self) -> None:
        """Of a task that was refused: nothing of it was adopted."""
        for arena in self.arenas:
            arena.close()

    def adopt(self, sets: Sequence[_core.TensorSet], collected: Collected) -> None:
        """Moves the tensors, which were prepared in the arenas, and closes them, unless a job is
        running."""
        with self._lock:
            for tensors in sets:
                tensors.commit(self.session)
            contents = Contents(sets, collected)
            contents.watch()
            self._contents.append(contents)
            for tensors in sets:
                self._tensors.add(tensors)

    def rename(self, label: str) -> None:
        """What messages call it from now on."""
        self.label = label
        self._tensors.set_message(self._closed_message())

    @property
    def torch_devices(self) -> list[torch.device]:
        return [arena.torch_device for arena in self.arenas]

    def single_arena(self, what: str) -> Arena:
        """For what needs all memory on one device; ``Unsupported`` where it is not."""
        if len(self.arenas) > 1:
            raise Unsupported(
                f"{what} is not offered for {self.label}, whose model is spread over "
                f"{len(self.arenas)} devices. It works for models that lie on one device."
            )
        return self.arenas[0]

    @property
    def busy(self) -> bool:
        return self._tensors.held

    @property
    def _sets(self) -> list[_core.TensorSet]:
        return [tensors for contents in self._contents for tensors in contents.sets]

    def away(self) -> list[str]:
        """Names of tensors that are not wholly on the device now."""
        return [
            name
            for contents in self._contents
            for tensors, arena in zip(contents.sets, self.arenas, strict=False)  # later: one arena
            for name in tensors.beyond(arena.resident_chunks())
        ]

    def stats(self) -> dict[str, int]:
        """Of all devices together, with the names of :class:`rtswap.TaskStats`."""
        total: Counter[str] = Counter()
        for arena in self.arenas:
            total.update(arena.stats())
        total["repaired_bytes"] += self.saved_bytes
        return dict(total)

    # --- jobs ----------------------------------------------------------------------------------

    def check(self) -> None:
        """Raises unless every tensor of the modules still lies in its arena."""
        if not self._tensors.intact():
            self._judge_changes()
        self._report_repairs()

    def _judge_changes(self) -> None:
        if self._tensors.retired:
            raise self._closed()
        names = list(dict.fromkeys(name for tensors in self._sets for name in tensors.escaped()))
        if names:
            raise EscapedTensor(
                f"{len(names)} tensor(s) of {self.label} no longer lie in its memory: "
                f"{shown(names)}. Something replaced them or their storage (.half(), .to(), "
                "load_state_dict(assign=True), share_memory(), p.data = ..., a new parameter). "
                "Close the task, change the model, and register it again; load_state_dict() "
                "without assign works inside rtswap.resident(model), and what replaces tensors for "
                "one call only (functional_call, torch.export) inside `with task.job():`."
            )
        for contents in self._contents:
            if contents.restructured():
                contents.look_again(self.label, self._sets)

    def _closed(self) -> Closed:
        return Closed(f"{self.label} was closed. Register its model again.")

    def open(self, holder: object, landed_chunks: int | None = None) -> None:
        """A grant begins: torch may touch the storages; with ``landed_chunks`` those that lie in
        the first so many (REQUIRES then: not busy, one arena). Whatever comes of it, `close` ends
        it."""
        if not self._tensors.open(holder, landed_chunks):
            raise self._closed()

    def gate(self, landed_chunks: int, wait: Callable[[int], int]) -> _core.PrefixGate:
        """Operators that use more than has landed call ``wait(chunks)`` first. REQUIRES, as what
        follows here: one arena."""
        return _core.PrefixGate(self._sets, landed_chunks, wait)

    def close_beyond(self, landed_chunks: int) -> None:
        self._tensors.close_beyond(landed_chunks)

    def open_up_to(self, landed_chunks: int) -> None:
        """More has landed since `close_beyond`."""
        self._tensors.open_up_to(landed_chunks)

    def close(self, holder: object) -> None:
        """A grant ends. Idempotent."""
        if not self._tensors.close(holder, unless_written=True):
            self._keep_written()
            self._tensors.close(holder, unless_written=False)

    def _keep_written(self) -> None:
        """Eviction would drop what the job wrote to read_only tensors."""
        try:
            names = [name for contents in self._contents for name in contents.changed()]
            if not names:
                return
            synchronize(self.torch_devices)  # whichever stream wrote
            self.saved_bytes += sum(tensors.save_changed(False) for tensors in self._sets)
        except RuntimeError as error:  # the grant must be given back in any case
            log.error("%s: what a job wrote to its weights is lost: %s", self.label, error)
            return
        self._warn_written(shown(names))

    def _report_repairs(self) -> None:
        if not self._verify or self._warned:
            return
        found = sum(arena.stats()["repaired_bytes"] for arena in self.arenas)
        if found:
            self._warn_written(f"{found} bytes, found by verify=True")

    def _warn_written(self, what: str) -> None:
        if self._warned:
            return
        self._warned = True
        log.warning(
            "%s: a job wrote to read_only tensors (%s). The values were kept, at the cost of a "
            "copy. Register them as mutable (kinds={pattern: 'mutable'}): without verify=True, "
            "writes through .data, numpy or fused optimizers are noticed by nobody and lost.",
            self.label,
            what,
        )

    def keep_regions(self) -> None:
        """The job is about to end: what is alive in its regions must not be lost with it."""
        for region in self.regions:
            region.keep()

    def settle_regions(self) -> None:
        """The grant's work has completed on the device."""
        for region in self.regions:
            region.settle()

    # --- the end -------------------------------------------------------------------------------

    def release(self) -> None:
        """Gives the tensors ordinary memory with the bytes they have now, and ends the arenas.

        Needs neither a grant nor a connected arbiter. REQUIRES: its tasks are closed.
        """
        with self._lock:
            self._tensors.retire()
            for region in self.regions:
                region.give_back()
                region.retire()
            try:
                self._save()
                self._report_repairs()
            finally:  # without a device there are still the bytes of the last eviction
                for tensors in self._sets:
                    tensors.release()
                self._contents.clear()
                for arena in self.arenas:
                    arena.close()

    def _save(self) -> None:
        """One that fails keeps no other from being saved."""
        failures = []
        for arena in self.arenas:
            try:
                arena.save()
            except Error as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def renew_lock(self) -> None:
        self._lock = threading.RLock()

    def forsake(self, why: str) -> None:
        """Closes the tensors for good, without giving them memory."""
        with self._lock:
            self._tensors.retire()
            for region in self.regions:
                region.retire()
            for tensors in self._sets:
                tensors.close(f"{self.label}: {why}")

    def save_changed(self) -> None:
        """Writes read_only storages that changed during this grant to the host image: on purpose.

        Storages without version counters (inference mode) are written in any case.
        """
        for contents in self._contents:
            contents.changed()
            for tensors in contents.sets:
                tensors.save_changed(True)
                tensors.note_versions()

    def copy_mutable(self) -> list[list[torch.Tensor]]:
        return [tensors.copy_mutable() for tensors in self._sets]

    def assign_mutable(self, copies: list[list[torch.Tensor]]) -> None:
        for tensors, copy in zip(self._sets, copies, strict=True):
            tensors.assign_mutable(copy)

    def refused(self, error: BaseException) -> bool:
        """Whether it comes from a tensor of this model that was closed."""
        return self._closed_message() in str(error)

    def _closed_message(self) -> str:
        # One for all cases: a thread that is being refused may be reading it at any time.
        return (
            f"rtswap: this tensor belongs to {self.label}, which holds no memory now (it may be "
            "swapped out, or on its way for a running job). Enter `with task.job():` to run "
            "the model, or `with rtswap.resident(model):` to read, save or load it. In a job, "
            "operators of torch wait by themselves; before anything else that reaches the tensor "
            "(data_ptr(), a kernel of another library, another thread), call "
            "rtswap.current_job().wait_for_memory()."
        )
