"""Flags that say where results go."""

from absl import flags

OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Folder for the results; made if there is none."
)
OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "Replace the results that the output folder holds."
)
