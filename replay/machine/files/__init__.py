"""Machine files in YAML: strict reading with file, key and unit in every error, and writing.

Touch it for another key. It knows the fields of a machine and nothing of what they cost.
"""
