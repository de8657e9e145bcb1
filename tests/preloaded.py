"""Made once in the process that `tests.binaries` forks, not in each fork."""

from tfadv import tokenization

tokenization._bert_characters(True, True, True)
