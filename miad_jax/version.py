"""The version of the package; its metadata are made from it."""

VERSION = "0.2.0"
