"""Files that appear whole or not at all, the cache folder, and what identifies a run."""
