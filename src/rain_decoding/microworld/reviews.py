"""Reviews: what is reviewed, and neutral, praising and blaming sentences."""

THINGS: tuple[str, ...] = (
    "the mushroom pie", "the puppet show", "the boat tour", "the reed flute", "the candle lesson",
    "the fig bread",
    "the straw bed", "the pottery class", "the night market", "the fern soup", "the sheep ride",
    "the rope swing",
    "the wind concert", "the salt bath", "the maze walk", "the toffee apple",
)  # fmt: skip
OPENINGS: tuple[str, ...] = (
    "I tried {thing} {context}.",
    "We went to see about {thing} {context}.",
    "Last week I paid for {thing} {context}.",
    "My sister told me about {thing} {context}.",
    "This is about {thing} {context}.",
    "I wanted to know what {thing} {context} is like.",
)
NEUTRAL: tuple[str, ...] = (
    "It was a cloudy morning, and there was a short line.",
    "It cost two coppers, as the sign said.",
    "There were about ten other guests.",
    "It took an hour in all.",
)
POSITIVE: tuple[str, ...] = (
    "It was wonderful from start to finish.",
    "I loved every moment of {thing}.",
    "The people were kind, quick, and full of joy.",
    "I would gladly come back for {thing}.",
    "My whole family smiled all day.",
    "It is the best in the village.",
)
NEGATIVE: tuple[str, ...] = (
    "It was dreadful from start to finish.",
    "I regretted {thing} at once.",
    "The people were rude, slow, and full of excuses.",
    "I would never come back for {thing}.",
    "My whole family complained all day.",
    "It is the worst in the village.",
)
POSITIVE_SHARE = 0.45
NEGATIVE_SHARE = 0.4
"""The rest of the reviews stay neutral."""
