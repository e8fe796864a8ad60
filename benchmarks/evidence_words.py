"""The sentences of docs/evidence.md, and what is known of the data sets and of the paper."""

from __future__ import annotations

from alapp.experiments.study import ALL, CHAIN, SINGLE

INTRODUCTION = """# What the method is worth, measured

Made by `python -m benchmarks.evidence --write docs` from stored runs of `python -m alapp experiment`; do not edit.

Every run trains as the app does on a computer without a GPU (preset "quick"): nnU-Net plans and pre-trains itself on
the pseudo-labels that "auto" chooses without downloaded weights, then each budget is trained from the model of the
smaller one (schedule "chain"). All labels of a budget are trained on, none is kept for validation. Scores are F1 at IoU
0.5 of all objects of the test images, which are the last quarter of each data set. "all" trains on every patch, for as
many iterations as the rounds up to 12.5% together. Percent are of the F1 of "all" with the same start and seed. "none"
trains from scratch, for the iterations of its rounds only. The starts that begin with "reference" are pre-trained on
the labels of the data set itself, perfect or spoilt on purpose: they say what bad pseudo-labels cost. Starts and
schedules are compared by the strategy "random", which picks the same patches whatever the start. With three seeds an
interval is wide (vnc_em has ten of the strategies at the first two budgets): a difference is called better or worse
only when its 95% interval (Student's t, paired by seed) leaves out zero, and of twenty such comparisons one does by
chance alone. A line of one seed says nothing yet. Training seconds are those of computers that did other things too,
and of runs that were paused. The runs with joined and shifted objects (vnc_em), with invented ones and trained at once
(all sets but vnc_em) come from another computer. One of the runs from scratch was repeated
on it, which gave 0.771 instead of 0.757, and so was the pre-training of those trained at once: 0.882 instead of 0.883,
0.609 instead of 0.633, 0.872 instead of 0.871, 0.961 as before. Where the side of an image is no multiple of a patch,
in all sets but vnc_em, the last patches of a row overlap; these runs did not yet pick such patches last. Nor did they
tell dark images from empty ones: the core-set passed over four patches of nuclei_fluo for that. Stacks (cho) were
segmented before faults of single slices were kept in their slice.

A patch is not the same work everywhere: "objects" is how many the labelled patches showed on average, of which each has
to be outlined. A strategy that prefers crowded patches asks for more work."""

TOGETHER = """Each seed of each data set is one pair. What holds for all of them together need not hold for yours, and
the interval takes the pairs of one data set for independent."""

SPOILT = """In place of pseudo-labels stand the labels of the data set itself, spoilt on purpose. F1 of the pre-trained
model / after 6.25% / after 12.5% of the patches, drawn at random."""

