"""What captions call things: names of values, phrases, and how often a thing is mentioned."""

from collections.abc import Mapping

# No word says left or right, because images are mirrored in training.
Words = Mapping[str, tuple[str, ...]]  # a value and its names, the usual one first
COLOUR_WORDS: Words = {
    "black": ("black",),
    "white": ("white",),
    "grey": ("grey", "gray"),
    "red": ("red", "bright red"),
    "dark red": ("dark red", "maroon", "burgundy"),
    "pink": ("pink",),
    "orange": ("orange",),
    "yellow": ("yellow",),
    "green": ("green", "bright green"),
    "dark green": ("dark green", "deep green"),
    "light blue": ("light blue", "pale blue", "sky blue"),
    "blue": ("blue", "bright blue"),
    "dark blue": ("dark blue", "navy blue", "navy"),
    "purple": ("purple", "violet"),
    "brown": ("brown",),
    "beige": ("beige", "tan", "cream", "khaki"),
}
HAIR_COLOUR_WORDS: Words = {
    "black": ("black", "dark"),
    "brown": ("brown",),
    "blond": ("blond", "blonde", "fair"),
    "red": ("red", "ginger"),
    "grey": ("grey", "gray"),
    "white": ("white",),
}
NOUNS: Mapping[str, Words] = {
    "top": {
        "t-shirt": ("t-shirt", "tee shirt", "short sleeved shirt", "tee"),
        "shirt": ("shirt", "long sleeved shirt", "button up shirt", "collared shirt"),
        "sweater": ("sweater", "pullover", "jumper", "knitted sweater"),
        "polo shirt": ("polo shirt", "polo", "short sleeved polo"),
        "tank top": ("tank top", "sleeveless top", "sleeveless shirt"),
        "blouse": ("blouse", "long sleeved blouse", "flowing blouse"),
        "dress": ("dress", "knee length dress", "short sleeved dress"),
        "top": ("top",),
    },
    "outer": {
        "jacket": ("jacket", "zip up jacket", "zipped jacket"),
        "puffer jacket": ("puffer jacket", "padded jacket", "down jacket", "quilted jacket"),
        "coat": ("coat", "long coat", "overcoat"),
        "hoodie": ("hoodie", "hooded sweatshirt", "hooded jacket"),
        "vest": ("vest", "padded vest", "sleeveless jacket", "body warmer"),
        "blazer": ("blazer", "suit jacket", "sports coat"),
    },
    "lower": {
        "jeans": ("jeans", "denim jeans", "denim pants"),
        "trousers": ("trousers", "pants", "slacks"),
        "shorts": ("shorts", "short pants", "knee length shorts"),
        "sweatpants": ("sweatpants", "track pants", "jogging pants"),
        "leggings": ("leggings", "tights", "stretch pants"),
        "skirt": ("skirt", "knee length skirt", "short skirt"),
        "long skirt": ("long skirt", "maxi skirt", "ankle length skirt"),
    },
    "shoes": {
        "sneakers": ("sneakers", "trainers", "running shoes", "sports shoes"),
        "boots": ("boots", "high boots", "leather boots"),
        "sandals": ("sandals", "open sandals", "flip flops"),
        "heels": ("heels", "high heels", "high heeled shoes"),
        "leather shoes": ("leather shoes", "dress shoes", "shoes"),
    },
    "bag": {
        "backpack": ("backpack", "rucksack", "school backpack"),
        "shoulder bag": ("shoulder bag", "messenger bag", "crossbody bag"),
        "handbag": ("handbag", "purse", "small handbag"),
        "tote bag": ("tote bag", "tote", "large tote bag"),
    },
    "hat": {
        "cap": ("cap", "baseball cap"),
        "beanie": ("beanie", "knit hat", "woolen hat"),
        "sun hat": ("sun hat", "wide brimmed hat", "floppy hat"),
    },
    "scarf": {"scarf": ("scarf", "wool scarf", "shawl")},
    "glasses": {
        "glasses": ("glasses", "eyeglasses", "spectacles"),
        "sunglasses": ("sunglasses", "dark glasses", "shades"),
    },
    "carried": {
        "phone": ("phone", "cell phone", "mobile phone", "smartphone"),
        "cup": ("cup", "coffee cup", "paper cup"),
        "bottle": ("bottle", "water bottle"),
        "book": ("book", "notebook"),
        "folder": ("folder", "file folder"),
        "umbrella": ("umbrella", "closed umbrella", "folded umbrella"),
        "shopping bag": ("shopping bag", "paper bag", "gift bag"),
        "suitcase": ("suitcase", "rolling suitcase", "trolley case"),
        "skateboard": ("skateboard", "board"),
    },
}
PLURALS = ("lower", "shoes", "glasses")  # without an article, skirts excepted
PATTERN_ADJECTIVES: Words = {
    "stripes": ("striped", "horizontally striped"),
    "checks": ("checkered", "plaid", "checked"),
    "dots": ("polka dot", "dotted", "spotted"),
}
PATTERN_NOUNS: Words = {
    "stripes": ("stripes", "horizontal stripes", "bands"),
    "checks": ("checks", "squares", "lines"),
    "dots": ("dots", "polka dots", "spots"),
}
FIT_ADJECTIVES: Words = {
    "loose": ("loose", "baggy", "oversized", "wide"),
    "tight": ("tight", "slim fit", "fitted", "close fitting"),
}
PRINT_NOUNS = ("print", "logo", "design", "graphic")
HAIR_PHRASES: Words = {
    "long": ("long {} hair", "long straight {} hair", "{} hair past the shoulders"),
    "short": ("short {} hair", "short cut {} hair", "cropped {} hair"),
    "ponytail": ("{} hair in a ponytail", "a {} ponytail", "{} hair tied back in a ponytail"),
    "bun": ("{} hair in a bun", "{} hair tied up in a bun", "{} hair pinned up in a bun"),
    "bob": ("chin length {} hair", "a {} bob", "medium length {} hair"),
    "curly": ("curly {} hair", "{} curls", "thick curly {} hair"),
    "balding": ("thinning {} hair", "a bald head with {} hair on the sides", "little {} hair"),
}
PEOPLE: Words = {"woman": ("woman", "lady", "female"), "man": ("man", "guy", "male", "gentleman")}
ADJECTIVES: Words = {
    "elderly": ("older", "elderly", "old"),
    "slim": ("slim", "thin", "slender"),
    "stout": ("heavyset", "stocky", "stout"),
}
# Participles, so that "is" or a comma may go before them; {} is the thing, {her} the pronoun.
CARRYING: Words = {
    "backpack": ("carrying {}", "wearing {} on {her} back", "carrying {} on {her} back"),
    "shoulder bag": ("carrying {}", "wearing {} across {her} body", "carrying {} at {her} side"),
    "handbag": ("carrying {}", "holding {}", "holding {} in {her} hand"),
    "tote bag": ("carrying {}", "carrying {} on {her} shoulder"),
    "phone": ("talking on {}", "holding {} to {her} ear", "using {}"),
    "cup": ("holding {}", "drinking from {}"),
    "bottle": ("holding {}", "carrying {}"),
    "book": ("holding {}", "reading {}"),
    "folder": ("holding {}", "clutching {}"),
    "umbrella": ("carrying {}", "holding {}"),
    "shopping bag": ("carrying {}", "holding {}", "carrying {} in {her} hand"),
    "suitcase": ("pulling {}", "rolling {} along"),
    "skateboard": ("carrying {} under {her} arm", "holding {}"),
}
HELD_GARMENT = ("carrying {} over {her} arm", "holding {}", "carrying {} on {her} arm")
VIEWS: Words = {
    "front": ("facing the camera", "walking toward the camera", "seen from the front"),
    "back": ("seen from behind", "walking away from the camera", "facing away"),
    "side": ("seen from the side", "walking past the camera", "turned sideways"),
}
OCCLUDERS: Words = {
    "car": ("behind a parked car", "half hidden by a car", "partly covered by a car"),
    "hedge": ("behind a hedge", "partly hidden by bushes", "half covered by a green hedge"),
    "pole": ("behind a pole", "half behind a lamp post", "partly covered by a post"),
    "wall": ("behind a brick wall", "partly hidden by a wall", "half covered by a low wall"),
}
PLACES: Words = {
    "street": ("on the street", "out on the pavement"),
    "park": ("in a park", "on the grass near trees"),
    "hall": ("inside a hall", "indoors near a door"),
    "plaza": ("on an open square", "on a wide plaza"),
    "shop": ("near a shop", "outside a store"),
    "underpass": ("in a dark underpass", "in a tunnel"),
}
# How often an annotator thinks of a thing that can be seen.
MENTIONED = {
    "top": 0.85,
    "lower": 0.95,
    "shoes": 0.75,
    "bag": 0.85,
    "hat": 0.85,
    "hair": 0.75,
    "scarf": 0.8,
    "glasses": 0.5,
    "carried": 0.75,
    "occluder": 0.25,
    "view": 0.15,
    "place": 0.1,
}
