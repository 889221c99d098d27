"""Machine files in YAML: strict reading with file, key and unit in every error, and writing."""
