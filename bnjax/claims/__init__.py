"""Evidence: every claim of five documents about batch norm, with rule and verdict.

``register`` has the claims and their rules, ``exact`` the checks that settle an
identity in seconds, and configs/claims the studies. ``python -m bnjax.claims`` prints
what came out.
"""
