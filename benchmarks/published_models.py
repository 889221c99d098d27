"""Models of published runs that don't come with chakrasim."""

from __future__ import annotations

from dataclasses import replace

from published_setup import Unstated

from chakrasim.converters.synthetic.transformer.model.model import Model
from chakrasim.converters.synthetic.transformer.model.presets import load_model
from chakrasim.traces.errors import ConfigError


def preset(name: str) -> Model:
    """A model that comes with chakrasim. Raises Unstated for one that doesn't."""
    try:
        return load_model(name)
    except ConfigError as error:
        raise Unstated(f"no model {name}") from error


def megatron_gpt(layers: int, hidden: int, heads: int, sequence: int, vocabulary: int) -> Model:
    """GPT as Megatron-LM trained it until 2023: learned positions, biases, dropout, tied embeddings."""
    return Model(
        name=f"gpt-l{layers}-h{hidden}",
        source="Narayanan et al., Efficient large-scale language model training (2021), section 5.1",
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=heads,
        head_size=hidden // heads,
        ffn=4 * hidden,
        is_gated=False,
        vocabulary=vocabulary,
        has_tied_embeddings=True,
        sequence=sequence,
        has_biases=True,
        has_layer_norm=True,
        learned_positions=sequence,
        has_dropout=True,
    )


def megatron_core_gpt(layers: int, hidden: int, heads: int, sequence: int, vocabulary: int) -> Model:
    """The models of Megatron-Core's table of H100 results: parameters come out as their names say (1.7B,
    7.1B, 462B) with an output matrix of its own and a feed-forward network of two matrices."""
    return replace(
        megatron_gpt(layers, hidden, heads, sequence, vocabulary),
        name=f"megatron-core-l{layers}-h{hidden}",
        source="Megatron-LM, README.md and images/model_table.png of Megatron-Core 0.8",
        has_tied_embeddings=False,
        has_biases=False,
        learned_positions=0,
        has_dropout=False,
    )


MPT = {
    "125m": (12, 768, 12),
    "350m": (24, 1024, 16),
    "760m": (24, 1536, 12),
    "1b": (24, 2048, 16),
    "3b": (32, 2560, 20),
    "7b": (32, 4096, 32),
    "13b": (40, 5120, 40),
    "30b": (48, 7168, 56),
    "70b": (80, 8192, 64),
}
"""Layers, width and heads of MPT models: llm-foundry, scripts/train/yamls/pretrain/mpt-*.yaml."""


def mpt(size: str, sequence: int, parameters: float | None) -> Model:
    """An MPT model with learned positions, as many as the sequence has tokens.

    Its count of parameters, V d + s d + L (12 d^2 + 9 d) + 2 d (2 L + 1), is exactly the one that
    llm-foundry's tables state. Raises Unstated for an unknown size, or where the count stated is another.
    """
    if size not in MPT:
        raise Unstated(f"no dimensions of an MPT model {size!r}")
    layers, hidden, heads = MPT[size]
    model = replace(
        megatron_gpt(layers, hidden, heads, sequence, vocabulary=50368),
        name=f"mpt-{size}",
        source=f"mosaicml/llm-foundry, scripts/train/yamls/pretrain/mpt-{size}.yaml",
        has_dropout=False,
    )
    own = (model.vocabulary + sequence) * hidden + layers * (12 * hidden**2 + 9 * hidden)
    own += 2 * hidden * (2 * layers + 1)
    if parameters is not None and abs(own / parameters - 1) > 0.001:
        raise Unstated(f"an MPT model {size} has {own:,} parameters; the row states {parameters:,.0f}")
    return model


HUGGING_FACE = {
    "bert_large": (24, 1024, 16, 512, 30522),
    "gpt2_large": (36, 1280, 20, 1024, 50257),
    "gpt3_xl": (24, 3072, 24, 2048, 50257),
    "gpt3_27": (32, 2560, 32, 2048, 50257),
    "opt_13": (24, 2048, 32, 2048, 50272),
}
"""Layers, width, heads, positions and vocabulary of the models that NeuSight measured in Hugging Face's
transformers. GPT-3 XL has 24 heads of 128 (Brown et al. 2020, table 2.1), so that a width that heads fill is
3072: its backward pass takes as long as that of GPT-3 2.7B, twice that of OPT 1.3B."""


def hugging_face(name: str) -> Model:
    """A model of Hugging Face's transformers. BERT's bidirectional attention costs unfused what causal
    attention does: all pairs. Raises Unstated for others."""
    if name not in HUGGING_FACE:
        raise Unstated(f"no dimensions of the model {name!r}")
    layers, hidden, heads, positions, vocabulary = HUGGING_FACE[name]
    return replace(
        megatron_gpt(layers, hidden, heads, positions, vocabulary),
        name=name.replace("_", "-"),
        source="config.json on Hugging Face; Brown et al., Language models are few-shot learners (2020)",
    )
