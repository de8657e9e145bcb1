"""The one logger of the library.

Nothing in the library prints: what people may want to know while something
runs goes to `logger`, at level INFO. The binaries show it on stderr; in Python
`logging.getLogger("tfadv").setLevel("INFO")` with a handler does.
"""

import logging

logger = logging.getLogger("tfadv")
logger.addHandler(logging.NullHandler())
