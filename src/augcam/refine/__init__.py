"""From a class that an augmentation hurts to a pipeline that spares it, confirmed with fresh seeds.

decisions.py   what is hurt, what is confirmed, and by which test; arithmetic alone
loop.py        the steps in their order, and refine.json
processes.py   a run trained in a process of its own
"""
