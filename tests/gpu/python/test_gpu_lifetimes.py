"""From registering to closing on a GPU: many times, with copies, changes, interrupts and files."""

from __future__ import annotations

import pytest
import torch
from test_copies import (  # noqa: F401
    test_a_copy_is_an_ordinary_model_with_the_hooks_of_others,
    test_a_copy_that_took_the_hooks_along_says_what_to_do,
    test_what_contains_a_registered_model_is_copied_too,
)
from test_interrupts import (  # noqa: F401
    test_a_call_outside_any_job_that_is_interrupted,
    test_a_job_that_is_interrupted_in_its_body,
    test_an_interrupt_at_any_place_of_a_job,
    test_the_next_cell_may_come_at_once,
)
from test_module_changes import (  # noqa: F401
    test_added_tensors_stay_in_ordinary_memory_and_are_named_once,
    test_an_added_tensor_can_be_made_swappable,
    test_changes_that_leave_the_tensors_alone_work,
    test_replaced_tensors_are_named_at_the_next_job_and_closing_is_safe,
)
from test_residency import test_resident_reads_saves_and_loads  # noqa: F401
from test_soak import Life, stays_flat
from test_weights import (  # noqa: F401
    test_a_model_that_fills_nine_tenths_of_the_budget_loads_and_runs,
    test_an_interrupted_load_changes_nothing,
)

import rtswap

pytestmark = pytest.mark.usefixtures("arbiter")


def test_two_hundred_registrations_leave_nothing_behind():
    life = Life()
    life.live()
    torch.cuda.empty_cache()
    before_bytes = torch.cuda.mem_get_info()[0]
    stays_flat(life.live, 200)
    assert not rtswap.stats().tasks
    torch.cuda.empty_cache()
    assert before_bytes - torch.cuda.mem_get_info()[0] < 8 << 20  # a chunk each would be 400 MiB
