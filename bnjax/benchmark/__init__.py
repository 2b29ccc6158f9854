"""How fast bnjax is beside others: ``python -m bnjax.benchmark layer|step|sweep``.

Each measurement runs in a process of its own, the sides in turn, for machines are
noisy: trust the ratios.
"""
