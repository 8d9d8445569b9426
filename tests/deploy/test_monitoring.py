"""Dashboard, alerts and their document speak of metrics that a worker really has, and of one another rightly."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.metrics import DECISION_BUCKETS, WorkerMetrics
from pipeline.settings import load_settings
from pipeline.source_metrics import SourceMetrics, SourceState
from pipeline.worker_specs import STAGE_NAMES

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "monitoring.md").read_text()
BOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/dashboards/hedgeflow.json").read_text())
PROMETHEUS: dict[str, Any] = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
ALERTS: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
SOURCE = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"][0]
PROVIDER = yaml.safe_load((ROOT / "deploy/grafana/provisioning/dashboards/hedgeflow.yml").read_text())["providers"][0]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]

ADDED_BY_THE_SCRAPE = {"instance", "job", "service"}


def families() -> list[Metric]:
    """All that a worker and a source show once everything has happened to them."""
    metrics = WorkerMetrics("features")
    metrics.answers(lambda: True, lambda: True)
    metrics.took("md.events", 1, 1)
    metrics.rows("md.events", 1)
    metrics.sent("features", 1)
    metrics.lag("md.events", 0, 1)
    metrics.watermark(1)
    metrics.checkpoint("features/0", 1, 0.1)
    metrics.lake_commit("trade", 1, 0.1)
    metrics.lake_failure("trade")
    source = SourceMetrics("source.binance")
    source.tell(SourceState(1, {"bad_level": 1}, 1, {"opened": 1}, 1))
    found: dict[str, Metric] = {}
    for registry in (source.registry, metrics.registry):
        found |= {each.name: each for each in text_string_to_metric_families(generate_latest(registry).decode())}
    return list(found.values())


FAMILIES = families()
LABELS = {sample.name: set(sample.labels) for family in FAMILIES for sample in family.samples}


def expressions() -> Iterator[tuple[str, str]]:
    """Every PromQL expression of the dashboard and the alerts, and where it stands."""
    for panel in BOARD["panels"]:
        for target in panel.get("targets", []):
            yield f"panel {panel['title']}", target["expr"]
    for annotation in BOARD["annotations"]["list"]:
        yield f"annotation {annotation['name']}", annotation["expr"]
    for variable in BOARD["templating"]["list"]:
        yield f"variable {variable['name']}", variable["query"]["query"]
    for rule in ALERTS:
        yield f"alert {rule['alert']}", rule["expr"]


def unknown(expression: str) -> set[str]:
    """Names of metrics and labels in ``expression`` that no scrape has."""
    metrics = set(re.findall(r"\b(?:hedgeflow|process)_\w+", expression))
    known = set().union(*(LABELS.get(name, set()) for name in metrics)) | ADDED_BY_THE_SCRAPE
    grouped = re.findall(r"\b(?:by|on|without)\s*\(([^)]*)\)", expression)
    used = {name.strip() for group in grouped for name in group.split(",")}
    used |= set(re.findall(r"[{,]\s*(\w+)\s*(?:=~|!~|!=|=)", expression))
    return (metrics - set(LABELS)) | (used - known)


@pytest.mark.parametrize(("where", "expression"), list(expressions()), ids=[where for where, _ in expressions()])
def test_every_metric_and_label_exists(where: str, expression: str) -> None:
    assert unknown(expression) == set(), where


@pytest.mark.parametrize(
    ("expression", "missing"),
    [
        ("rate(hedgeflow_message_total[5m])", {"hedgeflow_message_total"}),
        ("hedgeflow_messages", {"hedgeflow_messages"}),  # the counter's series end with _total
        ("hedgeflow_batch_messages", {"hedgeflow_batch_messages"}),  # a histogram has no series of its own name
        ("sum by (stage, tpic) (hedgeflow_messages_total)", {"tpic"}),
        ('hedgeflow_paused{stag="lake"}', {"stag"}),
        ("sum by (stage, le) (rate(hedgeflow_batch_messages_bucket[5m]))", set()),
    ],
)
def test_a_name_that_does_not_exist_is_found(expression: str, missing: set[str]) -> None:
    assert unknown(expression) == missing


def test_everything_that_is_measured_is_shown_or_alerted_on() -> None:
    text = " ".join(expression for _, expression in expressions())
    for family in FAMILIES:
        if family.name.startswith("hedgeflow"):
            assert any(re.search(rf"\b{sample.name}\b", text) for sample in family.samples), family.name


# -- the document ------------------------------------------------------------------------------------------------------


def table_rows() -> list[str]:
    """The document's table of metrics, as the registry has it."""
    rows = []
    for family in FAMILIES:
        if family.name.startswith("hedgeflow"):
            name = {"counter": f"{family.name}_total", "info": f"{family.name}_info"}.get(family.type, family.name)
            labels = set().union(*(each.labels for each in family.samples)) - {"stage", "le"}
            kind = " (histogram)" if family.type == "histogram" else ""
            shown = ", ".join(f"`{label}`" for label in sorted(labels))
            rows.append(f"| `{name}`{kind} | {shown} | {family.documentation} |")
    return sorted(rows)


def test_the_document_lists_every_metric_with_its_labels() -> None:
    listed = re.findall(r"^\| `hedgeflow_.*$", DOCUMENT, re.MULTILINE)
    assert listed == table_rows()


