"""The value forms: one canonical text for each value, and base units."""

import pytest

from llmos.plan import values


@pytest.mark.parametrize(
    ("form", "given", "canonical"),
    [
        (values.size, "512m", "512M"), (values.size, "0002GiB", "2G"), (values.duration, "05M", "5m"),
        (values.time, "2:05", "02:05"), (values.moment, "2:05", "02:05"), (values.moment, "2H", "2h"),
        (values.number, "00012.50", "12.5"), (values.number, "0.0", "0"), (values.number, "90%", "90"),
        (values.number, "100", "100"), (values.threshold, "8gb", "8G"), (values.threshold, "90%", "90"),
        (values.cron, " 0  9 * * MON ", "0 9 * * MON"), (values.cron, "@Weekly", "@weekly"),
        (values.liftable(values.size), "None", "none"), (values.above_zero(values.number), "0.001", "0.001"),
    ],
)  # fmt: skip
def test_a_value_is_brought_to_its_one_form(form: object, given: str, canonical: str) -> None:
    assert callable(form)
    assert form(given) == canonical
    assert form(canonical) == canonical


@pytest.mark.parametrize(
    ("form", "given"),
    [
        (values.size, "5"), (values.size, "1.5G"), (values.size, "-1G"), (values.size, "٥G"), (values.size, "5ſ"),
        (values.duration, "5"), (values.duration, "5 m"), (values.duration, "1h30m"), (values.time, "24:00"),
        (values.time, "12:60"), (values.time, "noon"), (values.moment, ""), (values.number, ""), (values.number, "1e3"),
        (values.number, "1."), (values.number, ".5"), (values.number, "%"), (values.threshold, ""), (values.cron, ""),
        (values.cron, "0 0 30 2 *"), (values.cron, "0 0 31 4,6 *"), (values.cron, "a b c d e"), (values.cron, "@x"),
        (values.cron, "*/0 * * * *"), (values.above_zero(values.size), "0T"), (values.above_zero(values.number), "0"),
        (values.cron, "x" * 100_000), (values.cron, "* * * * " + "1," * 10_000), (values.size, "9" * 10_000),
    ],
)  # fmt: skip
def test_what_is_no_value_says_what_to_write_in_few_words(form: object, given: str) -> None:
    assert callable(form)
    with pytest.raises(ValueError) as caught:
        form(given)
    assert len(str(caught.value)) < 300


def test_values_in_base_units() -> None:
    assert values.bytes_of("2G") == 2 * 1024**3
    assert values.seconds_of("3d") == 3 * 86400
    assert values.reference("$12") == 12
    assert [values.reference(text) for text in ("$0", "$01", "$٣", "12", "$1 ", None)] == [None] * 6
