"""The harness of ``temporal bench``, on contenders whose times are known, and its groups at their tiniest."""

import json
import mmap
import pathlib
import subprocess

import pytest
import torch

from temporal.benchmarks import (
    Case,
    Floor,
    GroupResult,
    Spread,
    _machine,
    _measure,
    _picture,
    _report,
    _run,
    copy_floor,
    list_groups,
    run,
    write,
)
from temporal.benchmarks._machine import PINNED, RETURNING, describe, last_level_cache, peak_memory
from temporal.benchmarks._measure import QUICK, Pace, measure, measure_memory
from temporal.benchmarks._report import replace_section
from temporal.cli import main


class Clock:
    """A clock that only the contenders move."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    def perf_counter(self):
        return self.now

    def takes(self, name, *seconds, result=0.0):
        """A contender that takes these times in turn, the last one ever after."""
        left = list(seconds)

        def call():
            self.calls.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]
            return result

        return call


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(_measure, "time", clock)
    return clock


def case(contenders, **changes):
    fields = {
        "name": "fake", "scope": "nothing", "shape": "N=10", "dtype": "float32", "items": 10, "item": "thing",
        "contenders": contenders, "baseline": next(iter(contenders)), "check": abs, "tolerance": 0.5, "bytes": 80,
    }  # fmt: skip
    return Case(**fields | changes)


def rows(result):
    return {row.contender: row for row in result.rows}


# --- exact before it is timed ---


def test_only_what_is_exact_gets_a_time(clock):
    def broken():
        raise RuntimeError("no such kernel\nand more")

    contenders = {
        "good": clock.takes("good", 1.0, result=0.25),
        "wrong": clock.takes("wrong", 0.1, result=0.75),
        "nan": clock.takes("nan", 0.1, result=float("nan")),
        "broken": broken,
        "absent": None,
    }
    result = measure(case(contenders), pace=QUICK)
    found = rows(result)
    assert {name: row.status for name, row in found.items()} == {
        "good": "ok", "wrong": "wrong", "nan": "wrong", "broken": "failed", "absent": "not installed",
    }  # fmt: skip
    assert found["good"].error == 0.25 and found["good"].seconds.median == 1.0
    for name in ("wrong", "nan", "broken", "absent"):
        assert found[name].seconds is found[name].ratio is found[name].bytes_per_second is None
    assert clock.calls.count("wrong") == 1  # the check's call, none for the clock
    assert found["wrong"].error == 0.75 and found["wrong"].message == "error 0.75 is above 0.5"
    assert found["nan"].error is None and found["nan"].message == "error nan is above 0.5"
    assert found["broken"].message == "RuntimeError: no such kernel"
    faults = GroupResult("g", "", False, {}, [result]).faults
    assert [fault.split(": ")[1] for fault in faults] == ["wrong wrong", "nan wrong", "broken failed"]


def test_a_contender_that_is_right_only_once_loses_its_time(clock):
    results = iter([0.0])
    contenders = {"steady": clock.takes("steady", 1.0), "once": lambda: next(results, 9.0)}
    found = rows(measure(case(contenders), pace=QUICK))
    assert found["steady"].status == "ok"
    assert found["once"].status == "wrong" and found["once"].error == 9.0 and found["once"].seconds is None


def test_the_error_shown_is_the_larger_of_before_and_after(clock):
    step, errors = clock.takes("drifts", 1.0), iter([0.125] + [0.25] * 100)
    assert rows(measure(case({"drifts": lambda: step() + next(errors)}), pace=QUICK))["drifts"].error == 0.25


def test_without_the_baseline_there_are_times_but_no_ratios(clock):
    found = rows(measure(case({"theirs": None, "ours": clock.takes("ours", 2.0)}), pace=QUICK))
    assert found["ours"].seconds.median == 2.0 and found["ours"].ratio is None


def test_what_computes_something_else_is_timed_and_says_so(clock):
    reason = "another scale, by design"
    names = ("ours", "other", "nan")
    contenders = {
        name: clock.takes(name, 1.0, result=error) for name, error in zip(names, (0, 3, float("nan")), strict=True)
    }
    result = measure(case(contenders, excused=dict.fromkeys(names[1:], reason)), pace=QUICK)
    found = rows(result)
    assert {name: row.status for name, row in found.items()} == {"ours": "ok", "other": "ok", "nan": "wrong"}
    assert found["other"].error == 3 and found["other"].seconds.median == 1.0
    text = _report._section(GroupResult("g", "", False, describe(), [result]))
    assert "| other | 3.0e+00 * |" in text and text.count(f"* other: {reason}.") == 1 and "* nan" not in text
    with pytest.raises(ValueError, match="'absent' is not a contender"):
        case(contenders, excused={"absent": reason})


def test_single_calls_show_how_late_the_latest_come(clock):
    often = [1.0] * 155 + [9.0] * 3
    result = measure(
        case({"a": clock.takes("a", *often, 1.0)}, each=True), pace=Pace(least=10, most=10, sample=20.0, seconds=99)
    )
    (row,) = result.rows
    assert row.seconds.median == 1.0 and row.rounds == 10 and row.late == 9.0
    assert "| 99 % within |" in _report._section(GroupResult("g", "", False, describe(), [result]))


def test_many_panels_are_drawn_in_columns(clock):
    one = measure(case({"a": clock.takes("a", 1.0)}), pace=QUICK)
    for count, columns in ((1, 1), (7, 1), (8, 2), (30, 3)):
        figure = _picture.picture(GroupResult("g", "", False, describe(), [one] * count))
        parts = figure.subfigs
        assert len(parts) == columns and figure.get_size_inches()[0] == 6 * columns
        titled = [sum(bool(axes.get_title("left")) for axes in part.axes) for part in parts]
        assert sum(titled) == count and max(titled) - min(titled) <= 1


def test_single_calls_are_timed_with_warm_caches(clock):
    turns = [7.0, 1.0, 1.0]  # the first call of a turn is slow
    slow_first = clock.takes("a", 1.0, 1.0, 1.0, *turns, *turns, *turns)
    result = measure(case({"a": slow_first}, each=True), pace=Pace(least=3, most=3, sample=2.0, seconds=99))
    assert result.rows[0].late == 1.0 and len(clock.calls) == 3 + 3 * 3 + 1
    assert "begins with one that is not" in _report._section(GroupResult("g", "", False, describe(), [result]))


# --- how time is taken ---


def test_contenders_take_turns_and_the_floor_with_them(clock):
    contenders = {"a": clock.takes("a", 1.0), "b": clock.takes("b", 2.0)}
    measure(case(contenders, floor=Floor("copy", clock.takes("-", 0.5))), pace=Pace(least=3, most=3, sample=0.0))
    assert "".join(clock.calls) == "ab" + "aabb--" + "ab-" * 3 + "ab"  # check, warm up, rounds, check


def test_medians_ratios_and_floors(clock):
    # Each is called three times before the rounds; then b keeps time with a round by round, though both drift.
    contenders = {"a": clock.takes("a", 1, 1, 1, 2, 4, 6), "b": clock.takes("b", 1, 1, 1, 1, 2, 3)}
    floor = Floor("copy", clock.takes("-", 1.0), share=4.0)
    result = measure(case(contenders, floor=floor, flops=40), pace=Pace(least=3, most=3, sample=0.0))
    a, b = result.rows
    assert a.seconds == Spread(median=4, q1=3, q3=5, least=2, most=6) and a.rounds == b.rounds == 3
    assert b.seconds.median == 2 and b.ratio == Spread(2, 2, 2, 2, 2) and a.ratio.median == 1
    assert result.floor_seconds.median == 0.25 and a.times_floor == 16 and b.times_floor == 8
    assert b.bytes_per_second == 40 and b.flops_per_second == 20


def test_a_short_call_is_repeated_and_reported_for_one(clock):
    result = measure(case({"a": clock.takes("a", 0.001)}), pace=Pace(least=2, most=2, sample=0.005))
    assert len(clock.calls) == 1 + 2 + 2 * 5 + 1
    assert result.rows[0].seconds.median == pytest.approx(0.001)


def test_rounds_go_on_until_the_time_is_up(clock):
    assert Pace().least >= 7
    few = measure(case({"a": clock.takes("a", 100.0)}))
    some = measure(case({"a": clock.takes("a", 0.5)}), pace=Pace(seconds=8.0))
    many = measure(case({"a": clock.takes("a", 0.01)}))
    assert [r.rows[0].rounds for r in (few, some, many)] == [Pace().least, 16, Pace().most]


def test_page_faults_are_counted_a_call(monkeypatch):
    count = iter(range(0, 10**6, 30))
    monkeypatch.setattr(_measure, "page_faults", lambda: next(count))
    assert rows(measure(case({"a": lambda: 0.0}), pace=QUICK))["a"].page_faults == 30


def test_fresh_memory_shows_as_page_faults():
    with mmap.mmap(-1, 64 << 20) as memory:  # from the system: an allocator may have kept as much from earlier
        before = _machine.page_faults()
        memory[::4096] = bytes(len(memory) // 4096)
        assert _machine.page_faults() - before > 20  # 32 huge pages of 2 MB, or 16,384 small ones


def test_some_contenders_only(clock):
    result = measure(
        case({"a": clock.takes("a", 1), "b": clock.takes("b", 1)}), names=("b",), allocator="default", pace=QUICK
    )
    assert [(row.contender, row.allocator) for row in result.rows] == [("b", "default")]


def test_a_case_names_its_own_contenders_and_counts_something():
    with pytest.raises(ValueError, match=r"'fake': 'c' is not a contender; there are \['a'\]"):
        case({"a": None}, baseline="c")
    with pytest.raises(ValueError, match="'d' is not a contender"):
        case({"a": None}, default_allocator=("d",))
    with pytest.raises(ValueError, match="count items and bytes or flops"):
        case({"a": None}, bytes=0)


# --- the machine ---


def test_the_floor_copies_more_than_the_caches_hold(monkeypatch):
    monkeypatch.setattr(_machine, "last_level_cache", lambda: 1000)
    small, large = copy_floor(100), copy_floor(10_000)
    assert small.share == 2 * 4000 / 100 and large.share == 1.0
    assert small.run().numel() == 4000 and large.run().numel() == 5000
    assert _machine._buffers.cache_info().currsize == 1  # a case in its turn does not hold what the last one needed


def test_the_floor_leaves_room_beside_large_caches(monkeypatch):
    """A processor that shows 480 MiB of cache to a machine with little memory."""
    monkeypatch.setattr(_machine, "last_level_cache", lambda: 1 << 20)
    monkeypatch.setattr(_machine, "_memory", lambda: 16 << 20)
    floor = copy_floor(100)
    assert floor.share == 2 * (1 << 20) / 100 and floor.run().numel() == 1 << 20
    assert copy_floor(8 << 20).share == 1.0  # the case's own bytes are never fewer


def test_the_memory_is_the_machines():
    assert 1 << 28 < _machine._memory() < 1 << 50


def test_the_machine_is_described():
    machine = json.loads(json.dumps(describe()))
    assert (
        machine["threads"] == torch.get_num_threads()
        and machine["versions"]["torch"] == torch.__version__.split("+")[0]
    )
    assert machine["last_level_cache_bytes"] == last_level_cache() >= 1 << 18


@pytest.mark.parametrize(
    ("allocator", "settings"), [("pinned", PINNED), ("returning", RETURNING), ("default", {})], ids=lambda v: str(v)[:9]
)
def test_each_allocator_has_a_process_of_its_own(allocator, settings, monkeypatch):
    seen = {}

    def fake(command, *, env, **_):
        seen.update(env)
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(subprocess, "run", fake)
    for name in PINNED | RETURNING:
        monkeypatch.setenv(name, "7")
    with pytest.raises(ChildProcessError, match="the process that measures lif ended with 3"):
        _run._in_own_process({"group": "lif", "allocator": allocator})
    assert {name: value for name, value in seen.items() if name in PINNED | RETURNING} == settings


# --- peak memory ---

PIECE = 64 << 20
on_linux = pytest.mark.skipif(not pathlib.Path("/proc/self/clear_refs").exists(), reason="the system does not tell")


@on_linux
def test_the_peak_is_what_a_call_holds_at_once():
    def twice():
        for _ in range(2):
            bytearray(PIECE)  # the first is gone before the second comes

    large = bytearray(4 * PIECE)  # an earlier peak
    del large
    assert 0.9 * PIECE < peak_memory(twice) < 1.5 * PIECE  # the system counts in lots of pages
    assert peak_memory(lambda: None) < PIECE / 4


@pytest.mark.parametrize("missing", ["clear_refs", "VmHWM"])
def test_no_peak_where_the_system_does_not_tell(missing, monkeypatch, tmp_path):
    (tmp_path / "status").write_text("VmRSS:\t 7 kB\n")
    (tmp_path / "clear_refs").touch(0o600)
    gone = {"clear_refs": "no/such/folder"}.get(missing, "clear_refs")
    monkeypatch.setattr(
        _machine, "Path", lambda name: tmp_path / name.replace("/proc/self/", "").replace("clear_refs", gone)
    )
    assert peak_memory(lambda: pytest.fail("ran")) is None


def test_small_pieces_amid_others_are_given_back_first():
    """What a call takes anew counts, also where an earlier call had left room for it."""

    def pieces():
        return [bytearray(PIECE >> 14) for _ in range(1 << 14)]

    held = pieces()[::1000]  # keep the heap from shrinking
    assert peak_memory(pieces) > 0.9 * PIECE and held


def test_the_first_call_does_not_count(monkeypatch, clock):
    monkeypatch.setattr(_measure, "peak_memory", lambda call: (call(), 5)[1])
    assert measure_memory(case({"a": clock.takes("a", 1.0), "absent": None}), "a") == 5 and clock.calls == ["a", "a"]


def test_what_is_exact_shows_its_memory_in_a_process_of_its_own(monkeypatch):
    requests = []

    def fake(request):
        requests.append(request)
        if request["allocator"] == "pinned":
            contenders = {"a": lambda: 0.0, "b": lambda: 0.0, "wrong": lambda: 9.0, "absent": None}
            first = measure(case(contenders), pace=QUICK)
            return {}, [first, measure(case(contenders, memory=True, default_allocator=("a",)), pace=QUICK)]
        if request["allocator"] == "default":
            return {}, [measure(case({"a": lambda: 0.0}), allocator="default", pace=QUICK)]
        ((_, (name,)),) = request["only"].items()
        if name == "b":
            raise ChildProcessError("killed")
        return {}, [7]

    monkeypatch.setattr(_run, "_in_own_process", fake)
    without, with_it = run("lif", quick=True).cases
    assert [request["only"] for request in requests] == [{}, {1: ("a",)}, {1: ("a",)}, {1: ("b",)}]
    assert all(row.peak_bytes is None for row in without.rows)
    found = [(row.contender, row.allocator, row.status, row.peak_bytes) for row in with_it.rows]
    assert found == [
        ("a", "pinned", "ok", 7), ("b", "pinned", "failed", None), ("wrong", "pinned", "wrong", None),
        ("absent", "pinned", "not installed", None), ("a", "default", "ok", None),
    ]  # fmt: skip
    assert with_it.rows[0].seconds is not None and with_it.rows[1].message == "killed"


@on_linux
def test_a_process_that_measures_memory():
    only = {0: ('temporal memory="recompute"',)}
    request = {"group": "memory", "quick": True, "threads": 1, "allocator": "returning", "only": only}
    _, (peak,) = _run._in_own_process(request)
    assert 0 <= peak < PIECE


# --- what is written ---


@pytest.fixture
def result(clock):
    def takes(*seconds):
        return clock.takes("", *seconds)

    floor = Floor("copy of 1 MB", takes(0.5))
    contenders = {"temporal cpu": takes(1.0), "peer [x|y]": takes(3.0), "absent": None, "wrong": lambda: 9.0}
    cases = [measure(case(contenders, floor=floor, density=0.25), pace=QUICK)]
    cases[0].rows += measure(case(contenders), allocator="default", names=("temporal cpu",), pace=QUICK).rows
    cases += [measure(case(contenders, sweep=("steps T", at), floor=floor), pace=QUICK) for at in (10, 100)]
    return GroupResult("fake", "What it compares.", False, describe(), cases)


def test_sections_are_replaced_and_nothing_else(result, tmp_path):
    for _ in range(2):
        files = write(result, tmp_path / "new")
    assert sorted(file.name for file in files) == ["RESULTS.md", "fake.json", "fake.png"]
    text = files[0].read_text()
    assert text.count("## fake\n") == text.count("<!-- begin fake -->") == text.count("# Results\n") == 1
    assert "| temporal cpu | 0 | 1 s (1 s..1 s) | 1 s..1 s | 1e+08 | 1.00 (1.00..1.00) | 2.00 |" in text
    assert "| absent |  | not installed |" in text and "| wrong | 9.0e+00 | wrong |" in text
    assert "| temporal cpu, default allocator |" in text and "| peer [x/y] |" in text
    for said in (
        "threads ",
        f"N=10 float32, density 0.25; nothing; threads {torch.get_num_threads()}\n",
        "torch ",
        "8 bytes a thing",
        "Floor (copy of 1 MB)",
    ):
        assert said in text

    other = replace_section(text, "other", "## other\n\nkept")
    files[0].write_text(other + "\nlast words\n")
    write(result, tmp_path / "new")
    assert files[0].read_text() == other + "\nlast words\n"
    with pytest.raises(ValueError, match="opens the section of fake and never ends it"):
        replace_section("<!-- begin fake -->\n", "fake", "new")


def test_memory_has_a_column_where_it_was_measured(clock):
    one = measure(case({"base": clock.takes("", 1.0), "wrong": lambda: 9.0, "b": clock.takes("", 1.0)}, memory=True))
    result = GroupResult("fake", "", False, describe(), [one])
    text = _report._section(result)
    assert "| rounds | peak memory (of base's) |" in text and "MALLOC_TRIM_THRESHOLD_=65536" in text
    assert text.count("| 7 |  |\n") == 1 and text.endswith("| 7 |  |")  # not told
    one.rows[0].peak_bytes, one.rows[2].peak_bytes = 2_000_000, 500_000
    text = _report._section(result)
    assert "| 7 | 2.0 MB (1.00) |" in text and "| 7 | 0.5 MB (0.25) |" in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {lines[0].count("|")}
    one.memory = False
    assert "peak memory" not in _report._section(result).lower()


def test_a_loss_is_said(clock):
    times = {"temporal": 3.0, "temporal reference": 2.0, "peer": 1.0, "slow": 5.0}
    one = measure(case({name: clock.takes("", seconds) for name, seconds in times.items()}), pace=QUICK)
    assert _report._losses(one) == ["Lost: temporal reference is slower than peer (2.00 times as fast)."]
    result = GroupResult("fake", "", False, describe(), [one])
    assert "Lost: temporal reference" in _report._section(result)
    one.rows = [row for row in one.rows if row.contender != "peer"]
    assert _report._losses(one) == []


def test_each_table_has_a_row_with_the_default_allocator():
    """The first of this package, unless a case says which; the points of a line have none."""
    contenders = {"peer": lambda: 0.0, "temporal cuda": None, "temporal cpu": lambda: 0.0, "temporal": lambda: 0.0}
    assert case(contenders).default_allocator == ("temporal cpu",)
    assert case(contenders, sweep=("steps", 1)).default_allocator == ()
    assert case(contenders, default_allocator=()).default_allocator == ()
    assert case({"peer": lambda: 0.0}).default_allocator == ()


def test_what_was_set_is_told(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("MALLOC_MMAP_MAX_", "0")
    machine = describe()
    assert machine["settings"]["OMP_NUM_THREADS"] == "3" and machine["settings"]["MALLOC_MMAP_MAX_"] == "0"
    assert {"dcls", "soxr", "h5py"} <= set(machine["versions"])
    assert ", MALLOC_MMAP_MAX_=0, " in _report._machine(GroupResult("fake", "", False, machine, []))


def test_the_overhead_of_a_call_is_said_after_a_line_from_one_on(clock):
    def line(first, *points, name="small"):
        return [
            measure(
                case({"a": clock.takes("", a), "noisy": clock.takes("", 5.0 / at)}, name=name, sweep=("steps T", at))
            )
            for at, a in zip((first, 2, 8), points, strict=False)
        ]

    cases = [*line(1, 10.0, 10.5, 13.5), *line(1, 1.0, name="alone"), *line(100, 1.0, 2.0, 3.0, name="long")]
    result = GroupResult("fake", "", False, describe(), cases)
    said = [text for one in cases for text in _report._overhead(result, one)]
    assert _report._overhead(result, cases[2]) == said
    assert [text.partition("): ")[2] for text in said] == ["a 9.5 s, then 500 ms each; noisy 5 s, then 0 ns each."]
    assert _report._section(result).count("Overhead of a call, steps T") == 1


def test_json_holds_everything(result, tmp_path):
    _, file, image = write(result, tmp_path)
    data = json.loads(file.read_text())
    assert data == json.loads(json.dumps(result.to_dict()))
    check_schema(data)
    assert image.read_bytes().startswith(b"\x89PNG")


def check_schema(group):
    assert set(group) == {"group", "about", "quick", "machine", "cases"}
    assert {"threads", "versions", "processor", "last_level_cache_bytes", "load_average"} <= set(group["machine"])
    for one in group["cases"]:
        assert {"name", "scope", "shape", "dtype", "density", "bytes", "flops", "items", "item", "baseline"} <= set(one)
        for row in one["rows"]:
            assert row["status"] in ("ok", "wrong", "failed", "not installed")
            timed = ("seconds", "bytes_per_second", "page_faults")
            assert all((row[name] is not None) == (row["status"] == "ok") for name in timed)
            assert row["error"] is not None or row["status"] != "ok"
            if row["seconds"] is not None:
                assert set(row["seconds"]) == {"median", "q1", "q3", "least", "most"}


# --- the command ---


def command(*arguments):
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return stop.code or 0
    return 0


def test_the_groups_are_listed(capsys):
    assert command("bench", "--list") == 0
    assert "\nlif        Leaky integrate-and-fire" in "\n" + capsys.readouterr().out
    assert command("bench", "--list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == list_groups()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("nothing",), "unknown group 'nothing'; known: "), (("lif", "--threads", 0), "threads=0")],
)
def test_mistakes_are_one_line(arguments, message, capsys):
    assert command("bench", *arguments) == 1
    said = capsys.readouterr()
    assert said.out == "" and message in said.err and said.err.count("\n") == 1


def test_a_wrong_contender_fails_the_command_after_everything_is_written(result, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("temporal.benchmarks.run", lambda name, **_: result)
    assert command("bench", "fake", "--out", tmp_path / "out", "--json") == 1
    said = capsys.readouterr()
    check_schema(json.loads(said.out)["groups"][0])
    assert "fake: fake (N=10): wrong wrong: error 9 is above 0.5" in said.err
    assert (tmp_path / "out" / "fake.json").is_file()


@pytest.mark.parametrize("quick", [False, True])
def test_a_checkout_keeps_real_results(quick, result, monkeypatch, tmp_path):
    """Without --out they go to benchmarks/, those of --quick nowhere, and outside of a checkout nowhere."""
    monkeypatch.setattr("temporal.benchmarks.run", lambda name, **_: result)
    for one in result.cases:
        one.rows = [row for row in one.rows if row.status == "ok"]
    monkeypatch.chdir(tmp_path)
    flags = ["--quick"] if quick else []
    assert command("bench", "fake", *flags) == 0 and not list(tmp_path.iterdir())
    (tmp_path / "temporal/benchmarks").mkdir(parents=True)
    (tmp_path / "temporal/benchmarks/__init__.py").touch()
    assert command("bench", "fake", *flags) == 0
    assert pathlib.Path("benchmarks/RESULTS.md").is_file() == (not quick)


def test_quick_lif_end_to_end(tmp_path, capfd):
    assert command("bench", "lif", "--quick", "--threads", 1, "--out", tmp_path, "--json") == 0
    said = capfd.readouterr()
    (group,) = json.loads(said.out)["groups"]
    check_schema(group)
    assert group["quick"] and group["machine"]["threads"] == 1
    assert {row["allocator"] for row in group["cases"][0]["rows"]} == {"pinned", "default"}
    assert "SpikingJelly LIFNode" in said.err and "these times say nothing" in said.err
    assert sorted(file.name for file in tmp_path.iterdir()) == ["RESULTS.md", "lif.json", "lif.png"]
    assert json.loads((tmp_path / "lif.json").read_text()) == group


def test_run_refuses_before_it_starts_anything(monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("started a process"))
    with pytest.raises(ValueError, match="unknown group"):
        run("nothing")
