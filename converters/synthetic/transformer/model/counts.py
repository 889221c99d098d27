"""Parameters of a model, and floating-point operations of a step of its training.

These are counts of the model alone, whatever the plan: what a generated graph is checked against, and what
model FLOPs utilisation is reckoned from.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from chakrasim.converters.synthetic.transformer.model.model import Model
from chakrasim.converters.synthetic.transformer.plan.plan import RECOMPUTATIONS
from chakrasim.traces.errors import ConfigError, UnknownName


@dataclass(frozen=True)
class Parameters:
    """Parameters by part."""

    embedding: int = 0
    """Embeddings of tokens and learned positions."""
    attention: int = 0
    ffn: int = 0
    """Dense feed-forward networks."""
    experts: int = 0
    """All of them, routed and shared."""
    router: int = 0
    norms: int = 0
    output: int = 0
    """The output layer; 0 if it uses the embedding's matrix."""
    idle_experts: int = 0
    """The part of `experts` that a token isn't sent to."""

    @property
    def total(self) -> int:
        """All parts together."""
        return self.active + self.idle_experts

    @property
    def active(self) -> int:
        """Parameters that one token meets, the whole embedding and output layer among them."""
        busy = self.experts - self.idle_experts
        return self.embedding + self.attention + self.ffn + busy + self.router + self.norms + self.output

    def __add__(self, other: Parameters) -> Parameters:
        sums = {field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(self)}
        return Parameters(**sums)


def parameters(model: Model) -> Parameters:
    """Parameters of the whole model, counted once where embedding and output layer share a matrix."""
    ends = Parameters(
        embedding=(model.vocabulary + model.learned_positions) * model.hidden,
        norms=_norm(model, model.hidden),
        output=0 if model.has_tied_embeddings else model.vocabulary * model.hidden,
    )
    return sum((layer_parameters(model, layer) for layer in range(model.layers)), ends)


def layer_parameters(model: Model, layer: int) -> Parameters:
    """Parameters of a layer, counted from 0. Raises ConfigError if there is no such layer."""
    if not 0 <= layer < model.layers:
        raise ConfigError(f"{model.name} has no layer {layer}; expected 0 to {model.layers - 1}")
    return _layer(model, is_dense=layer < _dense_layers(model))


