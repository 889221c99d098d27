"""Transformer language models as Chakra graphs: a model and a parallelism plan in, one graph a rank out.

`model.py` and `plan.py` say what is asked for, `layer.py` which operations that is, `schedule.py` in which
order a pipeline stage runs its passes, `training.py` and `inference.py` make graphs of it.
"""
