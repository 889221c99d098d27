"""Models by name: their counts against what their makers published, files of one's own, and each mistake."""

from __future__ import annotations

from dataclasses import fields, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from chakrasim.converters.synthetic.transformer.model.counts import (
    Parameters,
    layer_parameters,
    parameters,
    step_operations,
)
from chakrasim.converters.synthetic.transformer.model.model import Experts, LatentAttention, Model
from chakrasim.converters.synthetic.transformer.model.presets import load_model, model_names, model_path
from chakrasim.traces.errors import ConfigError, UnknownName

SMALL = """
name: small
source: made up
layers: 2
hidden: 8
heads: 2
kv_heads: 1
head_size: 4
ffn: 16
is_gated: true
vocabulary: 10
has_tied_embeddings: false
sequence: 4
"""
EXPERTS = "experts: {count: 4, top_k: 2, ffn: 8, shared_ffn: 8, dense_layers: 1}\n"
LATENT = "latent: {query_rank: 3, kv_rank: 5, rope_size: 2, value_size: 6}\n"

GPTS = [name for name in model_names() if name.startswith(("gpt3-", "megatron-"))]
UNITS = {"M": 10**6, "B": 10**9, "T": 10**12}


def read(folder: Path, text: str = SMALL) -> Model:
    path = folder / "mine.yaml"
    path.write_text(text)
    return load_model(str(path))


def published(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(model_path(name).read_text())["published"]
    return found


def agrees(count: float, figure: int | str) -> bool:
    """Equal to a published count; of a rounded one within 0.1 % or, if coarser, half of its last digit."""
    if isinstance(figure, int):
        return count == figure
    digits, unit = (figure[:-1], UNITS[figure[-1]]) if figure[-1] in UNITS else (figure, 1)
    number = Decimal(digits)
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int)
    half = float(Decimal(10) ** exponent) * unit / 2
    return abs(count - float(number) * unit) <= max(half, 1e-3 * float(number) * unit)


# A small model worked out by hand


def test_the_parameters_of_a_small_model(tmp_path: Path) -> None:
    # Attention: queries 8 x 8, keys and values 8 x 4 each, projection 8 x 8. Three matrices of 8 x 16.
    assert layer_parameters(read(tmp_path), 0) == Parameters(attention=192, ffn=384, norms=16)
    assert parameters(read(tmp_path)) == Parameters(
        embedding=80, attention=384, ffn=768, norms=2 * 16 + 8, output=80
    )
    assert parameters(read(tmp_path)).total == 1352


