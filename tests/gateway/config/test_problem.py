from gateway.config.problem import BadPolicies, Place, Problem, did_you_mean, written


def test_a_problem_reads_as_place_field_and_message() -> None:
    place = Place("policies/gateway.yaml", 12, 7)
    assert str(Problem(place, "targets[0].provider", "no; yes")) == (
        "policies/gateway.yaml:12:7: targets[0].provider: no; yes"
    )
    assert str(Problem(place, "", "no; yes")) == "policies/gateway.yaml:12:7: no; yes"


def test_paths_are_written_as_in_the_file() -> None:
    assert written(()) == ""
    assert written(("rules", 1, "when", "models", 0)) == "rules[1].when.models[0]"
    assert written(("models", "smart", "targets", 0, "provider")) == "targets[0].provider"
    assert written(("models", "smart")) == "models.smart"


def test_a_path_cannot_break_the_line() -> None:
    assert written(("a\nb\x1b[31m",)) == "a?b?[31m"


def test_the_nearest_name_is_offered_else_what_there_is() -> None:
    assert did_you_mean("opnai", ["openai", "local"]) == 'did you mean "openai"?'
    assert did_you_mean("zzz", ["b", "a"]) == "there is a, b"
    assert did_you_mean("zzz", []) == "there is none yet"
    assert did_you_mean("zzz", map(str, range(30))).endswith("18, 19, ...")


def test_problems_come_in_the_order_of_the_files_and_once() -> None:
    early, late = Problem(Place("a", 2, 1), "x", "m"), Problem(Place("a", 10, 1), "x", "m")
    bad = BadPolicies([late, early, late])
    assert bad.problems == [early, late]
    assert str(bad) == "a:2:1: x: m\na:10:1: x: m"
