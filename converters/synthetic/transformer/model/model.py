"""Description of a transformer language model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Experts:
    """The mixture of experts that takes the place of the feed-forward network."""

    count: int
    """Routed experts of a layer."""
    top_k: int
    """Experts that each token is sent to."""
    ffn: int
    """Width of each expert."""
    shared_ffn: int = 0
    """Width of the experts that every token passes, all together; 0 if there is none."""
    dense_layers: int = 0
    """First layers, which have an ordinary feed-forward network instead."""
    has_router_bias: bool = False
    """The router has a bias an expert, where other layers have none."""


@dataclass(frozen=True)
class LatentAttention:
    """Multi-head latent attention (DeepSeek-AI, DeepSeek-V2, 2024, section 2.1)."""

    query_rank: int
    """Width to which queries are compressed; 0 if they aren't."""
    kv_rank: int
    """Width to which keys and values are compressed together."""
    rope_size: int
    """Width of a head's part of query and key with positions; the key's is shared by all heads."""
    value_size: int
    """Width of a head's value; `Model.head_size` is that of the part of query and key without positions."""


@dataclass(frozen=True)
class Model:
    """A decoder-only transformer. Widths are in elements."""

    name: str
    source: str
    """Publication of the figures."""
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    """Heads of keys and values: as many as `heads`, or fewer that share one (grouped-query attention)."""
    head_size: int
    ffn: int
    """Width of the dense feed-forward network."""
    is_gated: bool
    """Three matrices, as SwiGLU has, rather than two."""
    vocabulary: int
    has_tied_embeddings: bool
    """The output layer uses the input embedding's matrix."""
    sequence: int
    """Tokens of a sequence in training, where a plan doesn't say otherwise."""
    has_biases: bool = False
    """Linear layers have biases, also those of experts and their router, except the output layer."""
    has_qkv_bias: bool = False
    """Biases in the layers that make queries, keys and values, where the others have none."""
    has_layer_norm: bool = False
    """Normalisations have a bias besides their weight (LayerNorm, not RMSNorm)."""
    has_qk_norm: bool = False
    """Queries and keys are normalised, each over a head's width."""
    has_sinks: bool = False
    """Each head has a learned score that takes part in its softmax."""
    window: int = 0
    """Keys that a query sees in every other layer, from the first on; 0 if it sees all everywhere."""
    learned_positions: int = 0
    """Positions that have an embedding; 0 for rotary ones and others without parameters."""
    has_dropout: bool = False
    experts: Experts | None = None
    latent: LatentAttention | None = None
