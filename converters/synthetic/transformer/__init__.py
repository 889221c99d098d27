"""Transformer language models as Chakra graphs: a model and a parallelism plan in, one graph a rank out.

`model.py` and `plan.py` say what is asked for, `attention.py` and `feed_forward.py` which operations a layer
consists of, `stages.py` which layers a rank has, `schedule.py` in which order it passes through them.
`training.py` and `inference.py` make graphs of it, one for each kind of rank (`ranks.py`).
"""

from chakrasim.converters.synthetic.transformer.inference import Request, generate_inference
from chakrasim.converters.synthetic.transformer.model.model import Experts, LatentAttention, Model
from chakrasim.converters.synthetic.transformer.model.presets import load_model, model_names
from chakrasim.converters.synthetic.transformer.plan.plan import Plan
from chakrasim.converters.synthetic.transformer.training import generate_training

__all__ = [
    "Experts",
    "LatentAttention",
    "Model",
    "Plan",
    "Request",
    "generate_inference",
    "generate_training",
    "load_model",
    "model_names",
]
