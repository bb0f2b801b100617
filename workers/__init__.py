"""Stateless workers: dial out, claim, run, report."""