def test_the_operations_of_a_small_model(tmp_path: Path) -> None:
    model = read(tmp_path)
    products = 4 * 2 * 2 * (192 + 384)  # tokens x 2 x layers x elements of the matrices
    output = 4 * 2 * 10 * 8
    core = 2 * 2 * 2 * (4 * 4) * (2 * 4)  # layers, two products, 2, pairs of tokens, width of all heads
    assert step_operations(model, 1) == 3 * (products + output + core) == 32_640
    assert step_operations(model, 1, skips_masked=True) == 3 * (products + output + core // 2)
    assert step_operations(model, 1, recompute="selective") == 32_640 + core
    assert step_operations(model, 1, recompute="full") == 32_640 + core + products
    assert step_operations(model, 1, 8) == 3 * (2 * products + 2 * output + 4 * core)


def test_experts_are_counted_all_and_used_in_part(tmp_path: Path) -> None:
    model = read(tmp_path, SMALL + EXPERTS)
    assert layer_parameters(model, 0) == layer_parameters(read(tmp_path), 0)
    layer = layer_parameters(model, 1)
    # An expert has 3 x 8 x 8 = 192: four routed and a shared one, of which two rest.
    assert layer == Parameters(attention=192, experts=5 * 192, router=32, norms=16, idle_experts=2 * 192)
    assert (layer.total, layer.active) == (1200, 816)
    assert (parameters(model).total, parameters(model).active) == (1960, 1576)
    # Dense layer 192 + 384, the other 192 + 3 experts of 192 + the router's 32; the core as without experts.
    assert step_operations(model, 1) == 3 * (4 * 2 * (576 + 192 + 576 + 32) + 640 + 1024)


def test_a_router_may_have_a_bias_of_its_own(tmp_path: Path) -> None:
    model = read(tmp_path, SMALL + EXPERTS.replace("}", ", has_router_bias: true}"))
    assert layer_parameters(model, 1).router == 32 + 4


def test_latent_attention(tmp_path: Path) -> None:
    model = read(tmp_path, SMALL + LATENT)
    # Down 8 x 3 and 8 x (5 + 2), up 3 x 2 x (4 + 2) and 5 x 2 x (4 + 6), back 2 x 6 x 8.
    assert layer_parameters(model, 0).attention == 24 + 56 + 36 + 100 + 96
    assert layer_parameters(model, 0).norms == 16 + 3 + 5
    # Keys of 4 + 2, values of 6.
    core = 2 * 2 * 16 * 2 * (6 + 6)
    assert step_operations(model, 1) == 3 * (4 * 2 * 2 * (312 + 384) + 640 + core)
    plain = read(tmp_path, SMALL + LATENT.replace("query_rank: 3", "query_rank: 0"))
    assert layer_parameters(plain, 0).attention == 8 * 2 * 6 + 56 + 100 + 96
    assert layer_parameters(plain, 0).norms == 16 + 5


def test_biases_norms_and_positions(tmp_path: Path) -> None:
    model = read(tmp_path)
    assert layer_parameters(replace(model, has_qkv_bias=True), 0).attention == 192 + 16
    assert layer_parameters(replace(model, has_biases=True), 0).attention == 192 + 16 + 8
    assert layer_parameters(replace(model, has_biases=True), 0).ffn == 384 + 2 * 16 + 8
    assert layer_parameters(replace(model, has_qk_norm=True), 0).norms == 16 + 4 + 4
    assert layer_parameters(replace(model, has_layer_norm=True), 0).norms == 32
    assert layer_parameters(replace(model, has_sinks=True), 0).attention == 192 + 2
    tied = parameters(replace(model, has_tied_embeddings=True, learned_positions=4))
    assert (tied.embedding, tied.output) == (14 * 8, 0)


def test_every_other_layer_may_look_through_a_window(tmp_path: Path) -> None:
    # Of four tokens, each meets one key in the first layer and four in the second: 20 of 32 pairs.
    model = read(tmp_path)
    pair = 2 * 2 * 8
    near = replace(model, window=1)
    assert step_operations(model, 1) - step_operations(near, 1) == 3 * pair * 12
    assert step_operations(replace(model, window=4), 1) == step_operations(model, 1)
    assert step_operations(replace(model, window=9), 1) == step_operations(model, 1)
    # Of three layers, the first and the last have it.
    three = replace(model, layers=3)
    assert step_operations(three, 1) - step_operations(replace(three, window=1), 1) == 3 * pair * 24
    # Masked ones left out, a window of two: 4 x 2 - 2 in the first layer, where all keys are 8.
    masked = step_operations(model, 1, skips_masked=True)
    assert masked - step_operations(replace(model, window=2), 1, skips_masked=True) == 3 * pair * 2


# Formulas of papers


@pytest.mark.parametrize("name", GPTS)
@given(batch=st.integers(1, 4096), tokens=st.integers(1, 1 << 17))
def test_gpt_has_the_operations_of_megatrons_formula(name: str, batch: int, tokens: int) -> None:
    model = load_model(name)
    length, width, vocabulary = model.layers, model.hidden, model.vocabulary
    # 72 B s l h^2 (1 + s / 6h + V / 12lh), and 96 and V / 16lh with all layers computed again, multiplied out
    scores, output = batch * tokens**2 * length * width, 6 * batch * tokens * width * vocabulary
    body = batch * tokens * length * width**2
    assert step_operations(model, batch, tokens) == 72 * body + 12 * scores + output
    assert step_operations(model, batch, tokens, "full") == 96 * body + 16 * scores + output


@pytest.mark.parametrize("name", GPTS)
def test_gpt_has_the_parameters_of_megatrons_formula(name: str) -> None:
    model = load_model(name)
    length, width = model.layers, model.hidden
    # 12 l h^2 (1 + 13 / 12h + (V + s) / 12lh), which leaves out the last norm
    formula = 12 * length * width**2 + 13 * length * width + (model.vocabulary + model.sequence) * width
    assert parameters(model).total == formula + 2 * width


@pytest.mark.parametrize("name", [name for name in model_names() if not load_model(name).window])
def test_operations_are_six_a_parameter_and_twelve_a_score(name: str) -> None:
    """PaLM's model FLOPs (Chowdhery et al., 2022, appendix B), of the parameters that a token is multiplied
    with; 12 l h s takes keys and values as wide as heads."""
    model = load_model(name)
    count = parameters(model)
    multiplied = count.active - count.embedding + (0 if count.output else model.vocabulary * model.hidden)
    latent = model.latent
    both = model.head_size + (latent.rope_size + latent.value_size if latent else model.head_size)
    for tokens in (1, model.sequence):
        palm = 6 * multiplied + 6 * model.layers * model.heads * both * tokens
        assert step_operations(model, 1, tokens) == pytest.approx(tokens * palm, rel=1e-3)


# Every preset


def test_the_presets_that_the_documentation_names_are_there() -> None:
    assert {"gpt3-175b", "megatron-1t", "llama3-405b", "mixtral-8x7b", "deepseek-v3"} <= set(model_names())


@pytest.mark.parametrize("name", model_names())
def test_a_preset_has_its_name_and_its_published_counts(name: str) -> None:
    model, figures = load_model(name), published(name)
    count = parameters(model)
    assert model.name == name
    assert model.source
    assert figures["source"]
    assert agrees(count.total, figures["parameters"])
    assert (model.experts is not None) == any(key.startswith("active") for key in figures)
    if "active_parameters" in figures:
        assert agrees(count.active, figures["active_parameters"])
    if "active_parameters_without_embedding" in figures:
        assert agrees(count.active - count.embedding, figures["active_parameters_without_embedding"])


@pytest.mark.parametrize("name", [name for name in model_names() if "training_operations" in published(name)])
def test_a_preset_has_the_published_operations_of_its_training(name: str) -> None:
    training = published(name)["training_operations"]
    tokens = int(float(training["tokens"][:-1]) * UNITS[training["tokens"][-1]])
    # A sequence of one token leaves next to nothing of the attention's core, which these figures leave out.
    assert agrees(step_operations(load_model(name), 1, 1) * tokens, training["operations"])


@pytest.mark.parametrize("name", model_names())
def test_the_layers_and_the_ends_make_the_whole(name: str) -> None:
    model = load_model(name)
    layers = sum((layer_parameters(model, layer) for layer in range(model.layers)), Parameters())
    whole = parameters(model)
    last_norm = model.hidden * (2 if model.has_layer_norm else 1)
    assert layers.total + whole.embedding + whole.output + last_norm == whole.total
    assert layers.active < layers.total if model.experts else layers.active == layers.total


@pytest.mark.parametrize("name", model_names())
def test_recomputation_adds_and_a_mask_takes_away(name: str) -> None:
    model = load_model(name)
    none, selective, full = (
        step_operations(model, 2, recompute=way) for way in ("none", "selective", "full")
    )
    assert none < selective < full < none * 4 / 3
    assert step_operations(model, 2, skips_masked=True) < none == 2 * step_operations(model, 1)


# A user's own file


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    model = read(tmp_path, SMALL + EXPERTS + LATENT + "has_dropout: true\npublished: {parameters: 1.4K}\n")
    assert model.experts == Experts(count=4, top_k=2, ffn=8, shared_ffn=8, dense_layers=1)
    assert model.latent == LatentAttention(query_rank=3, kv_rank=5, rope_size=2, value_size=6)
    assert model.has_dropout
    assert not model.has_biases


def test_a_preset_is_a_start_for_ones_own(tmp_path: Path) -> None:
    for name in model_names():
        assert read(tmp_path, model_path(name).read_text()) == load_model(name)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("hidden: 8", "hiden: 8", "unknown key 'hiden'; did you mean 'hidden'?"),
        ("hidden: 8", "zzz: 8", "unknown key 'zzz'; known are name, source, layers"),
        ("hidden: 8", "", "lacks the key 'hidden'"),
        ("hidden: 8", "hidden: 8\nhidden: 9", "the key 'hidden' is given twice"),
        ("hidden: 8", "hidden: eight", "hidden is 'eight'; expected a whole number from 1 to 100,000,000"),
        ("hidden: 8", "hidden: 8.0", "hidden is 8.0; expected a whole number"),
        ("hidden: 8", "hidden: true", "hidden is True; expected a whole number"),
        ("hidden: 8", "hidden: 0", "hidden is 0; expected a whole number from 1"),
        ("hidden: 8", "hidden: -8", "hidden is -8; expected a whole number from 1"),
        ("hidden: 8", "hidden: 1000000000", "hidden is 1000000000; expected a whole number from 1 to"),
        (
            "hidden: 8",
            "hidden: 8\nlearned_positions: -1",
            "learned_positions is -1; expected a whole number from 0",
        ),
        ("is_gated: true", "is_gated: 1", "is_gated is 1; expected true or false"),
        ("name: small", "name: 7", "name is 7; expected text"),
        ("name: small", "name: ' '", "name is ' '; expected text"),
        ("kv_heads: 1", "kv_heads: 3", "kv_heads is 3; expected a divisor of heads, 2"),
        ("ffn: 16", "ffn: 0", "ffn is 0; expected the width of the layers that have no experts"),
        ("ffn: 8, shared", "fn: 8, shared", "experts: unknown key 'fn'; did you mean 'ffn'?"),
        ("top_k: 2", "top_k: 5", "experts: top_k is 5; there are 4 experts"),
        ("top_k: 2, ", "", "experts: lacks the key 'top_k'"),
        ("top_k: 2", "top_k: 0", "experts: top_k is 0; expected a whole number from 1"),
        ("dense_layers: 1", "dense_layers: 3", "experts: dense_layers is 3; the model has 2 layers"),
        (EXPERTS, "experts: 4\n", "experts: is 4; expected keys and values"),
        (EXPERTS, "experts:\n", "experts: is None; expected keys and values"),
        ("kv_rank: 5", "kv_rang: 5", "latent: unknown key 'kv_rang'; did you mean 'kv_rank'?"),
        ("value_size: 6", "value_size: 0", "latent: value_size is 0; expected a whole number from 1"),
        ("hidden: 8", "hidden: 8\npublished: 3", "published: is 3; expected keys and values"),
        ("hidden: 8", "hidden: 8\npublished: {parameter: 3}", "unknown key 'parameter'; did you mean"),
        ("hidden: 8", "hidden: [8", "not valid YAML"),
    ],
)
def test_a_mistake_in_a_file_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = SMALL + EXPERTS + LATENT
    assert old in text
    with pytest.raises(ConfigError) as error:
        read(tmp_path, text.replace(old, new, 1))
    assert str(error.value).startswith(str(tmp_path / "mine.yaml"))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "small", "- name: small"])
