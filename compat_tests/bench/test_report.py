"""The table in README, the plots and the page, from records that are known."""

from __future__ import annotations

import dataclasses
import json
import xml.etree.ElementTree as ElementTree

import pytest

pytestmark = pytest.mark.usefixtures("benchmarks")
SVG = "{http://www.w3.org/2000/svg}"
ENVIRONMENT = {
    "cpu": "a machine",
    "gpu": None,
    "versions": {"torch": "2.13.0", "numpy": "2.4", "faiss-cpu": "1.15.1"},
    "date": "2026-11-21T16:42:03+00:00",
    "commit": "0123456789abcdef",
}


def record(name, runs, unit="seconds", **more):
    """A record of a case as `benchmarks.run` makes it."""
    from benchmarks.workloads.cases import CASES

    case = next(case for case in CASES if case.name == name)
    return {
        "case": name,
        "rival": "faiss-cpu",
        "quantity": case.quantity,
        unit: runs,
        "point": dataclasses.asdict(case.point) if case.point else None,
        "workload": dataclasses.asdict(case.workload),
        "threads": 2,
        "environment": ENVIRONMENT,
        **more,
    }


@pytest.fixture
def path(tmp_path):
    """A file of records: goals, a sweep beside two rivals, recalls, and a profile."""
    from benchmarks import records
    from benchmarks.workloads.cases import CASES

    file = tmp_path / "records.jsonl"
    made = [
        record("ivf_search_nq2048", {"faiss": [9.0], "faiss_torch": [1.0]}),
        record("ivf_search_nq2048", {"faiss": [6.0, 6.0, 6.0], "faiss_torch": [1.0, 2.0, 3.0]}, faiss_alone=5.0),
        record("ivf_search_nq2048", {"faiss": [7.0], "faiss_torch": [1.0]}, threads=1),
        record("ivf_search_nq2048", {"faiss": [7.0], "faiss_torch": [1.0]}, arithmetic="int8"),
        record("ivf_search_nq2048", {"torch-ivf": [7.0], "faiss_torch": [1.0]}, rival="torch-ivf"),
        record("flat_search_nq2048", {"faiss": [8.0], "faiss_torch": [1.0]}),
        record("kmeans_20480", {"faiss": [2.0], "faiss_torch": [1.0]}),
        record("ivf_memory_after_add", {"faiss": [100 << 20], "faiss_torch": [130 << 20]}, "bytes"),
        record("import_time", {"faiss": [0.05], "faiss_torch": [0.2]}),
    ]
    for case in CASES:
        if case.suite == "sweeps" and case.point.sweep == "nq_ivf":
            for rival, side in (("faiss-cpu", "faiss"), ("torch-ivf", "torch-ivf")):
                runs = {side: [case.workload.nq / 2000], "faiss_torch": [case.workload.nq / 8000]}
                made.append(record(case.name, runs, rival=rival, path=["csr", "why"]))
        if case.suite == "sweeps" and case.point.sweep == "recall":
            share = 1 - 0.5 / case.workload.nprobe
            runs = {"faiss": [case.workload.nprobe / 10], "faiss_torch": [case.workload.nprobe / 40]}
            made.append(record(case.name, runs, recall={"faiss": share, "faiss_torch": share}))
    steps = {"screen": 0.6, "verify": 0.3, "select": 0.1}
    made.append({"profile": "ivf_search_nq2048", "steps": steps, "seconds_of_run": 1.0, "environment": ENVIRONMENT})
    for each in made:
        records.append(each, file)
    return file


