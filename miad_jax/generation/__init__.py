"""Crystals that are as somebody asked: drawn by a trained model, again where they miss it."""
