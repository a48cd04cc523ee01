"""Fuzzing with coverage, by hand: docs/fuzzing.md. ``make test`` runs none of it."""
