"""The paper's own results, to stand beside ours.

Reference:
 - CARL and RAR paper, Tables 2, 4 and 5
"""

# Table 2: accuracy in percent, by dataset and method.
ACCURACY = {
    "sst2": {"baseline": 92.16, "freelb": 93.23, "carl": 93.77, "rar": 93.73},
    "yahoo": {"baseline": 73.93, "freelb": 74.28, "carl": 74.65, "rar": 74.88},
    "yelp": {"baseline": 93.55, "freelb": 93.93, "carl": 94.55, "rar": 94.4},
    "ag_news": {"baseline": 89.9, "freelb": 90.85, "carl": 92.05, "rar": 91.75},
}

# Tables 4 and 5 are about AG's News.
ATTACKED_DATASET = "ag_news"

# Table 4: by epsilon and method.
COSINE = {
    0.1: {"baseline": 0.851, "freelb": 0.899, "carl": 0.917, "rar": 0.926},
    0.075: {"baseline": 0.871, "freelb": 0.918, "carl": 0.934, "rar": 0.941},
}
EUCLIDEAN = {
    0.1: {"baseline": 8.409, "freelb": 6.477, "carl": 5.34, "rar": 5.121},
    0.075: {"baseline": 7.746, "freelb": 5.776, "carl": 4.668, "rar": 4.453},
}

# Table 5: accuracy in percent, by epsilon and method.
ATTACKED_ACCURACY = {
    0.02: {"baseline": 86.6, "freelb": 88.8, "carl": 90.0, "rar": 89.8},
    0.075: {"baseline": 72.6, "freelb": 80.25, "carl": 81.4, "rar": 80.5},
    0.1: {"baseline": 70.2, "freelb": 78.0, "carl": 80.1, "rar": 78.6},
}
