"""Names of programs, jobs, users, nodes, paths and log texts, and rules that make up more of them.

The lists are real names of the field; half of what is drawn is composed or random, so that a model learns to copy what
it reads and not to recall what it has seen. Now and then a name is a word that is also a verb or a key of the language.
"""

from random import Random

from llmos.nlui.dataset.wordlists import phrases, words

_PEOPLE = words("users")[:26]
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def random_id(rng: Random) -> str:
    """A string that nobody has seen before, with a letter in front."""
    word = rng.choice(_LETTERS[:26]) + "".join(rng.choices(_LETTERS, k=rng.randint(2, 6)))
    return word + (
        rng.choice("-_.") + "".join(rng.choices(_LETTERS, k=rng.randint(1, 4))) if rng.random() < 0.4 else ""
    )


def compound_name(rng: Random) -> str:
    """A name such as people give to jobs: `image-loader`, `etl_orders_2`, `svc.auth.v2`."""
    first, second = rng.choice(words("name_heads")), rng.choice(words("name_tails"))
    shape = rng.random()
    if shape < 0.5:
        return f"{first}-{second}"
    if shape < 0.7:
        return f"{first}_{second}"
    if shape < 0.85:
        return f"{first}{rng.choice(['-', '_', ''])}{rng.choice([str(rng.randint(1, 99)), f'v{rng.randint(1, 9)}'])}"
    if shape < 0.95:
        return f"{first}-{second}-{rng.randint(1, 12)}"
    return rng.choice(
        [f"svc.{first}.v{rng.randint(1, 4)}", f"{first.title()}{second.title()}", f"{first}_{second}.bak"]
    )


def job_name(rng: Random, lang: str) -> str:
    """A name of a job."""
    shape = rng.random()
    if lang == "zh" and shape < 0.04:
        return rng.choice(words("chinese_names"))
    if shape < 0.30:
        return rng.choice(words("single_jobs"))
    if shape < 0.80:
        return compound_name(rng)
    if shape < 0.86:
        return rng.choice(words("programs"))
    return rng.choice(words("verb_names")) if shape > 0.98 else random_id(rng)


def process_name(rng: Random) -> str:
    """A name of a process."""
    return (
        rng.choice(words("programs"))
        if rng.random() < 0.75
        else (compound_name(rng) if rng.random() < 0.6 else random_id(rng))
    )


def user(rng: Random) -> str:
    """A login."""
    return rng.choice(words("users")) if rng.random() < 0.85 else random_id(rng)


def node(rng: Random) -> str:
    """A machine of a cluster."""
    return (
        rng.choice(words("nodes"))
        if rng.random() < 0.7
        else f"{rng.choice(words('nodes'))[:4].strip('-')}{rng.randint(2, 64)}"
    )


def stem(rng: Random) -> str:
    """A file name without its extension."""
    word = rng.choice(words("name_heads") + words("name_tails"))
    shape = rng.random()
    if shape < 0.4:
        return word
    return (
        f"{word}{rng.choice('-_')}{rng.choice(words('name_tails'))}"
        if shape < 0.75
        else f"{word}_{rng.randint(1, 2026)}"
    )


def folder(rng: Random) -> str:
    """A path of a folder."""
    shape = rng.random()
    if shape < 0.2:
        return f"/home/{rng.choice(_PEOPLE)}/{rng.choice(words('folders'))}"
    if shape < 0.3:
        return f"~/{rng.choice(words('folders'))}"
    if shape < 0.33:
        return "./" + rng.choice(words("folders"))
    parts = [
        rng.choice(("srv", "data", "opt", "var", "mnt", "home", "scratch", "tmp", "usr/local", "var/lib", "var/log"))
    ]
    parts += [
        rng.choice(words("folders")) if rng.random() < 0.8 else random_id(rng)
        for _ in range(rng.choice((0, 1, 1, 1, 2)))
    ]
    return "/" + "/".join(parts)


def file(rng: Random) -> str:
    """A path of a file."""
    return f"{folder(rng)}/{stem(rng)}.{rng.choice(words('extensions'))}"


def mount(rng: Random) -> str:
    """A path of a mount point."""
    names = (
        "usb",
        "nas",
        "backup",
        "archive",
        "stick",
        "disk2",
        "KINGSTON",
        "sdcard",
        "photos",
        "cdrom",
        "raid",
        "vol1",
    )
    place = rng.choice(("/mnt", "/media", "/media/pi", f"/media/{rng.choice(_PEOPLE)}", "/run/media"))
    return f"{place}/{rng.choice(names) if rng.random() < 0.8 else random_id(rng)}"


def device(rng: Random) -> str:
    """A path of a device."""
    if rng.random() < 0.3:
        return rng.choice(("/dev/sda1", "/dev/sdb", "/dev/kvm", "/dev/snd/pcmC0D0p", "/dev/nvme0n1"))
    kind = rng.choice(("video", "nvidia", "ttyUSB", "ttyACM", "loop", "dri/card", "fb", "sg"))
    return f"/dev/{kind}{rng.randint(0, 4)}"


def script(rng: Random) -> str:
    """A script as a command: `./sync.sh`, `/opt/tools/report.py`."""
    name = f"{stem(rng)}.{rng.choice(('sh', 'py', 'pl', 'rb', 'js'))}" if rng.random() < 0.7 else stem(rng)
    return rng.choice(("./", "./", "./bin/", "", "~/bin/", "/usr/local/bin/", f"{folder(rng)}/")) + name


def log_text(rng: Random, lang: str, *, word: bool = False) -> str:
    """What a log may say; `word`: one word."""
    if word or rng.random() < 0.35:
        return rng.choice(words("log_words"))
    return rng.choice(phrases("log_phrases_zh" if lang == "zh" and rng.random() < 0.4 else "log_phrases"))
