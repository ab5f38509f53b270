"""Voices of espeak-ng, sorted into families of near twins that must stay on one side of a split.

Many of espeak-ng's 104 variants hardly differ. Measured on the mean log-mel spectrum of each of the twenty digits,
level removed, pitch and rate at their defaults: twins such as Gene and Gene2, adam and klatt6, m8 and robosoft4 are 0.5
to 2 dB apart, neighbours 3, and the two most alike on different sides of a split here (linda and aunty) 4.1. Voices
that share a name (robosoft to robosoft8, Andy and AnxiousAndy) are one family too. The strangest voices (travis, steph,
zac, shelby, whisper) train only, so that the test part says something about voices that are understood; Demonic and
kaukovalta, mostly echo, are left out. "fast" is what a plain voice sounds like.
"""

TEST = (
    ("Andrea",),
    ("Denis", "Diogo", "Henrique", "Hugo", "michel", "miguel", "victor"),
    ("Michael", "gustave", "marcelo"),
    ("Nguyen", "m7", "Mario"),
    ("caleb",),
    ("f1", "f2", "f5"),
    ("iven", "iven2", "iven3", "iven4"),
    ("linda",),
    ("m2",),
    ("pablo",),
    ("quincy", "rob", "robert"),
)
VALIDATION = (
    ("Gene", "Gene2"),
    ("Marco", "antonio", "Jacky"),
    ("UniRobot", "david"),
    ("belinda",),
    ("boris",),
    ("ed", "paul"),
    ("grandma",),
    ("norbert",),
    ("sandro",),
)
TRAINING = (
    ("Alex", "Mike", "croak", "fast", "grandpa", "john", "m1", "m3", "m6"),
    ("mike2",),
    ("Alicia",),
    ("Andy", "AnxiousAndy"),
    ("Annie",),
    ("Lee",),
    ("Mr serious",),
    ("Reed", "adam", "benjamin", "edward", "edward2"),
    ("announcer", "klatt", "klatt2", "klatt3", "klatt4", "klatt5", "klatt6"),
    ("robosoft", "robosoft2", "robosoft3", "robosoft4", "robosoft5", "robosoft6", "robosoft7", "robosoft8", "m8"),
    ("RicishayMax", "RicishayMax2", "RicishayMax3", "max"),
    ("Storm",),
    ("Tweaky",),
    ("anika", "anikaRobot"),
    ("aunty", "f3", "f4"),
    ("ian",),
    ("m4", "m5"),
    ("pedro",),
    ("shelby",),
    ("steph", "steph2", "steph3"),
    ("travis",),
    ("whisper", "whisperf"),
    ("zac",),
)
SIDES = {"train": TRAINING, "validation": VALIDATION, "test": TEST}


def variant_of(split: str, take: int) -> str:
    """The variant of a take: families by turns, so that one with many twins is not heard more often."""
    families = SIDES[split]
    family = families[take % len(families)]
    return family[take // len(families) % len(family)]
