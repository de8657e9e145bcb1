"""Made once in the process that `tests.binaries` forks, not in each fork."""

from tfadv.text import characters

characters.bert_characters(True, True, True)
