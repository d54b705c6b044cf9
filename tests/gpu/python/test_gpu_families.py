"""The models of tests/python/test_families.py on a real device, exact over 50 evictions each."""

from __future__ import annotations

import pytest
from test_families import (  # noqa: F401
    test_a_checkpoint_on_disk_fills_a_model_on_meta,
    test_detector_with_two_passes,
    test_generating_inside_a_job,
    test_generating_outside_a_job_yields_between_tokens,
    test_generating_with_an_encoder_outside_a_job_says_what_to_do,
    test_hugging_face_models,
    test_resnet,
    test_vision_transformer,
)

from tests.gpu.python.conftest import embedded, exact_arithmetic, models_made_on_the_gpu


@pytest.fixture(autouse=True)
def arbiter():
    with embedded("32MiB") as info, exact_arithmetic(), models_made_on_the_gpu():
        yield info
