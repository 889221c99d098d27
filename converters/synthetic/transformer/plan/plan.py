"""Plan of a training step: parallelism, schedule, precision and overlaps."""

from __future__ import annotations

from dataclasses import dataclass, replace

DIMENSIONS = ("tensor", "context", "data", "pipeline")
SCHEDULES = ("1f1b", "gpipe", "zero-bubble")
SHARDINGS = ("none", "zero1", "zero2", "zero3")
OVERLAPS = ("none", "backward", "full")
RECOMPUTATIONS = ("none", "selective", "alternate", "full")
DTYPES = ("bf16", "fp16", "fp32", "tf32", "fp8", "mxfp8", "nvfp4")


@dataclass(frozen=True)
class Plan:
    """A parallelism plan. Ranks: tensor x context x data x pipeline."""

    tensor: int = 1
    context: int = 1
    """Ranks a sequence is cut over (ring attention)."""
    data: int = 1
    pipeline: int = 1
    virtual_stages: int = 1
    """Chunks of layers a rank has; more than 1 interleaves the schedule."""
    expert: int = 1
    """Ranks over which the experts of a layer are spread; taken from the tensor, context and data ranks."""
    expert_tensor: int = 1
    """Ranks over which each expert is cut."""
    node_ranks: int = 0
    """Tokens travel once to every node of so many ranks on which they have experts, as in DeepSeek's DeepEP,
    and once to every rank within a node; 0 sends a copy for every expert."""
    order: str = "tensor-context-data-pipeline"
    """Order of the dimensions in rank numbers: the first varies fastest with the rank number."""
    global_batch: int = 0
    """Sequences of a step; 0 takes one pass of all data ranks, in a pipeline four for each stage."""
    micro_batch: int = 1
    """Sequences of a pass."""
    sequence: int | None = None
    """Tokens of a sequence; None takes the model's."""
    schedule: str = "1f1b"
    sequence_parallel: bool | None = None
    """Between the tensor-parallel parts, activations are cut along the sequence (Korthikanti 2022). None does
    so in training with tensor-parallel ranks, as Megatron-LM's recipes do, and not in inference."""
    sharding: str = "none"
    """ZeRO stage (Rajbhandari 2020): zero1 shards the optimizer's states over the data ranks, zero2 also
    gradients, zero3 (FSDP) also parameters."""
    prefetch: int = 1
    """With zero3: layers whose parameters are gathered ahead."""
    dtype: str = "bf16"
    """Data type of products and activations; fp8 and narrower ones keep activations and weights in bf16."""
    gradient_dtype: str = "fp32"
    """Data type in which gradients are kept and reduced."""
    recompute: str = "none"
    """Activations that are computed again in the backward pass: none; those of the attention's core
    (selective); all but a layer's input, of every other layer (alternate) or of all (full)."""
    flash_attention: bool = True
    is_fused: bool = True
    """Functions between matrix products are fused into few kernels, as in Megatron-LM or by a compiler; else
    each is a kernel, as in plain PyTorch."""
    overlap_gradients: bool = True
    """Gradients are reduced in buckets while the backward pass goes on."""
    bucket_MB: float = 100
    overlap_tensor: str = "none"
    """Tensor-parallel communication that runs beside matrix products: none; that of the backward pass,
    beside products that don't need it (backward); all, piece by piece beside those that make or use it
    (full)."""
    overlap_experts: bool = False
    """All-to-alls of a pass run beside its compute, as where two micro-batches are interleaved."""
    overlap_pipeline: bool = True
    """A stage goes on while its messages are under way."""
    has_host: bool = True
    """The host issues operators one after another, which bounds what is small."""
    has_optimizer: bool = True
    """The step ends with that of the optimizer, not with the gradients."""
    frozen: bool = False
    """Weights get no gradients of their own, as under LoRA."""
    drop_tokens: bool = False
    """Each expert takes equally many tokens and drops the rest, so that the host needn't wait for their
    number, and one kernel has the products of all experts of a rank."""
    imbalance: float = 0.0
    """Imbalance of tokens over experts: the standard deviation of an expert's share over its mean."""
    seed: int = 0

    def completed(self, *, is_training: bool) -> Plan:
        """The plan with its open choices made: the only place that knows their defaults."""
        passes = 4 * self.pipeline if self.pipeline > 1 else 1
        cuts_sequence = self.sequence_parallel
        if cuts_sequence is None:
            cuts_sequence = is_training and self.tensor > 1
        return replace(
            self,
            global_batch=self.global_batch or self.data * self.micro_batch * passes,
            sequence_parallel=cuts_sequence,
        )

    @property
    def ranks(self) -> int:
        """Ranks of the job: the product of all dimensions."""
        return self.tensor * self.context * self.data * self.pipeline

    @property
    def micro_batches(self) -> int:
        """Passes of each pipeline stage in a step."""
        return self.global_batch // (self.micro_batch * self.data)
