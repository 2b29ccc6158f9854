"""Checks that settle a claim in seconds, by an identity or a count.

Each is a function without arguments that computes everything anew and returns a
`bnjax.claims.finding.Finding`; the register names it as ``module.function``.
"""