def test_the_document_names_no_metric_that_does_not_exist() -> None:
    known = set(LABELS) | {family.name for family in FAMILIES}
    assert set(re.findall(r"`((?:hedgeflow|process)_\w+)`", DOCUMENT)) - {"hedgeflow_"} <= known


def test_every_alert_says_what_to_do_and_has_its_paragraph() -> None:
    headings = [heading.lower() for heading in re.findall(r"^### (\w+)$", DOCUMENT, re.MULTILINE)]
    assert headings == [rule["alert"].lower() for rule in ALERTS]
    for rule in ALERTS:
        assert rule["labels"]["severity"] in ("critical", "warning")
        notes = rule["annotations"]
        assert notes["summary"]
        assert notes["description"].endswith(".")
        assert notes["runbook_url"] == f"docs/monitoring.md#{rule['alert'].lower()}"
        assert "for" in rule or re.search(r"\[\d+m\]|offset \d+m", rule["expr"]), "one bad scrape must not wake anybody"
        shown = set(re.findall(r"\$labels\.(\w+)", " ".join(notes.values())))
        assert not unknown(rule["expr"] + "".join(f" by ({label})" for label in shown))


def test_links_inside_the_document_lead_to_a_paragraph() -> None:
    headings = {heading.lower() for heading in re.findall(r"^#+ (\w+)$", DOCUMENT, re.MULTILINE)}
    assert set(re.findall(r"\]\(#(\w+)\)", DOCUMENT)) <= headings


def test_the_settings_shown_are_accepted(tmp_path: Path) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)
    path = tmp_path / "hedgeflow.toml"
    path.write_text(block)
    settings = load_settings(path)
    assert (settings.monitor_host, settings.monitor_port) == ("127.0.0.1", 9464)


# -- the dashboard -----------------------------------------------------------------------------------------------------


def test_panels_are_told_apart_and_say_what_they_show() -> None:
    ids = Counter(panel["id"] for panel in BOARD["panels"])
    titles = Counter(panel["title"] for panel in BOARD["panels"] if panel["type"] == "row")
    assert max(ids.values()) == max(titles.values()) == 1
    for panel in BOARD["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["description"], panel["title"]
        assert panel["targets"], panel["title"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        if panel["type"] in ("timeseries", "stat"):
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]


def test_panels_do_not_overlap_and_stay_on_the_grid() -> None:
    boxes = [(panel["title"], panel["gridPos"]) for panel in BOARD["panels"]]
    for title, box in boxes:
        assert 0 <= box["x"] < box["x"] + box["w"] <= 24, title
    for (one, a), (other, b) in combinations(boxes, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        above = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or above, (one, other)


def test_rows_stand_in_the_order_of_an_operators_questions() -> None:
    rows = [panel["title"] for panel in BOARD["panels"] if panel["type"] == "row"]
    assert rows == [
        "At a glance",
        "Flow",
        "Latency",
        "State and recovery",
        "Lake",
        "Dead letters",
        "Sources",
        "Processes",
    ]


def test_everything_reads_the_provisioned_datasource() -> None:
    text = json.dumps(BOARD)
    assert set(re.findall(r'"datasource": \{"type": "(\w+)", "uid": "([\w-]+)"\}', text)) == {
        (SOURCE["type"], SOURCE["uid"])
    }
    assert SOURCE["url"] == "http://prometheus:9090"
    assert all("datasource" in panel for panel in BOARD["panels"] if panel["type"] != "row")


def test_grafana_finds_what_it_is_given() -> None:
    grafana = COMPOSE["grafana"]
    mounts = dict(each.split(":")[1::-1] for each in grafana["volumes"])
    assert mounts["/etc/grafana/provisioning"] == "./deploy/grafana/provisioning"
    assert (ROOT / mounts[PROVIDER["options"]["path"]] / "hedgeflow.json").is_file()
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{PROVIDER['options']['path']}/hedgeflow.json"


# -- prometheus --------------------------------------------------------------------------------------------------------


def test_prometheus_scrapes_every_worker_where_it_answers() -> None:
    jobs = {job["job_name"]: job for job in PROMETHEUS["scrape_configs"]}
    (found,) = jobs["hedgeflow"]["dns_sd_configs"]
    assert set(found["names"]) == set(STAGE_NAMES)
    assert {COMPOSE[name]["environment"]["HEDGEFLOW_MONITOR_PORT"] for name in found["names"]} == {found["port"]}
    targets = [target for job in jobs.values() for each in job.get("static_configs", []) for target in each["targets"]]
    for target in targets:
        assert target.split(":")[0] in {*COMPOSE, "localhost"}
    for rules in PROMETHEUS["rule_files"]:
        assert (ROOT / "deploy" / "prometheus" / rules).is_file()


def test_a_stage_that_is_missing_is_missed() -> None:
    (rule,) = [rule for rule in ALERTS if rule["alert"] == "StageMissing"]
    assert set(re.findall(r'service="(\w+)"', rule["expr"])) == set(STAGE_NAMES)


def test_a_bound_on_the_latency_is_the_end_of_a_bucket() -> None:
    (rule,) = [rule for rule in ALERTS if rule["alert"] == "DecisionsAreSlow"]
    assert float(rule["expr"].split(">")[1]) in DECISION_BUCKETS
