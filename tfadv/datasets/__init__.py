"""Named data sets, each turned into labelled texts in memory."""
