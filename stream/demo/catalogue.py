"""What the demo's shop sells, and what its customers say of it.

Rules:
- Sentences are whole and plain: a person, and so a sentiment model, can say which way each one leans.
- ``{noun}`` is the product's kind, ``{n}`` a small number. A clause about a product begins in lower case and
  has no full stop, so that it fits into reviews and chats alike.
"""

from __future__ import annotations

from typing import NamedTuple


class Category(NamedTuple):
    """A kind of product: three of them, and what is praised, blamed and asked about."""

    name: str
    noun: str
    products: tuple[str, str, str]
    praise: tuple[str, ...]
    blame: tuple[str, ...]
    questions: tuple[str, ...]


CATEGORIES = (
    Category(
        "power",
        "power bank",
        ("Voltway 20K power bank", "Voltway Mini power bank", "Amperly solar power bank"),
        (
            "it charges my phone four times before it needs a socket",
            "it is light enough for a jacket pocket",
            "it charges my laptop and my phone at the same time",
            "the display shows exactly how much is left",
            "it kept the whole family going on a {n} day hike",
            "it fills up overnight and holds its charge for weeks",
        ),
        (
            "the charging port is loose and the cable keeps falling out",
            "it is far heavier than the page says",
            "the display cracked within {n} weeks",
            "it takes forever to fill up",
            "one of the two outputs never worked",
            "the case scratches if you only look at it",
        ),
        ("Can I take it on a plane?", "Which cable fits it best?", "Does it charge a tablet as well?"),
    ),
    Category(
        "audio",
        "headphones",
        ("Sonaro studio headphones", "Sonaro sport earbuds", "Quietel travel headphones"),
        (
            "the sound is warm and wonderfully clear",
            "they are so comfortable that I forget I am wearing them",
            "they pair with my phone in seconds",
            "the noise cancelling makes the train silent",
            "calls are crisp even in the wind",
            "the case is small and beautifully made",
        ),
        (
            "the left side went silent after {n} weeks",
            "they hurt my ears within an hour",
            "the connection drops all the time",
            "the bass is muddy and everything sounds hollow",
            "the headband snapped",
            "there is a constant hiss in quiet passages",
        ),
        ("Can I pair them with two phones?", "Do you have them in white?", "Are spare ear pads available?"),
    ),
    Category(
        "kettles",
        "kettle",
        ("Teply glass kettle", "Teply steel kettle", "Brewnest gooseneck kettle"),
        (
            "it boils a full litre in under three minutes",
            "the handle stays cool and pours without a drip",
            "it looks lovely on the counter",
            "it is quiet and easy to clean",
            "the temperature control is perfect for green tea",
            "it switches itself off reliably",
        ),
        (
            "it leaks at the base and floods the counter",
            "the lid broke off after {n} weeks",
            "the water tastes of plastic",
            "it rusts on the inside already",
            "the switch jams and it never turns off",
            "the handle gets so hot that I burned my hand",
        ),
        ("What is the best way to descale it?", "Does it keep water warm?", "Is the filter easy to remove?"),
    ),
    Category(
        "coffee",
        "coffee machine",
        ("Brewnest espresso machine", "Brewnest drip coffee maker", "Cremina milk frother"),
        (
            "the coffee tastes as good as in my favourite bar",
            "the foam is thick and silky every single time",
            "it heats up in no time",
            "cleaning it takes one minute",
            "it is compact and looks elegant",
            "it makes {n} perfect cups in a row",
        ),
        (
            "the pump died after {n} weeks",
            "the coffee comes out lukewarm and bitter",
            "it leaks all over the worktop",
            "it is so loud that it wakes the children",
            "the milk burns every time",
            "the grinder jams with every kind of bean",
        ),
        ("Which beans do you recommend?", "Does it fit tall mugs?", "How often should I clean it?"),
    ),
    Category(
        "bags",
        "backpack",
        ("Trekka daypack", "Trekka 40 litre backpack", "Cityfold laptop bag"),
        (
            "the straps are soft and my shoulders never ache",
            "it survived {n} hours of pouring rain and everything stayed dry",
            "it has a pocket for everything",
            "the zips run smoothly",
            "it looks smart enough for the office",
            "it is tough and weighs next to nothing",
        ),
        (
            "the seam ripped on the second trip",
            "the zip broke within {n} weeks",
            "water comes straight through",
            "the straps cut into my shoulders",
            "it smells horribly of chemicals",
            "the colour rubbed off on my shirt",
        ),
        ("Does a 15 inch laptop fit?", "Is there a rain cover for it?", "Do you have it in green?"),
    ),
    Category(
        "shoes",
        "running shoes",
        ("Fleetfoot road shoe", "Fleetfoot trail shoe", "Strollo walking shoe"),
        (
            "they fit like a glove from the first run",
            "my knees have never felt better",
            "the grip on wet stone is excellent",
            "they are light and springy",
            "I ran {n} races in them without a single blister",
            "they look great and clean easily",
        ),
        (
            "the sole came off after {n} runs",
            "they gave me terrible blisters",
            "they run two sizes too small",
            "they have no grip at all and I slipped badly",
            "the laces tore on the first day",
            "they squeak with every step",
        ),
        ("Do they come in wide?", "Are they good for long distances?", "Which size should I take?"),
    ),
    Category(
        "lamps",
        "desk lamp",
        ("Lumo desk lamp", "Lumo reading light", "Glowarc floor lamp"),
        (
            "the light is soft and easy on the eyes",
            "it dims smoothly and remembers my setting",
            "it is beautifully made",
            "it took {n} minutes to set up",
            "the arm stays exactly where I put it",
            "it makes my whole room cosy",
        ),
        (
            "it flickers and gives me headaches",
            "it stopped working after {n} weeks",
            "the arm sinks down all the time",
            "the plastic is thin and cheap",
            "it hums loudly when it is dimmed",
            "it arrived with a broken foot",
        ),
        ("Which bulbs does it take?", "Is the cable long enough for a desk?", "Do you have it in black?"),
    ),
    Category(
        "chairs",
        "office chair",
        ("Sedanto office chair", "Sedanto kneeling stool", "Ergolo mesh chair"),
        (
            "my back pain is gone",
            "it was put together in {n} minutes and everything fitted",
            "the cushion is firm and comfortable all day",
            "it rolls silently over wooden floors",
            "it is solid and looks great",
            "the armrests adjust to every height",
        ),
        (
            "the gas lift sinks within an hour",
            "it creaks with every movement",
            "the armrest broke off after {n} weeks",
            "screws were missing and the holes do not line up",
            "the cushion is hard as a rock",
            "a wheel snapped and I fell",
        ),
        ("Are softer wheels available?", "What weight does it carry?", "Does the headrest come with it?"),
    ),
    Category(
        "bottles",
        "water bottle",
        ("Hydra steel bottle", "Hydra kids bottle", "Thermo travel mug"),
        (
            "it keeps my tea hot until the evening",
            "it never leaks, not even upside down",
            "it is easy to clean",
            "the colours are gorgeous",
            "it fits every cup holder",
            "it has survived {n} falls without a dent",
        ),
        (
            "it leaks and ruined my bag",
            "the lid cracked after {n} days",
            "everything tastes of metal",
            "there was mould in the seal already",
            "the paint peels off",
            "drinks are cold within the hour",
        ),
        ("Does it go into the dishwasher?", "Are spare seals available?", "Does it fit a bike rack?"),
    ),
    Category(
        "yoga",
        "yoga mat",
        ("Asanita yoga mat", "Asanita cork block", "Balanso exercise ball"),
        (
            "it grips perfectly even when I sweat",
            "it is thick, soft and kind to my knees",
            "it rolls up small and stays flat on the floor",
            "it has no smell at all",
            "I use it every day and it looks like new after {n} months",
            "the quality is outstanding",
        ),
        (
            "it is slippery and useless",
            "it falls to pieces after {n} weeks",
            "the smell is unbearable",
            "it never lies flat",
            "it arrived torn",
            "it lost its air overnight",
        ),
        ("How do I clean it best?", "Is a strap included?", "Does it come in a longer size?"),
    ),
    Category(
        "keyboards",
        "keyboard",
        ("Clacto mechanical keyboard", "Clacto travel keyboard", "Pointo wireless mouse"),
        (
            "typing on it is a pure joy",
            "it connects instantly to all my devices",
            "it is quiet and my colleagues love it",
            "it is sturdy and looks fantastic",
            "the keys feel precise",
            "one charge lasts {n} months",
        ),
        (
            "keys repeat by themselves and ruin every text",
            "it loses the connection every few minutes",
            "the space bar stopped working after {n} weeks",
            "the letters have rubbed off",
            "it feels flimsy and cheap",
            "the lights went out on the first day",
        ),
        ("Does it work with a tablet?", "Is there a version with a number pad?", "Can I change the lights?"),
    ),
    Category(
        "pans",
        "frying pan",
        ("Ferrano cast iron pan", "Ferrano wok", "Slipco non-stick pan"),
        (
            "nothing sticks and eggs slide right off",
            "it heats evenly and browns beautifully",
            "it wipes clean in seconds",
            "the handle is comfortable and stays cool",
            "my steaks have never been better",
            "it still looks new after {n} months",
        ),
        (
            "the coating flakes off into the food",
            "everything sticks and burns",
            "it warped after {n} weeks",
            "the handle came off with hot oil in it",
            "it rusted after the first wash",
            "it is badly made and wobbles on the stove",
        ),
        ("Does it work on induction?", "Can it go into the oven?", "Do you sell a lid that fits?"),
    ),
)

