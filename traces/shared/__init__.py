"""Small tools without a subject of their own: compilation, memoization, string tables."""
