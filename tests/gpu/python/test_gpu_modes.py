"""Modes of torch, ways into a model and threads, around and inside of jobs on a GPU."""

from __future__ import annotations

import pytest
from test_entry_points import (  # noqa: F401
    test_functional_call_with_other_weights_works_inside_a_job,
    test_generating_outside_a_job_yields_between_tokens_and_inside_it_does_not,
    test_ways_past_the_hooks_work_inside_jobs_and_are_caught_outside,
)
from test_modes import (  # noqa: F401
    test_a_backward_pass_belongs_into_the_job_of_its_forward_pass,
    test_autocast_around_several_jobs_sees_what_is_written_between,
    test_autocast_inside_jobs_is_exact,
    test_gradients_are_ordinary_tensors,
    test_models_made_and_used_in_any_mode_are_exact,
    test_registering_inside_inference_mode_leaves_parameters_trainable,
)
from test_soak import test_many_threads_on_few_models  # noqa: F401

pytestmark = pytest.mark.usefixtures("arbiter")
