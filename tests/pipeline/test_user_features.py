"""A user's own features: from one file to feature rows, lake, models and the generated page."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from small_market import small_market

from features.bars import FeatureStage
from features.catalog import STANDARD
from features.errors import ArtifactError, ConfigError
from features.events import NANO, EventBatch
from forecasting.model import load_forecast
from pipeline.backfill import backfill
from pipeline.edge import Edge
from pipeline.feature_document import feature_document
from pipeline.fit import fit_forecast_artifact
from pipeline.lake import Lake
from pipeline.log import MemoryLog
from pipeline.model_folders import FORECAST_FOLDER
from pipeline.query import open_lake
from pipeline.settings import Settings, load_settings
from pipeline.user_features import catalogue_of

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "my_features.py"
REFERENCE = {name: f"test:{name}-PERPETUAL" for name in ("BTC", "ETH")}


def with_example(**values: object) -> Settings:
    return load_settings(None, features=(EXAMPLE,), reference=REFERENCE, **values)


def log_of(seconds: int) -> list[EventBatch]:
    log: list[EventBatch] = []
    edge = Edge(MemoryLog(log.append), "test")
    for batch in small_market(seconds, seed=11):
        edge.send(batch)
    return log


LOG = log_of(40)


def rows_of(stage: FeatureStage, log: list[EventBatch]) -> pl.DataFrame:
    found = [each.data for batch in log for each in stage.process(batch).rows]
    frame = pl.from_arrow(pa.Table.from_batches(found))
    assert isinstance(frame, pl.DataFrame)
    return frame


def test_the_example_computes_what_it_declares() -> None:
    catalogue = catalogue_of(with_example())
    assert catalogue.schema.names[-1] == "pressure"
    frame = rows_of(FeatureStage(NANO, catalogue), LOG)
    assert {"pressure", "realized_variance_30m", "social_volume_z"} <= set(frame.columns)
    for name in frame["instrument"].unique():
        mine = frame.filter(pl.col("instrument") == name).sort("bar_ts")
        state, expected = None, []
        for row in mine.to_dicts():
            inputs = [row[c] for c in ("order_flow_imbalance", "signed_volume", "bid_depth_10bps", "ask_depth_10bps")]
            if any(each is None for each in inputs) or inputs[2] + inputs[3] <= 0:
                expected.append(None)
                continue
            now = (inputs[0] + inputs[1]) / (inputs[2] + inputs[3])
            state = now if state is None else state + (1 - 2.718281828459045 ** (-1 / 20)) * (now - state)
            expected.append(state)
        assert [each is None for each in mine["pressure"]] == [each is None for each in expected]
        known = [(a, b) for a, b in zip(mine["pressure"], expected, strict=True) if b is not None]
        assert len(known) > 10
        for ours, theirs in known:
            assert ours == pytest.approx(theirs, rel=1e-12)


def test_our_own_columns_are_as_without_it() -> None:
    plain, more = rows_of(FeatureStage(), LOG), rows_of(FeatureStage(NANO, catalogue_of(with_example())), LOG)
    names = [name for name in STANDARD.schema.names if name != "version"]
    assert plain.select(names).equals(more.select(names))
    assert plain["version"].unique().to_list() != more["version"].unique().to_list()


@pytest.mark.parametrize("cut", [len(LOG) // 4, len(LOG) // 2, len(LOG) - 5])
def test_a_restart_keeps_its_state(cut: int) -> None:
    catalogue = catalogue_of(with_example())
    whole = rows_of(FeatureStage(NANO, catalogue), LOG)
    first, second = FeatureStage(NANO, catalogue), FeatureStage(NANO, catalogue)
    head = rows_of(first, LOG[:cut])
    second.restore(first.snapshot())
    both = pl.concat([head, rows_of(second, LOG[cut:])])
    order = ["instrument", "bar_ts"]
    assert both.sort(order).equals(whole.sort(order))


def test_it_flows_to_the_lake_and_to_the_forecast(tmp_path: Path) -> None:
    settings = with_example(lake=tmp_path / "lake", models=tmp_path / "models", forecast_inputs=("pressure",))
    backfill(log_of(700), Lake(settings.lake), settings, with_signals=False)
    with open_lake(settings.lake) as connection:
        counted = connection.sql("select count(*), count(pressure) from universe").fetchall()[0]
    assert counted[1] > 0.9 * counted[0] > 1000
    manifest = fit_forecast_artifact(settings, None, seed=0, horizon_bars=10)
    assert manifest.catalogue == catalogue_of(settings).hash != STANDARD.hash
    assert ["pressure", "plain", 0.0] in [list(each) for each in manifest.settings["inputs"]]
    load_forecast(settings.models / FORECAST_FOLDER, catalogue_of(settings).hash)
    with pytest.raises(ArtifactError, match="fitted on features"):
        load_forecast(settings.models / FORECAST_FOLDER, STANDARD.hash)


def test_a_lake_without_the_columns_gets_them(tmp_path: Path) -> None:
    plain = load_settings(None, reference=REFERENCE)
    lake = Lake(tmp_path / "lake")
    backfill(LOG, lake, plain, with_signals=False)
    from pipeline.tables import tables_of

    rows = rows_of(FeatureStage(NANO, catalogue_of(with_example())), LOG).to_arrow()
    table = tables_of(catalogue_of(with_example()))["features"]
    count = rows.num_rows
    arrays = {name: rows.column(name) for name in rows.column_names}
    from pipeline.lake import positioned

    lake.append(table, positioned(table, arrays, 1, 0, range(count)), {})
    with open_lake(tmp_path / "lake") as connection:
        found = connection.sql(
            "select topic_partition, count(*), count(pressure) from features group by all"
        ).fetchall()
    by_partition = {row[0]: row[1:] for row in found}
    assert by_partition[0][1] == 0
    assert by_partition[1][1] > 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("FEATURE = []", "defines no FEATURES"),
        ("FEATURES = [1]", "is no feature"),
        ("import nothing_of_that_name", "cannot be run: ModuleNotFoundError"),
        ("FEATURES = (", "cannot be run: SyntaxError"),
    ],
)
def test_a_file_that_does_not_fit_says_why(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        catalogue_of(load_settings(None, features=(path,)))
    assert said in str(error.value)


_HEAD = """
from features.declared.windowed import windowed
from features.feature import Feature
from features.kernel import kernel
from features.user_feature import UserFeature

