"""Options that several commands share, and how their values are read.

Touch it when a second command needs an option. It knows no command.
"""
