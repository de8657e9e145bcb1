"""Flags that name a trained run and what to do with it."""

from absl import flags

RUN_DIR = flags.DEFINE_string(
    "run_dir", None, "Folder of a run: the --output_dir of tools.train."
)
SPLIT = flags.DEFINE_enum(
    "split",
    "test",
    ["train", "dev", "test"],
    "The split of the data: by default of the data the run was trained with, "
    "else of what --dataset or the file flags name.",
)

flags.mark_flag_as_required(RUN_DIR.name)