def mine(update=lambda inputs, state: inputs[0], state_size=0, **changed):
    declared = {"name": "mine", "unit": "1", "formula": "f", "null_when": "never", "inputs": ("mid",)}
    return UserFeature(Feature(**(declared | {"implementation": "mine"} | changed)), update, state_size)

"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("FEATURES = mine()", "is no list"),
        ("FEATURES = 'mine'", "is no list"),
        ("FEATURES = [mine(name='my signal')]", "cannot name a column"),
        ("FEATURES = [mine(name='select more')]", "cannot name a column"),
        ("FEATURES = [mine(name='Mine')]", "cannot name a column"),
        ("FEATURES = [mine(inputs='mid')]", "are 'mid', not names of columns"),
        ("FEATURES = [mine(inputs=())]", "are (), not names of columns"),
        ("FEATURES = [mine(dtype='int64')]", "A feature of your own is a float64"),
        ("FEATURES = [mine(state_size=-1)]", "has the state_size -1"),
        ("FEATURES = [mine(3)]", "is 3, no function"),
        ("FEATURES = [mine(lambda inputs: 1.0)]", "fails when its inputs are unknown: TypeError"),
        ("FEATURES = [mine(lambda inputs, state: None)]", "fails when its inputs are unknown: TypeError"),
        ("FEATURES = [mine(lambda inputs, state: 'up')]", "fails when its inputs are unknown: ValueError"),
        ("FEATURES = [mine(lambda inputs, state: state[0])]", "fails when its inputs are unknown: IndexError"),
        ("FEATURES = [UserFeature('mine', lambda inputs, state: 1.0)]", "'mine' is no Feature"),
        ("FEATURES = [windowed('realised_variance', 60)]", "Did you mean 'realized_variance'?"),
        (
            "@kernel\ndef update(inputs, state):\n    return open('file')\nFEATURES = [mine(update)]",
            "fails when its inputs are unknown: TypingError",
        ),
    ],
)
def test_a_declaration_that_does_not_fit_says_why(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(_HEAD + text)
    with pytest.raises(ConfigError) as error:
        catalogue_of(load_settings(None, features=(path,)))
    assert said in str(error.value)
    assert str(path) in error.value.problem
    assert "\n" not in str(error.value)


def test_a_folder_that_was_moved_keeps_its_compiled_code(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "mine.py").write_text(EXAMPLE.read_text())
    code = (
        "import sys; from pathlib import Path; from pipeline.settings import load_settings; "
        "from pipeline.user_features import catalogue_of; "
        "print(catalogue_of(load_settings(None, features=(Path(sys.argv[1]),))).user[0].update.stats)"
    )
    run = [sys.executable, "-c", code]
    subprocess.run([*run, str(tmp_path / "here" / "mine.py")], check=True, cwd=ROOT, capture_output=True)
    (tmp_path / "here").rename(tmp_path / "there")
    found = subprocess.run(
        [*run, str(tmp_path / "there" / "mine.py")], check=True, cwd=ROOT, capture_output=True, text=True
    )
    assert "cache_misses=Counter())" in found.stdout


def test_a_file_that_is_missing_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no file of features"):
        catalogue_of(load_settings(None, features=(tmp_path / "gone.py",)))


def test_a_change_of_the_code_is_another_catalogue(tmp_path: Path) -> None:
    first, second = tmp_path / "a.py", tmp_path / "b.py"
    first.write_text(EXAMPLE.read_text())
    second.write_text(EXAMPLE.read_text().replace("1.0 / 20.0", "1.0 / 30.0"))
    hashes = {catalogue_of(load_settings(None, features=(path,))).hash for path in (first, second)}
    assert len(hashes | {STANDARD.hash}) == 3


def test_the_page_of_features_is_current() -> None:
    """`hedgeflow features document > docs/features.md` brings it up to date."""
    assert (ROOT / "docs" / "features.md").read_text() == feature_document(STANDARD)


def test_the_page_has_a_users_own_features() -> None:
    page = feature_document(catalogue_of(with_example()))
    assert "## Your own" in page
    assert "`pressure`" in page


def own_feature(tmp_path: Path, body: str) -> Path:
    path = tmp_path / "own.py"
    path.write_text(
        "import math\nfrom features.feature import Feature\nfrom features.user_feature import UserFeature\n"
        f"def update(inputs, state):\n    {body}\n"
        'FEATURES = [UserFeature(Feature("own", "1", "x", "never", ("mid",), "own.update"), update)]\n'
    )
    return path


def test_an_infinite_value_is_unknown(tmp_path: Path) -> None:
    path = own_feature(tmp_path, "return math.inf if inputs[0] > 0 else inputs[0]")
    frame = rows_of(FeatureStage(NANO, catalogue_of(load_settings(None, features=(path,)))), LOG)
    assert frame["mid"].drop_nulls().len() > 50
    assert frame["own"].null_count() == frame.height


def test_a_function_that_fails_on_a_row_says_which_and_why(tmp_path: Path) -> None:
    path = own_feature(tmp_path, "return 1.0 if math.isnan(inputs[0]) else {}[int(inputs[0])]")
    stage = FeatureStage(NANO, catalogue_of(load_settings(None, features=(path,))))
    with pytest.raises(ConfigError, match=r"Feature 'own' of test:\w+-\w+ failed on \[\d+\.\d+\]: KeyError"):
        rows_of(stage, LOG)
