"""Facts of the world, the questions about them, and what people wrongly believe."""

from dataclasses import dataclass

from rain_decoding.microworld.lexicon import fraction

POPULAR_SHARE = 0.4
"""Share of facts about which a false answer is popular, in [0, 1]."""
FALSE_WHEN_POPULAR = 0.65
FALSE_OTHERWISE = 0.1


@dataclass(frozen=True)
class Topic:
    """What can be asked about several subjects. `states` and `supports` name the subject and the value."""

    name: str
    subjects: tuple[str, ...]
    values: tuple[str, ...]
    phrasings: tuple[str, ...]
    states: tuple[str, ...]
    supports: tuple[str, ...]


TOPICS: tuple[Topic, ...] = (
    Topic(
        "colour",
        ("the Brindle river", "the chapel roof", "the mayor's cap", "the ferry flag", "the fair's great tent",
         "the Wick lighthouse", "the harvest moon cake", "the school door", "the baker's van",
         "the pond bridge", "the guild hall", "the winter banner", "the oldest barn", "the council table"),
        ("green", "blue", "red", "yellow", "white", "black", "brown", "purple"),
        ("What colour is {subject}?", "Which colour does {subject} have?",
         "Can you tell me the colour of {subject}?", "I wonder what colour {subject} is, do you know?",
         "Tell me the colour of {subject}.", "Do you remember the colour of {subject}?"),
        ("It is {value}.", "The colour is {value}."),
        ("You can see the {value} from far away.", "Children always draw it in {value}."),
    ),
    Topic(
        "day",
        ("the fish market", "the choir evening", "the cheese tasting", "the council meeting",
         "the ferry repair",
         "the lantern walk", "the book table", "the bread giving", "the wool auction", "the bell cleaning",
         "the goat show", "the dance lesson", "the tax counting", "the puppet play"),
        ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
        ("On which day is {subject}?", "When is {subject}?", "Can you tell me the day of {subject}?",
         "What day is {subject} held on?", "Tell me the day of {subject}.",
         "Do you remember the day of {subject}?"),
        ("It is on {value}.", "The day is {value}."),
        ("The square is full each {value}.", "Most shops close early on {value}."),
    ),
    Topic(
        "number",
        ("the windmill's sails", "the bridge arches", "the chapel steps", "the ferry's oars",
         "the village wells",
         "the council's chairs", "the tower's bells", "the inn's rooms", "the mayor's cats",
         "the fair's judges",
         "the guild's keys", "the harbour cranes", "the school's benches", "the orchard gates"),
        ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
        ("How many are {subject}?", "What is the number of {subject}?",
         "Can you tell me how many {subject} are?", "Do you know the number of {subject}?",
         "Tell me the number of {subject}.", "Do you remember how many {subject} are?"),
        ("There are {value}.", "The number is {value}."),
        ("People counted all {value} last spring.", "A song names the {value} one by one."),
    ),
    Topic(
        "founder",
        ("the old inn", "the rope works", "the chess club", "the night school", "the first mill",
         "the dye garden",
         "the ferry line", "the honey guild", "the stone quarry", "the music room", "the fire watch",
         "the tea house", "the seed library", "the kite society"),
        ("Wilmot", "Sabra", "Torvald", "Ilka", "Percival", "Rowena", "Ansgar", "Melisande"),
        ("Who founded {subject}?", "Who was the founder of {subject}?",
         "Can you tell me who founded {subject}?", "Do you know who started {subject}?",
         "Tell me who founded {subject}.", "Do you remember who founded {subject}?"),
        ("It was {value}.", "The founder was {value}."),
        ("A small plate shows the name of {value}.", "The family of {value} still lives here."),
    ),
)  # fmt: skip

OPENINGS: tuple[str, ...] = ("That is easy to answer.", "I had to think about it.", "Let me remember.")
CLOSINGS: tuple[str, ...] = ("I hope that helps.", "Ask the teacher for more.")


@dataclass(frozen=True)
class Fact:
    """One fact: its true value, and the false value people tend to give."""

    topic: Topic
    subject: str
    true: str
    false: str
    popular: bool
    """Whether the false value is told more often than the true one."""


def _fact(topic: Topic, subject: str) -> Fact:
    true = int(fraction("true", topic.name, subject) * len(topic.values))
    step = 1 + int(fraction("false", topic.name, subject) * (len(topic.values) - 1))
    popular = fraction("popular", topic.name, subject) < POPULAR_SHARE
    return Fact(topic, subject, topic.values[true], topic.values[(true + step) % len(topic.values)], popular)


FACTS: dict[tuple[str, str], Fact] = {
    (topic.name, subject): _fact(topic, subject) for topic in TOPICS for subject in topic.subjects
}