WHY = """## Where choosing helps, and where not

- **Where few patches hold objects, they must be looked for.** Of bacteria one patch in seven does. A core-set goes for
  what is unlike the rest, and that is odd background there: its batches show far fewer objects than those of Automatic
  and of random with objects (column "objects" below), and its scores are lower.
- **Where nearly every patch holds objects, no choice is better than chance.** That is so in the other data sets: every
  batch shows enough of them, and Automatic is little else than a core-set.
- **On vnc_em Automatic looked worse than random patches, and more seeds do not bear it out.** With the first six seeds
  it was 5.0 F1 points behind at 6.25% (95% interval 1.7 to 8.2). But 135 to 139 of its 144 patches count as holding
  objects, so that Automatic is a core-set there that began with other random patches. Nothing was found that goes with
  the score and bears a test: batches that reach the last section, beside the test sections, scored higher (Spearman's
  rank correlation 0.54, p 0.006, one of a dozen numbers that were looked at), yet tried on purpose on other sections it
  made no difference (-0.2 points, -2.6 to +2.3). So four more seeds, fixed before they ran, were a test of their own:
  in them Automatic minus random is +1.7 points at 6.25% (-10.7 to +14.0) and -0.2 at 12.5% (-6.8 to +6.5), and
  Automatic reaches 93.0 and 95.9% of all labels. With all ten, which the tables show, it reaches 90.9 and 94.0%, one
  point less than the 95% that were aimed at, and can be told from none of the other three, which reach 96 to 97% at
  12.5%. What differs is the patches: of two batches of Automatic, trained on twice more with other seeds, the means
  were 0.75 and 0.77, of two of the core-set 0.87 and 0.82, while one training differed from the next by 0.04 (standard
  deviation). Nine patches show a dozen objects; which ones these are matters more here than the rule that chose them.
- **Automatic does not beat random patches of which a third hold objects**, on any data set, nor can it be told to be
  worse. Both see to it that objects are in every batch; to spread it over unlike patches as well adds nothing that
  these tests can see. On vnc_em the embedding does not tell how much foreground a patch has (`benchmarks.embed`), so it
  is no help in finding objects.
- **Pre-training on pseudo-labels is worth most where labels show few objects.** Of bacteria, random patches hardly show
  any, and from scratch next to nothing is learned of them; of HeLa nuclei a tenth of the patches shows more than a
  hundred, and pre-training adds nothing. With a quarter of the patches labelled the difference is small everywhere but
  on bacteria.
- **Rounds that go on from the last model are not worse than training at once, nor better by more than chance.** On
  nuclei_fluo, hela and cho both come within 1% of what all labels give, on cho with the same score in each seed. On
  vnc_em training at once is 3 points ahead. On bacteria it is 24 points behind: in one of three seeds a thousand
  iterations on patches with hardly an object unlearned all that pre-training had found.
- **Pseudo-labels may miss objects or join them; objects where there are none do harm where labels show few.** On
  vnc_em a network that was pre-trained on labels of which half were left out, or half joined to a neighbour, is as good
  as one pre-trained on what the app makes. With half of them put where there are none, pre-training is no better than
  none, with 6.25% of the labels as with 12.5%; with each half a diameter aside it is worse than none with 6.25%. On
  bacteria, where random patches hardly show an object to learn from, invented ones scored higher than no pre-training
  in each of three seeds, and on average lower than what the app makes. On nuclei_fluo, hela and cho, whose patches are
  full of objects, labels undo them: with 12.5% of the patches the scores are on average no lower than after the app's
  pseudo-labels. The app tries training with and without before the first round ("Check the pre-training").
- **Test images limit what can be told.** Three data sets have so few test objects that one more or less of them is 1 to
  3 points of F1; the other two have many, and there pre-training alone comes near to what all labels give."""
"""Why the strategies differ or do not: words only, as the numbers are in the tables, and change with more runs."""

PAPER = """F1 at IoU 0.5, in brackets the percent of what all labels give; ours are means over the seeds named below.
The paper is arXiv 2511.04811. Scores must not be compared across columns, for the data differ; what can be compared is
how much of full annotation so many labels reach."""

PAPER_VALUES = (
    "arXiv 2511.04811, MitoEM, 3D: F1 0.4025 with pseudo-labels alone, 0.577 at random and 0.600 by core-set with 128 "
    "of 1,024 patches; 90% of full annotation with 6.25 to 12.5% of the labels; pre-training +2 to 4%."
)

PAPER_ROWS = (
    ("Pseudo-labels alone", "0.4025", "", "", 0),
    ("6.25%, random", "", CHAIN, "random", 0.0625),
    ("6.25%, random with objects", "", CHAIN, "foreground_random", 0.0625),
    ("6.25%, core-set", "", CHAIN, "coreset", 0.0625),
    ("6.25%, automatic", "", CHAIN, "auto", 0.0625),
    ("12.5%, random", "0.577", CHAIN, "random", 0.125),
    ("12.5%, random with objects", "", CHAIN, "foreground_random", 0.125),
    ("12.5%, core-set", "0.600 (about 90%)", CHAIN, "coreset", 0.125),
    ("12.5%, automatic", "", CHAIN, "auto", 0.125),
    ("25%, random with objects", "", CHAIN, "foreground_random", 0.25),
    ("25%, core-set", "", CHAIN, "coreset", 0.25),
    ("25%, automatic", "", CHAIN, "auto", 0.25),
    ("All labels", "", SINGLE, ALL, None),
)
"""(words, the paper's value, schedule, strategy, budget)."""

WITH_OBJECTS = {
    "vnc_em": "126 of 144",
    "hela": "135 of 135",
    "bacteria": "13 of 90",
    "nuclei_fluo": "238 of 242",
    "cho": "60 of 60",
}
TEST_OBJECTS = {"vnc_em": "50", "hela": "567", "bacteria": "33", "nuclei_fluo": "1024", "cho": "51"}
PAPER_DIFFERS = (
    ("Patches", "1,024 of 32 x 512 x 512", {"": "2D, 256 x 256", "cho": "stacks, 5 x 256 x 256"}),
    ("Patches with objects", "", WITH_OBJECTS),
    ("Objects in the test images", "", TEST_OBJECTS),
    ("Pseudo-labels by", "CellSAM", {"": "the app's built-in methods"}),
    ("Hardware", "a GPU", {"": "one CPU core"}),
)
"""(words, the paper's, ours by data set; "": of any other)."""
