"""The command language: a text -> typed invocations, or what is wrong where; and what may follow.

``syntax`` has the pieces and their places, ``scanner`` and ``grammar`` find them, ``parser`` makes
an invocation of them by ``arguments`` (human commands) or ``fields`` (requests), ``completion``
says what can be typed next. Nothing here runs a command.
"""
