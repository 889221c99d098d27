"""Contract tests that the author of a plug-in inherits.

Touch it when an interface promises more or less. Nothing of chakrasim imports it.
"""