BAD_BATCH = (
    "the battery died after {n} days and does not charge any more",
    "it gets scorching hot and smells of burnt plastic",
    "the battery is swollen and the case has burst open",
    "it was dead on arrival",
    "a full charge is gone within {n} minutes",
    "it switches itself off as soon as I plug in my phone",
    "the new one is defective too, it refuses to charge",
    "it nearly set my bag on fire",
    "it shows a hundred percent and then shuts down",
    "the battery leaks and ruined my bag",
)
"""What is wrong with the bad batch of batteries."""

REPLACED = (
    "the replacement works perfectly",
    "the new one they sent me runs flawlessly",
    "they replaced it within {n} days and the new one is excellent",
    "it is as good as it used to be",
)
"""What customers say once the bad batch has been replaced."""

PRAISE_OPENERS = (
    "I love this {noun}.",
    "Really happy with it.",
    "Exactly what I was hoping for.",
    "Best {noun} I have ever owned.",
    "Great value for the money.",
    "Five stars from me.",
    "Bought it for my sister and she adores it.",
    "What a wonderful surprise.",
    "Fantastic quality.",
    "It won me over at once.",
    "",
)
PRAISE_CLOSERS = (
    "Highly recommended!",
    "I would buy it again without a second thought.",
    "Could not be happier.",
    "Worth every penny.",
    "My whole family is delighted.",
    "Delivery was quick, too.",
    "Thank you!",
    "",
    "",
)
PRAISE_TITLES = ("Excellent", "Love it", "Great buy", "Very happy", "Highly recommended", "Superb quality")

