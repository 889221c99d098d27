"""Small tools without a subject of their own: compilation, memoization, string tables, registries, YAML.

Touch it when two rooms need the same tool. It knows no graph.
"""
