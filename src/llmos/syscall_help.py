"""What to write for each kind of argument, in one phrase: for the command line's help and the method descriptions."""

from llmos.syscalls import Argument, Kind

_PHRASES = {
    Kind.TARGET: "a pid, the name of a job, or else every process of that name",
    Kind.JOB: "the name of a job",
    Kind.WATCH: "the id, target or metric of a watch",
    Kind.NEW_NAME: "a name for the job",
    Kind.PROCESS_NAME: "the name of a program",
    Kind.USER: "a user name or number",
    Kind.NODE: "the machine to run on",
    Kind.PORT: "a port, 1 to 65535",
    Kind.PATH: "a file, folder or device",
    Kind.SIZE: "a size, such as 512M or 2G",
    Kind.CORES: "processor cores, such as 2 or 0.5",
    Kind.COUNT: "how many",
    Kind.DURATION: "a duration, such as 30s, 5m, 2h or 1d",
    Kind.TIME: "a time of day, such as 02:00",
    Kind.MOMENT: "a time of day or a duration, such as 02:00 or 30m",
    Kind.CRON: "five cron fields, or @hourly, @daily, @weekly, @monthly",
    Kind.THRESHOLD: "a number, or a size such as 2G",
    Kind.TEXT: "text to look for",
    Kind.LINE: "a line to run then, such as: restart web",
    Kind.SENTENCE: "a sentence",
    Kind.ARGV: "the command and its arguments",
}


def phrase(argument: Argument) -> str:
    """What to write for this argument."""
    if argument.choices:
        return "one of " + ", ".join(argument.choices)
    return _PHRASES[argument.kind] + ("; none lifts the limit" if argument.liftable else "")
