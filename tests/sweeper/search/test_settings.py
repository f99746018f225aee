import pytest

from sweeper.spec.search import SearchSettings


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("policy", "bayes"),
        ("sampler", "cma"),
        ("tolerance", 0.0),
        ("tokens_per_param", -1.0),
        ("reach", float("nan")),
        ("half_width", 0.0),
        ("target_flops", -1e20),
        ("sizes_per_budget", 2),
        ("min_trials", -1),
        ("seed", -1),
    ],
)
def test_bad_value_is_named_with_its_field(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"search.*{field}"):
        SearchSettings(**{field: value})  # type: ignore[arg-type]


def test_defaults_are_valid_and_frozen() -> None:
    settings = SearchSettings()
    assert settings.policy == "adaptive"
    with pytest.raises(AttributeError):
        settings.tolerance = 0.2  # type: ignore[misc]