def test_a_file_that_is_no_mapping(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"mine\.yaml: is .*; expected keys and values"):
        read(tmp_path, text)


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mine\.yaml: can't be read: No such file"):
        load_model(str(tmp_path / "mine.yaml"))
    (tmp_path / "mine.yaml").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_model(str(tmp_path / "mine.yaml"))
    with pytest.raises(ConfigError, match="can't be read"):
        load_model(str(tmp_path))


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match="no model 'llama3-7b'; did you mean 'llama"):
        load_model("llama3-7b")


@pytest.mark.parametrize("layer", [-1, 2])
def test_a_layer_that_is_not_there(tmp_path: Path, layer: int) -> None:
    with pytest.raises(ConfigError, match=f"small has no layer {layer}; expected 0 to 1"):
        layer_parameters(read(tmp_path), layer)


def test_a_step_of_nothing_is_refused(tmp_path: Path) -> None:
    model = read(tmp_path)
    with pytest.raises(ConfigError, match="0 sequences: expected 1 or more"):
        step_operations(model, 0)
    with pytest.raises(ConfigError, match="0 tokens of a sequence: expected 1 or more"):
        step_operations(model, 1, 0)
    with pytest.raises(UnknownName, match="no recomputation 'ful'; did you mean 'full'"):
        step_operations(model, 1, recompute="ful")


def test_every_part_is_added(tmp_path: Path) -> None:
    ones = Parameters(**{field.name: 1 for field in fields(Parameters)})
    assert ones + ones == Parameters(**{field.name: 2 for field in fields(Parameters)})
    assert (ones.total, ones.active) == (7, 6)


def test_the_documented_example_is_a_model(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs/model-file.md").read_text()
    blocks = [block.split("```")[0] for block in page.split("```yaml\n")[1:]]
    assert read(tmp_path, blocks[0]) == replace(load_model("llama3-8b"), **own_words(blocks[0]))
    model = read(tmp_path, "\n".join(blocks))
    deepseek = load_model("deepseek-v3")
    assert (model.experts, model.latent) == (deepseek.experts, deepseek.latent)
    for field in fields(Model):
        assert f"{field.name}:" in page or f"| `{field.name}` |" in page


def own_words(text: str) -> dict[str, str]:
    content = yaml.safe_load(text)
    return {key: content[key] for key in ("name", "source")}
