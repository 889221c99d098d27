"""Replay of execution graphs on a machine. Read `simulate.py` first. Only the command line knows converters.

```python
from chakrasim.replay.machine import load_machine
from chakrasim.replay.simulate import simulate
```
"""
