"""The published figures that `reproduce` sets ours beside.

GA2-CLIP (arXiv 2511.22125) and the logs in its repository, read in November 2026; base-to-novel with 16 shots and
few-shot with K = 2, 4, 8, 16.
"""

# Top-1 in percent: (the paper, the log at the last epoch). Novel classes were tested once.
HALVES = {
    "kinetics400": {"base": (77.0, 77.00), "novel": (63.3, 63.31), "HM": (69.5, 69.49)},
    "hmdb51": {"base": (78.3, 77.68), "novel": (58.9, 58.91), "HM": (67.2, 67.01)},
    "ucf101": {"base": (96.8, 96.84), "novel": (75.2, 76.24), "HM": (84.6, 85.31)},
    "ssv2": {"base": (18.7, 17.75), "novel": (14.3, 14.55), "HM": (16.2, 15.99)},
}
FEW_SHOT = {
    "hmdb51": {2: (61.91, 61.91), 4: (64.32, 63.09), 8: (68.10, 67.06), 16: (70.77, 68.95)},
    "ucf101": {2: (90.01, 89.75), 4: (91.76, 91.62), 8: (93.84, 93.55), 16: (95.67, 95.48)},
    "ssv2": {2: (6.75, 5.43), 4: (9.89, 9.89), 8: (10.62, 9.85), 16: (14.74, 14.39)},
}
# Datasets whose published runs start from CLIP's own weights; the others start from a CLIP tuned on Kinetics-400.
FROM_CLIP = frozenset({"kinetics400"})
# (classes, test clips of the first official split), for the estimate of work.
SIZES = {"kinetics400": (400, 19_881), "hmdb51": (51, 1_530), "ucf101": (101, 3_783), "ssv2": (174, 24_777)}
