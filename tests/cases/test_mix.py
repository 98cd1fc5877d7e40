"""`isoflop mix`: tables of mixtures as people have them, what is foretold, and refusals."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from tests.cases.conftest import Run
from tests.others_tables import write_table

SOURCES = ("prose", "code", "wiki")
# L of each source = c + exp(Σ t_j r_j), as in the data mixing law.
C = np.array([2.0, 0.8, 1.8])
T = np.array([[-1.2, 0.6, 0.1], [0.6, -1.6, 0.5], [0.2, 0.9, -1.1]])


def losses(shares: np.ndarray) -> np.ndarray:
    return C + np.exp(shares @ T.T)


def table_rows(rows: int = 40, noise: float = 0.002) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(3), rows).round(3)
    shares /= shares.sum(axis=1, keepdims=True)
    shares[:3] = np.eye(3)
    return shares, losses(shares) * np.exp(noise * rng.normal(size=(rows, 3)))


def written(path: Path, share: str = "share_{}", loss: str = "loss_{}", scale: float = 1) -> Path:
    shares, measured = table_rows()
    header = [share.format(name) for name in SOURCES] + [loss.format(name) for name in SOURCES]
    return write_table(path, header, np.hstack([scale * shares, measured]).tolist())


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return written(tmp_path / "mixtures.csv")


def document(run: Run, *arguments: object) -> dict:
    done = run("mix", *arguments, "--json", "-")
    assert done.status == 0, done.stderr
    return json.loads(done.stdout)


def test_the_best_shares_and_losses_of_points_are_those_of_the_law_behind_the_table(
    run: Run, table: Path, tmp_path: Path
) -> None:
    asked = np.array([[0.2, 0.3, 0.5], [0.0, 0.5, 0.5]])
    points = write_table(tmp_path / "points.csv", [f"share_{n}" for n in SOURCES], asked.tolist())
    answer = document(run, table, "--points", points)
    lattice = np.array([(i, j, 100 - i - j) for i in range(101) for j in range(101 - i)]) / 100
    best = lattice[losses(lattice).mean(axis=1).argmin()]
    found = np.array([answer["best"]["shares"][name] for name in SOURCES])
    # A flat valley: the loss is within 0.1 % of the least, and each share within 0.05.
    assert losses(found).mean() < losses(best).mean() * 1.001
    assert np.abs(found - best).max() < 0.05
    for name, share in zip(SOURCES, best, strict=True):
        interval = answer["best"]["intervals"][name]
        assert interval["lower"] - 0.01 <= share <= interval["upper"] + 0.01
    for point, true in zip(answer["points"], losses(asked), strict=True):
        for name, loss in zip(SOURCES, true, strict=True):
            assert point["loss"][name]["value"] == pytest.approx(loss, rel=0.005)
            assert point["loss"][name]["lower"] <= loss <= point["loss"][name]["upper"]
        assert point["pooled"]["value"] == pytest.approx(true.mean(), rel=0.005)
    assert answer["cross_validation"]["rank"] > 0.98
    assert answer["cross_validation"]["pooled_r2"] > 0.95
    assert answer["warnings"] == []


def test_families_of_columns_are_mapped_at_once_and_percentages_are_divided(
    run: Run, table: Path, tmp_path: Path
) -> None:
    others = written(tmp_path / "others.csv", "w_pile_{}", "metric/{}_val_loss", 100)
    mapping = ("--map", "share_=w_pile_", "--map", "loss_=metric/*_val_loss")
    assert run("mix", others).status == 2
    answer = document(run, others, *mapping)
    assert answer["best"]["shares"] == pytest.approx(document(run, table)["best"]["shares"])
    assert "sum to 100; each row was divided by its sum" in answer["notes"][0]


def test_a_target_and_a_stock_move_the_best_shares(run: Run, table: Path) -> None:
    code = document(run, table, "--target", "code")
    assert code["best"]["shares"]["code"] > 0.9
    both = document(run, table, "--target", "code=1,wiki=3")
    assert both["target"] == {"prose": 0, "code": 0.25, "wiki": 0.75}
    short = document(run, table, "--target", "code", "--stock", "code=5B", "--tokens", "50B")
    # 4 epochs of 5B tokens are 40 % of 50B.
    assert short["best"]["limits"] == {"code": 0.4}
    assert 0.35 < short["best"]["shares"]["code"] <= 0.4 + 1e-9
    # The best shares are compared with the best mixture that the stock allows, and not with more
    # code than there is.
    shares, measured = table_rows()
    place = SOURCES.index("code")
    allowed = measured[shares[:, place] <= 0.4, place].min()
    assert allowed > measured[:, place].min()
    stock = ("--target", "code", "--stock", "code=5B", "--tokens", "50B")
    said = " ".join(run("mix", table, *stock).stdout.split())
    assert f"The best mixture tried within the limits measured {allowed:.4g};" in said
    assert short["best"]["gain_over_best_tried"]["value"] > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--target", "cod"), "--target cod: the table has no loss of 'cod'. Did you mean 'code'?"),
        (("--target", "code=0"), "--target code=0"),
        (("--stock", "code=5B"), "--stock limits shares only at known tokens"),
        (("--stock", "books=5B", "--tokens", "1T"), "--stock books: the table has no source"),
        (("--stock", "code=1M,prose=1M,wiki=1M", "--tokens", "1T"), "--stock: all sources"),
        (("--stock", "code"), "--stock 'code' should read NAME=NUMBER"),
        (("--params", "1B"), "--params 1e+09: the table has one N"),
        (("--tokens", "many"), "--tokens 'many' should be a positive number"),
        (("--map", "share_=weight_"), "no column's name begins with 'weight_'"),
        (("--where", "share_code > 0.8"), "need 8 different mixtures or more"),
    ],
)
def test_unusable_options_are_refused_in_a_line_that_names_them(
    run: Run, table: Path, options: tuple[str, ...], words: str
) -> None:
    done = run("mix", table, *options)
    assert done.status == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("header", "bend", "words"),
    [
        ("share_code", lambda row: ["x", *row[1:]], "should hold numbers"),
        ("share_code", lambda row: [-0.1, *row[1:]], "is missing or negative"),
        ("share_code", lambda row: [float(row[0]) + 0.5, *row[1:]], "should sum to 1"),
        ("share_code", lambda row: [*row[:3], 0, *row[4:]], "is empty or not positive"),
        ("other", lambda row: row, "should sum to 1"),
    ],
)
def test_a_line_that_is_no_mixture_is_named(
    run: Run, table: Path, header: str, bend, words: str
) -> None:
    lines = list(csv.reader(table.read_text().splitlines()))
    lines[0][1] = header
    lines[6] = [str(cell) for cell in bend(lines[6])]
    table.write_text("\n".join(",".join(line) for line in lines) + "\n")
    done = run("mix", table)
    assert done.status == 2
    assert words in done.stderr
    assert "ine" in done.stderr.split(words)[1]
    assert "7" in done.stderr


def test_what_cannot_be_trusted_is_said_first(run: Run, tmp_path: Path) -> None:
    shares, measured = table_rows(24)
    rng = np.random.default_rng(1)
    header = [f"share_{n}" for n in SOURCES] + [f"loss_{n}" for n in SOURCES]
    noise = write_table(
        tmp_path / "noise.csv", header, np.hstack([shares, rng.permutation(measured)]).tolist()
    )
    done = run("mix", noise)
    assert done.status == 0, done.stderr
    assert done.stdout.startswith("NOT RELIABLE: ")
    # Mixtures with at most half of code; a point of code alone lies outside.
    rows = np.hstack([shares, measured])
    narrow = write_table(tmp_path / "narrow.csv", header, rows[shares[:, 1] < 0.5].tolist())
    point = write_table(tmp_path / "point.csv", header[:3], [(0, 1, 0)])
    done = run("mix", narrow, "--points", point)
    assert "point 1 lies outside the mixtures tried" in " ".join(done.stdout.split())
    assert done.stdout.startswith("WEAK: point 1")


def test_order_and_choice_are_compared_with_larger_models_at_their_own_loss_level(
    run: Run, tmp_path: Path
) -> None:
    header = [*(f"share_{n}" for n in SOURCES), *(f"loss_{n}" for n in SOURCES), "params"]
    shares, measured = table_rows()
    rng = np.random.default_rng(2)
    others = rng.dirichlet(np.ones(3), 24)
    # A larger model's losses are far lower, with the same order but for noise.
    theirs = (0.5 + 0.3 * losses(others)) * np.exp(0.0005 * rng.normal(size=others.shape))
    theirs[5, 1] = np.nan
    small = write_table(
        tmp_path / "small.csv", header, [[*row, 1e6] for row in np.hstack([shares, measured])]
    )
    rows = [[*row, 1e9] for row in np.hstack([others, theirs])]
    cells = [["" if np.isnan(cell) else cell for cell in row] for row in rows]
    answer = document(run, small, "--points", write_table(tmp_path / "large.csv", header, cells))
    assert min(answer["points_rank"].values()) > 0.95
    choice = answer["points_choice"]
    # The row without a loss of code has no target, and is not among those to choose from.
    assert choice["count"] == 23
    target = theirs.mean(axis=1)
    assert choice["least"] == pytest.approx(np.nanmin(target))
    assert choice["best"] == np.nanargmin(target)
    assert choice["loss"] == pytest.approx(target[choice["chosen"]])
    assert 0 <= choice["regret"] < 0.1 * (choice["mean"] - choice["least"])
    [warning] = answer["warnings"]
    assert "the points have N 1B, and every row of the table N 1M" in warning
    printed = run("mix", small, "--points", tmp_path / "large.csv").stdout
    assert printed.startswith("WEAK: the points have N 1B")
    words = " ".join(printed.split())
    assert "in the mean over 3 losses" in words
    assert f"the law chooses point {choice['chosen'] + 1}, which measured" in words
    # Losses that rise where the small ones fall: the order is seen not to carry over.
    turned = [[*row[:3], *(9 - cell for cell in row[3:6]), 1e9] for row in rows]
    turned[5] = turned[4]
    against = document(run, small, "--points", write_table(tmp_path / "b.csv", header, turned))
    assert max(against["points_rank"].values()) < -0.9
    assert against["points_choice"]["place"] > 12


def test_a_source_without_any_share_or_any_loss_is_named(run: Run, tmp_path: Path) -> None:
    shares, measured = table_rows(24)
    header = [*(f"share_{n}" for n in (*SOURCES, "books")), *(f"loss_{n}" for n in SOURCES[:2])]
    rows = np.column_stack([shares, np.zeros(24), measured[:, :2]])
    answer = document(run, write_table(tmp_path / "none.csv", header, rows.tolist()))
    assert answer["best"]["shares"]["books"] == 0
    [warning] = answer["warnings"]
    assert "no mixture tried has any of books" in warning
    [note] = answer["notes"]
    assert note.startswith("The table has no loss of wiki, books;")
    assert "are read by isoflop mix" in run("fit", tmp_path / "none.csv").stderr
