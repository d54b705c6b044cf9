"""Models as people use them, from torchvision and Hugging Face, small and with random weights: each
exact over many evictions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from eviction import Rival, same
from torch import Tensor, nn
from vision import import_torchvision

import rtswap

CYCLES = 50
DTYPES = (torch.float32, torch.bfloat16, torch.float16)

Run = Callable[[nn.Module], Any]


@pytest.fixture(autouse=True)
def arbiter() -> Iterator[None]:
    rtswap.enable(simulate="32MiB", link_bandwidth="8GB", verify=True, name="test")
    yield
    rtswap.disable()


def exact(model: nn.Module, run: Run) -> rtswap.Task:
    """Compares each job after an eviction with what the model gave before it was registered."""
    model.eval()
    torch.manual_seed(1)
    with torch.inference_mode():
        expected = run(model)
        task = rtswap.register(model)
        rival = Rival()
        for _ in range(CYCLES):
            rival.evict(task)
            with task.job():
                assert same(run(model), expected)
    assert task.stats().repaired_bytes == 0
    return task


# --- torchvision ---------------------------------------------------------------------------------


def image(dtype: torch.dtype, size: int = 32) -> Tensor:
    torch.manual_seed(2)
    return torch.rand(1, 3, size, size).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_resnet(dtype):
    import_torchvision()
    from torchvision.models.resnet import BasicBlock, ResNet

    model = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=10).to(dtype)
    x = image(dtype)
    exact(model, lambda model: model(x))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_vision_transformer(dtype):
    import_torchvision()
    from torchvision.models import VisionTransformer

    model = VisionTransformer(32, 8, 2, 2, 64, 128, num_classes=10)
    for parameter in model.heads.parameters():  # it starts with zeros there
        nn.init.normal_(parameter)
    x = image(dtype)
    exact(model.to(dtype), lambda model: model(x))


def test_detector_with_two_passes():
    import_torchvision()
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.rpn import AnchorGenerator
    from torchvision.ops import MultiScaleRoIAlign

    torch.manual_seed(3)
    backbone = nn.Sequential(
        nn.Conv2d(3, 16, 5, stride=4, padding=2), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU()
    )
    backbone.out_channels = 16
    model = FasterRCNN(
        backbone,
        num_classes=3,
        min_size=64,
        max_size=64,
        rpn_anchor_generator=AnchorGenerator(((16, 32),), ((0.5, 1.0),)),
        box_roi_pool=MultiScaleRoIAlign(["0"], output_size=3, sampling_ratio=1),
        rpn_post_nms_top_n_test=8,
        box_score_thresh=0.0,
        box_detections_per_img=5,
    )
    x = image(torch.float32, 64)
    task = exact(model, lambda model: model(x))
    with task.job():
        (found,) = model(x)
    assert len(found["boxes"]) > 0  # both passes had something to do


# --- Hugging Face --------------------------------------------------------------------------------


def transformers() -> Any:
    return pytest.importorskip("transformers", reason="needs transformers")


def tokens() -> Tensor:
    return torch.tensor([[5, 9, 33, 7]])


def encoder() -> nn.Module:
    hf = transformers()
    config = hf.BertConfig(
        vocab_size=256,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
    )
    return hf.BertModel(config)


def decoder(**changed: Any) -> nn.Module:
    hf = transformers()
    config = hf.LlamaConfig(
        vocab_size=256,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
        eos_token_id=None,
        **changed,
    )
    return hf.LlamaForCausalLM(config)


def encoder_decoder() -> nn.Module:
    hf = transformers()
    config = hf.T5Config(
        vocab_size=256,
        d_model=64,
        d_kv=16,
        d_ff=128,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=0,
        eos_token_id=None,
    )
    return hf.T5ForConditionalGeneration(config)


def with_cache(model: nn.Module) -> list[Tensor]:
    """The first pass fills a key-value cache, the second one reads it."""
    first = model(tokens(), use_cache=True)
    token = first.logits[:, -1:].argmax(-1)
    cache = first.past_key_values
    known = inspect.signature(model.forward).parameters
    name = "cache" if "cache" in known else "past_key_values"  # the older name
    second = model(token, **{name: cache}, use_cache=True)
    assert cache.get_seq_length() == tokens().shape[1] + 1
    return [first.logits, second.logits]


def generating(model: nn.Module) -> Tensor:
    return model.generate(tokens(), max_new_tokens=3, do_sample=False)


HUGGING_FACE: dict[str, tuple[Callable[[], nn.Module], Run]] = {
    "encoder": (encoder, lambda model: model(tokens()).last_hidden_state),
    "decoder with a cache": (decoder, with_cache),
    "encoder-decoder": (
        encoder_decoder,
        lambda model: model(tokens(), decoder_input_ids=tokens()).logits,
    ),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("make", "run"), HUGGING_FACE.values(), ids=HUGGING_FACE)
def test_hugging_face_models(make, run, dtype):
    torch.manual_seed(4)
    exact(make().to(dtype), run)


@pytest.mark.parametrize("make", [decoder, encoder_decoder])
def test_generating_inside_a_job(make):
    torch.manual_seed(5)
    exact(make(), generating)


def test_generating_outside_a_job_yields_between_tokens():
    class Yielding(transformers().generation.streamers.BaseStreamer):
        """Called with the prompt and with each token."""

        def put(self, value: Tensor) -> None:
            rival.evict(task)

        def end(self) -> None:
            pass

    torch.manual_seed(6)
    model = decoder(tie_word_embeddings=True).eval()
    expected = model.generate(tokens(), max_new_tokens=CYCLES, do_sample=False)
    task = rtswap.register(model)
    rival = Rival()
    made = model.generate(tokens(), max_new_tokens=CYCLES, do_sample=False, streamer=Yielding())
    assert torch.equal(made, expected)
    assert task.stats().released == CYCLES  # each token was a job of its own


def test_generating_with_an_encoder_outside_a_job_says_what_to_do():
    model = encoder_decoder().eval()
    rtswap.register(model, name="translator")
    with pytest.raises(RuntimeError, match=r"task 'translator'.*task\.job\(\)"):
        generating(model)  # calls the encoder, a part of the model, by itself


def test_a_checkpoint_on_disk_fills_a_model_on_meta(tmp_path):
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    torch.manual_seed(7)
    plain = decoder(tie_word_embeddings=True).eval()
    plain.save_pretrained(tmp_path, max_shard_size="50KB")
    with torch.device("meta"):
        model = decoder(tie_word_embeddings=True).eval()
    with pytest.raises(rtswap.WeightsMismatch, match=r"rotary_emb\.inv_freq"):
        rtswap.register(model, weights=tmp_path)
    # Its position tables are computed when it is made, and are in no file.
    model.model.rotary_emb = llama.LlamaRotaryEmbedding(model.config)
    task = rtswap.register(model, weights=tmp_path)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    rival = Rival()
    for _ in range(3):
        rival.evict(task)
        with task.job():
            assert torch.equal(generating(model), generating(plain))