def rows_of(text):
    """The rows of a table in Markdown, by case."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "| `" in line]
    return {row[0].strip("`"): row[1:] for row in cells}


def test_table(path):
    """The latest record of each case beside faiss-cpu on two threads, in the order of the cases, with its goal."""
    from benchmarks.reporting import table

    rows = rows_of(table.table(table.latest(path)))
    names = ["ivf_search_nq2048", "flat_search_nq2048", "kmeans_20480", "ivf_memory_after_add", "import_time"]
    assert list(rows) == names
    recorded = "2026-11-21, 01234567"
    assert rows["ivf_search_nq2048"] == [
        *("6,000.0 ms", "5,000.0 ms", "2,000.0 ms", "3.00x (2.40 to 4.00)", "8x (4x)", recorded)
    ]
    assert rows["ivf_memory_after_add"][:3] == ["100.0 MiB", "", "130.0 MiB"]
    assert rows["ivf_memory_after_add"][3].startswith("1.30x (1.30 to 1.30), memory")
    assert rows["import_time"][3].startswith("0.20 s")
    text = table.table(table.latest(path))
    assert text.endswith("Measured on: a machine, 2 threads, torch 2.13.0, faiss-cpu 1.15.1.\n")
    assert "No measurement" in table.table({})


def test_table_in_readme(path, tmp_path, monkeypatch):
    """The table replaces the one that is there, and nothing else."""
    from benchmarks.reporting import table

    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{table.START}old\n{table.END}after\n")
    monkeypatch.setattr(table, "README", readme)
    table.main(["--write", "--records", str(path)])
    before, _, rest = readme.read_text().partition(table.START)
    assert (before, rest.partition(table.END)[2]) == ("before\n", "after\n")
    assert "`kmeans_20480`" in rest
    assert "old" not in rest


def test_records_of_before_are_still_read(path):
    """The records that were made before goals and rivals were noted are read as ones beside faiss-cpu."""
    from benchmarks import records
    from benchmarks.workloads.goals import figure

    found = records.measurements(records.RECORDS)
    assert "ivf_search_nq2048" in found
    for each in found.values():
        if "ratio" in each and "figure" not in each:
            assert figure(each).value == pytest.approx(each["ratio"], rel=0.01)


def titles(text):
    """What the marks of a chart stand for."""
    return [element.text for element in ElementTree.fromstring(text).iter(f"{SVG}title")]


def words(text):
    """All text of a chart."""
    return [element.text for element in ElementTree.fromstring(text).iter(f"{SVG}text")]


def test_chart_of_goals(path):
    """A bar for each goal with a record, as long as the share that is reached."""
    from benchmarks.reporting import plots, svg

    chart = plots.goals(plots.read(path))
    assert "ivf_search_nq2048: 3.00x (times as fast), goal and floor 8x (4x)" in titles(chart)
    assert {"3.00x of 8x", "8.00x of 4x", "1.30x of 1.1x", "0.20 s of 0.1 s"} <= set(words(chart))
    groups = ElementTree.fromstring(chart).iter(f"{SVG}g")
    bars = {group[0].text.split(":")[0]: group[3].attrib for group in groups}
    assert bars["flat_search_nq2048"]["fill"] == svg.COLOURS[3]  # the goal is reached
    assert bars["kmeans_20480"]["fill"] == bars["import_time"]["fill"] == svg.COLOURS[1]  # the floor is
    assert bars["ivf_search_nq2048"]["fill"] == bars["ivf_memory_after_add"]["fill"] == svg.COLOURS[2]
    assert float(bars["flat_search_nq2048"]["width"]) > float(bars["kmeans_20480"]["width"]) > 10


def test_chart_of_queries_per_second(path):
    """Each side has its line, at the height of its records."""
    from benchmarks.reporting import plots

    chart = plots.nq_ivf(plots.read(path))
    assert {"faiss-cpu", "faiss_torch", "torch-ivf", "faiss_torch, path matrix", "faiss_torch, path csr"} <= set(
        words(chart)
    )
    assert "flashlib" not in words(chart)
    found = titles(chart)
    assert sum(title.startswith("faiss: 2,000 QPS") for title in found) == 15
    assert sum(title.startswith("torch-ivf: 2,000 QPS") for title in found) == 15
    assert any(title.startswith("faiss_torch: 8,000 QPS") and "nq=19,600" in title for title in found)
    lines = list(ElementTree.fromstring(chart).iter(f"{SVG}polyline"))
    heights = [{point.split(",")[1] for point in line.attrib["points"].split()} for line in lines]
    assert all(len(each) == 1 for each in heights)
    faiss, ours = (float(next(iter(each))) for each in heights[:2])
    assert ours < faiss  # higher in the picture


def test_chart_of_recall(path):
    """Both sides, from the recall of one probe to that of all."""
    from benchmarks.reporting import plots

    found = titles(plots.recall(plots.read(path)))
    assert len(found) == 16
    assert any(title.startswith("faiss_torch: 40,000 QPS") and title.endswith("nprobe=1") for title in found)


@pytest.fixture
def path_of_gpu(path):
    """The same, with sweeps on a GPU: csr is the faster path from 512 queries on."""
    from benchmarks import records
    from benchmarks.workloads.cases import GPU_SWEEPS

    where = {**ENVIRONMENT, "gpu": "A large GPU"}
    for case in GPU_SWEEPS:
        work = case.workload
        ours = {"csr": 5e-4, "matrix": work.nq * 1e-6, "auto": 4e-4, "debian_minilm": 1e-3 * work.nprobe}
        runs = {"faiss": [work.nq / 1000], "faiss_torch": [ours[case.point.line]]}
        share = 1 - 0.5 / work.nprobe
        more = {"recall": {"faiss": share, "faiss_torch": share}} if case.recall else {}
        records.append(record(case.name, runs, **more) | {"environment": where, "threads": 16}, path)
    return path


def test_charts_of_a_gpu(path_of_gpu):
    from benchmarks.reporting import plots

    charts = plots.gpu_plots(plots.read(path_of_gpu))
    assert list(charts) == ["gpu_qps_nq", "gpu_recall_qps"]
    chart = charts["gpu_qps_nq"][0]
    assert {"faiss_torch, path matrix", "faiss_torch, path csr", "faiss-cpu", "faiss_torch"} <= set(words(chart))
    assert any(text.endswith("csr is faster from nq=512 on") for text in words(chart))
    assert sum(title.startswith("faiss: 1,000 QPS") for title in titles(chart)) == 6
    assert any(title.startswith("faiss_torch: 2,000,000 QPS") for title in titles(charts["gpu_recall_qps"][0]))


def test_queries_for_a_dollar(path_of_gpu, tmp_path):
    """The fastest run of each side that finds enough, by the price of its machine."""
    from benchmarks.reporting import plots, report

    prices = {"large": 4.0, "machine": 0.5}
    found = plots.worth(plots.read(path_of_gpu), prices, 0.95)
    assert [(each.side, each.machine, each.dollars) for each in found] == [
        ("faiss_torch", "A large GPU", 4.0),
        ("faiss_torch", "a machine", 0.5),
        ("faiss", "a machine", 0.5),
    ]
    assert found[0].per_second == pytest.approx(2000 / 16e-3)  # 16 probes find 0.97
    assert found[0].queries_per_dollar == pytest.approx(2000 / 16e-3 * 900)
    assert not plots.worth(plots.read(path_of_gpu), {"another": 1.0}, 0.95)
    arguments = ["--records", str(path_of_gpu), "--output", str(tmp_path / "out")]
    report.main([*arguments, "--price", "large=4", "--price", "machine=0.5"])
    page = (tmp_path / "out" / "report.html").read_text()
    assert "at a recall of 0.95 or more" in page
    assert "<td>112,500,000</td>" in page
    with pytest.raises(SystemExit):
        report.main([*arguments, "--price", "large"])


def test_chart_of_steps(path):
    """The parts of a run add up to it."""
    from benchmarks.reporting import plots

    chart = plots.steps(path)
    assert titles(chart) == ["screen: 60 %", "verify: 30 %", "select: 10 %"]
    assert "1,000 ms" in words(chart)


@pytest.mark.parametrize(
    ("low", "high", "logarithmic", "expected"),
    [
        (0.9, 20_000, True, [1, 10, 100, 1000, 10_000]),
        (0.9, 110, True, [1, 3, 10, 30, 100]),
        (1.9, 21, True, [2, 5, 10, 20]),
        (3.2, 4.3, True, [3.2, 3.4, 3.6, 3.8, 4, 4.2]),
        (0.47, 1.02, False, [0.5, 0.6, 0.7, 0.8, 0.9, 1]),
        (0, 60_000, False, [0, 10_000, 20_000, 30_000, 40_000, 50_000, 60_000]),
    ],
)
def test_ticks(low, high, logarithmic, expected):
    """Round numbers, a handful of them."""
    from benchmarks.reporting.svg import ticks

    assert ticks(low, high, logarithmic) == pytest.approx(expected)


def test_a_chart_escapes_what_it_shows():
    """Names with signs of XML stay names."""
    from benchmarks.reporting import svg

    lines = [svg.Line('a<b & "c"', [svg.Point(1, 2, 2, 2, "x<y")], "#000000")]
    chart = svg.line_chart('<t> & "u"', svg.Axis("a&b"), svg.Axis("c<d"), lines)
    assert 'a<b & "c"' in words(chart)
    assert titles(chart) == ["x<y"]
    assert ElementTree.fromstring(chart).attrib["aria-label"] == '<t> & "u"'


def test_report(path, tmp_path):
    """One page that needs nothing beside itself, and each plot as a file; without records they say so."""
    from benchmarks.reporting import report

    report.main(["--records", str(path), "--output", str(tmp_path / "out")])
    page = (tmp_path / "out" / "report.html").read_text()
    tree = ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>\n"))
    assert not [element for element in tree.iter() if element.tag in {"script", "link", "img"}]
    assert "<td><b>3.00x</b></td><td>2.40 to 4.00</td>" in page
    assert "a machine, 2 threads" in page
    plots = sorted(file.name for file in (tmp_path / "out").glob("*.svg"))
    assert len(plots) == 9
    assert len(list(tree.iter(f"{SVG}svg"))) == 9
    for name in plots:
        ElementTree.parse(tmp_path / "out" / name)
    report.main(["--records", str(tmp_path / "absent.jsonl"), "--output", str(tmp_path / "empty")])
    assert "not recorded yet" in (tmp_path / "empty" / "goals.svg").read_text()


@pytest.mark.slow
def test_the_plots_in_docs_are_up_to_date():
    """The plots and the page are what the records give."""
    from benchmarks import records
    from benchmarks.reporting import report

    for file in report.FOLDER.iterdir():
        if file.suffix == ".svg":
            from benchmarks.reporting.plots import all_plots

            assert file.read_text(encoding="utf-8") == all_plots(records.RECORDS)[file.stem][0], file.name
    assert (report.FOLDER / "report.html").read_text(encoding="utf-8") == report.page(records.RECORDS)


def test_environment(capsys):
    """What a measurement was made on."""
    import torch

    from benchmarks.env import environment

    found = environment()
    assert torch.__version__.startswith(found["versions"]["torch"])
    assert found["cores"] >= 1
    json.dumps(found)
