"""Relaxation, energies, and the hull they are measured against."""