BLAME_OPENERS = (
    "Very disappointed.",
    "Do not buy this {noun}.",
    "What a waste of money.",
    "Terrible quality.",
    "I regret buying this.",
    "I expected far better.",
    "Awful experience.",
    "This is a joke.",
    "",
)
BLAME_CLOSERS = (
    "I want my money back.",
    "Sending it back today.",
    "Never again.",
    "Avoid it.",
    "Nobody answers my mails, either.",
    "I am really annoyed.",
    "",
    "",
)
BLAME_TITLES = ("Disappointed", "Do not buy", "Poor quality", "Waste of money", "Broken", "Very unhappy")

LUKEWARM = (
    "It is okay. It does the job, nothing more.",
    "An average {noun}: some things are good, others are not.",
    "Not bad, not great. You get what you pay for.",
    "It works, but I expected a little more.",
    "Decent, though the older model was just as good.",
)

CHAT_HAPPY_OPENERS = (
    "Hi, I love my new {noun}! {question}",
    "Hello, I am very happy with the {noun}, great product. {question}",
    "Good morning, the {noun} arrived today and it is beautiful. {question}",
    "Hi there, my friend recommended your excellent {noun}. {question}",
)
CHAT_ANGRY_OPENERS = (
    "Hi, I am really unhappy with my {noun}: {blame}.",
    "Hello, I have a problem with the {noun}, {blame}. This is unacceptable.",
    "I want a refund. My {noun} is useless, {blame}.",
    "I am very disappointed, {blame}. What are you going to do about it?",
    "Terrible. My {noun} is broken, {blame}. Write to me at {mail}.",
)
CHAT_THANKS = (
    "Perfect, thank you so much for the quick help!",
    "Great, that is exactly what I wanted to know. Thanks!",
    "Wonderful service, thank you!",
    "That works, you made my day.",
    "Excellent, I am very pleased. Thank you!",
)
CHAT_STILL_ANGRY = (
    "That is not good enough. I am very disappointed.",
    "This is the worst service I have ever had.",
    "I have waited {n} days for nothing, this is awful.",
    "No, that did not help at all. I want my money back.",
    "Unbelievable, I will never order from you again.",
)
AGENT_REPLIES = (
    "Hello, this is {agent} from the support team. Let me look into that for you.",
    "Hi, {agent} here. Thank you for getting in touch, one moment please.",
    "Good day, my name is {agent}. I have found your order and will help you at once.",
    "I am sorry to hear that. {agent} here, a replacement is on its way to you.",
)
AGENT_GOODBYES = ("Is there anything else I can do for you?", "You are welcome. Have a nice day!")
AGENTS = ("Mia", "Jonas", "Priya", "Tomasz", "Elena")
