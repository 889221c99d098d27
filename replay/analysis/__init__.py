"""Functions of a result: exposed communication, critical path, stragglers, memory, throughput.

Touch it to answer a new question about a replay. It returns numbers, never text or JSON.
"""