def step_operations(
    model: Model,
    sequences: int,
    sequence: int | None = None,
    recompute: str = "none",
    *,
    skips_masked: bool = False,
    is_frozen: bool = False,
) -> int:
    """Floating-point operations of the matrix products of a training step over so many sequences.

    A product of [m, k] and [k, n] has 2 m n k operations forward and twice as many backward. `sequence` is
    the length in tokens; None takes the model's. `recompute` is a plan's: `selective` does the attention's
    core (the products of queries with keys and of scores with values) again, `full` every layer, `alternate`
    half of them, neither the output layer. Weights that are frozen get no gradients. Each query meets all
    keys of its sequence, s^2 pairs, as model FLOPs are mostly reported; with `skips_masked` only those that
    the causal mask leaves, s^2 / 2, as fused kernels do (Dao, FlashAttention-2, 2023).

    For GPT this is 72 B s l h^2 (1 + s / 6h + V / 12lh), with full recomputation 96 B s l h^2 (1 + s / 6h +
    V / 16lh) (Narayanan et al., 2021, section 5.1, equation 3).

    Raises UnknownName for another way of recomputation, ConfigError for less than one sequence or token.
    """
    if recompute not in RECOMPUTATIONS:
        raise UnknownName("recomputation", recompute, RECOMPUTATIONS)
    length = model.sequence if sequence is None else sequence
    for what, count in (("sequences", sequences), ("tokens of a sequence", length)):
        if count < 1:
            raise ConfigError(f"{count} {what}: expected 1 or more")
    tokens = sequences * length
    core = sequences * _core_operations(model, length, skips_masked=skips_masked)
    products = 2 * tokens * _layer_weights(model)
    output = 2 * tokens * model.vocabulary * model.hidden
    again = {"none": 0, "selective": core, "alternate": (core + products) // 2, "full": core + products}
    per_product = 2 if is_frozen else 3
    return 3 * core + per_product * (products + output) + again[recompute]


def _dense_layers(model: Model) -> int:
    return model.experts.dense_layers if model.experts else model.layers


def _layer(model: Model, *, is_dense: bool) -> Parameters:
    attention = Parameters(
        attention=_attention_weights(model)
        + _attention_biases(model)
        + (model.heads if model.has_sinks else 0),
        norms=2 * _norm(model, model.hidden) + _inner_norms(model),
    )
    experts = model.experts
    if is_dense or experts is None:
        return attention + Parameters(ffn=_feed_forward(model, model.ffn))
    expert = _feed_forward(model, experts.ffn)
    shared = _feed_forward(model, experts.shared_ffn) if experts.shared_ffn else 0
    has_router_bias = model.has_biases or experts.has_router_bias
    return attention + Parameters(
        experts=experts.count * expert + shared,
        router=experts.count * (model.hidden + (1 if has_router_bias else 0)),
        idle_experts=(experts.count - experts.top_k) * expert,
    )


def _attention_weights(model: Model) -> int:
    latent = model.latent
    if latent is None:
        return model.hidden * model.head_size * 2 * (model.heads + model.kv_heads)
    key_size = model.head_size + latent.rope_size
    queries = model.heads * key_size
    return (
        (latent.query_rank * (model.hidden + queries) if latent.query_rank else model.hidden * queries)
        + model.hidden * (latent.kv_rank + latent.rope_size)
        + latent.kv_rank * model.heads * (model.head_size + latent.value_size)
        + model.heads * latent.value_size * model.hidden
    )


def _attention_biases(model: Model) -> int:
    if model.latent is not None or not (model.has_biases or model.has_qkv_bias):
        return 0
    qkv = (model.heads + 2 * model.kv_heads) * model.head_size
    return qkv + (model.hidden if model.has_biases else 0)


def _inner_norms(model: Model) -> int:
    """Norm parameters of compressed queries, keys and values, or of those of a head."""
    latent = model.latent
    if latent is not None:
        return sum(_norm(model, rank) for rank in (latent.query_rank, latent.kv_rank))
    return 2 * _norm(model, model.head_size) if model.has_qk_norm else 0


def _norm(model: Model, width: int) -> int:
    return width * (2 if model.has_layer_norm else 1)


def _feed_forward(model: Model, width: int) -> int:
    into = 2 if model.is_gated else 1
    biases = into * width + model.hidden if model.has_biases else 0
    return (into + 1) * model.hidden * width + biases


def _layer_weights(model: Model) -> int:
    """Elements of the matrices, of all layers, that a token is multiplied with."""
    into = 2 if model.is_gated else 1
    dense = _dense_layers(model)
    total = model.layers * _attention_weights(model) + dense * (into + 1) * model.hidden * model.ffn
    if model.experts:
        width = model.experts.top_k * model.experts.ffn + model.experts.shared_ffn
        sparse = (into + 1) * model.hidden * width + model.hidden * model.experts.count
        total += (model.layers - dense) * sparse
    return total


def _core_operations(model: Model, length: int, *, skips_masked: bool) -> int:
    """Forward operations of attention's core for one sequence in all layers."""
    latent = model.latent
    key_size = model.head_size + (latent.rope_size if latent else 0)
    value_size = latent.value_size if latent else model.head_size
    window = min(model.window or length, length)
    near = (model.layers + 1) // 2 if model.window else 0
    pairs = near * _twice_pairs(length, window, skips_masked)
    pairs += (model.layers - near) * _twice_pairs(length, length, skips_masked)
    return pairs * model.heads * (key_size + value_size)


def _twice_pairs(length: int, window: int, skips_masked: bool) -> int:
    """Twice the pairs of a query and a key in its window; where masked ones are skipped, the first `window`
    queries meet only half as many."""
    return 2 * length * window - (window * window if skips_masked else 0)
