"""Files that appear whole or not at all, one writer a folder, the cache folder, what a run is."""
