"""Figures of crystals and of sets of them."""
